"""``python run.py`` as a process."""

import asyncio
import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.wire import TOKEN

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 30.0

Line = dict[str, Any]


class Ended(NamedTuple):
    """What a process left behind."""

    code: int
    stdout: str
    stderr: str


def environment(**overrides: str) -> dict[str, str]:
    """An environment with nothing of this process in it but what Python needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    ours = {
        "API_TOKEN": TOKEN,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "JOURNAL_URL": "memory://",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(ROOT),
    }
    return {name: text for name, text in (kept | ours | overrides).items() if text}


class Server:
    """A connector that was started: its log lines are in ``lines``, how many of each action in ``counts``."""

    keeps_lines_of_events = True

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._grown = asyncio.Condition()
        self._readers = [asyncio.create_task(self._read_stdout()), asyncio.create_task(self._read_stderr())]
        self.lines: list[Line] = []
        self.counts: Counter[str] = Counter()
        self.noise: list[str] = []
        self.stderr = ""
        self.port = 0

    @classmethod
    async def start(cls, cwd: Path, **overrides: str) -> Self:
        """Start one in ``cwd`` and return once it listens."""
        server = cls(await spawn(cwd, overrides))
        try:
            server.port = (await server.line("server.started"))["port"]
        except BaseException:
            await server.kill()
            raise
        return server

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def line(self, action: str, **fields: Any) -> Line:
        """The first log line with this action and these fields, awaited if it is not there yet."""
        wanted = {"action": action, **fields}
        seen = 0

        def found() -> bool:
            nonlocal seen
            while seen < len(self.lines) and not self.lines[seen].items() >= wanted.items():
                seen += 1
            return seen < len(self.lines)

        await self.until(found, wanted)
        return self.lines[seen]

    async def reached(self, action: str, count: int) -> None:
        """Return once there are ``count`` lines with this action."""
        await self.until(lambda: self.counts[action] >= count, f"{count} times {action}")

    async def until(self, found: Callable[[], bool], wanted: object = "what was waited for") -> None:
        """Return as soon as ``found()`` holds; asked again with each log line. ``wanted`` names it if it never does."""
        try:
            async with asyncio.timeout(TIMEOUT), self._grown:
                while not found():
                    if all(reader.done() for reader in self._readers):
                        raise AssertionError(f"the process ended without {wanted}: {self.stderr}")
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"no {wanted} among {len(self.lines)} lines: {self.lines[-3:]}") from None

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """The exit code, once the process has ended and all its lines are read."""
        async with asyncio.timeout(TIMEOUT):
            code = await self._process.wait()
            await asyncio.gather(*self._readers)
        return code

    async def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.send(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        """End the process whatever it is at."""
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()

    async def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            try:
                line = json.loads(raw)
                self.counts[line["action"]] += 1
                if self.keeps_lines_of_events or not line["action"].startswith("event."):
                    self.lines.append(line)
            except (ValueError, KeyError):
                self.noise.append(raw.decode(errors="replace"))
            async with self._grown:
                self._grown.notify_all()
        async with self._grown:
            self._grown.notify_all()

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            self.stderr += raw.decode(errors="replace")


@asynccontextmanager
async def running(cwd: Path, **overrides: str) -> AsyncIterator[Server]:
    """A connector that listens; killed at the end if it is still there. An empty text unsets a variable."""
    server = await Server.start(cwd, **overrides)
    try:
        yield server
    finally:
        await server.kill()


async def run_to_end(cwd: Path, **overrides: str) -> Ended:
    """Start a connector that is expected to end by itself."""
    process = await spawn(cwd, overrides)
    try:
        async with asyncio.timeout(TIMEOUT):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise AssertionError("the process did not end") from None
    assert process.returncode is not None
    return Ended(process.returncode, stdout.decode(), stderr.decode())


async def spawn(cwd: Path, overrides: dict[str, str], descriptors: int | None = None) -> asyncio.subprocess.Process:
    """``run.py`` in ``cwd``; ``descriptors``: as many as it may have."""

    def limit() -> None:
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "run.py"),
        cwd=cwd,
        env=environment(**overrides),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**24,
        preexec_fn=limit,
    )
