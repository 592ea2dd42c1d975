"""``python run.py`` as a process with a journal, for tests that end it in every way."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "made-up-token"
TIMEOUT = 30.0

Line = dict[str, Any]


class Handled(NamedTuple):
    """A line of the file that the tests' handlers write."""

    process: int
    lane: str
    event_id: str


def handled(path: Path) -> list[Handled]:
    """What was handled up to now, in order."""
    if not path.exists():
        return []
    lines = (line.split(" ") for line in path.read_text().splitlines())
    return [Handled(int(process), lane, event_id) for process, lane, event_id in lines]


def environment(journal: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a connector with this journal is started with."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    ours = {
        "API_TOKEN": TOKEN,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "JOURNAL_URL": f"sqlite:///{journal}",
        "MIN_FREE_DISK": "0",
        "HANDLERS": "tests.journal_support.handling",
        "HANDLED": str(journal.parent.parent / "handled"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return kept | ours | dict(extra or {})


class Running:
    """A connector that was started. Its log lines, but those about single events, are in ``lines``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._news = asyncio.Condition()
        self.lines: list[Line] = []
        self.processed = 0
        self._readers = [asyncio.create_task(self._read_log()), asyncio.create_task(self._read_errors())]
        self.stderr = ""
        self.port = 0

    @classmethod
    async def start(cls, journal: Path, extra: Mapping[str, str] | None = None) -> Self:
        """Start one; it may not come up, see ``listening``."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "run.py"),
            cwd=journal.parent,
            env=environment(journal, extra),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**22,
        )
        return cls(process)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def listening(self) -> None:
        """Return when it listens."""
        self.port = (await self.line("server.started"))["port"]

    async def line(self, action: str) -> Line:
        """The first log line with this action, as soon as it is there."""
        found: list[Line] = []

        def look() -> bool:
            found[:] = [line for line in self.lines if line["action"] == action]
            return bool(found)

        await self.until(look)
        return found[0]

    async def until(self, there: Callable[[], bool]) -> None:
        """Return as soon as ``there`` holds; asked again with every log line."""
        async with asyncio.timeout(TIMEOUT), self._news:
            while not there():
                if self._readers[0].done():
                    raise AssertionError(f"the process has ended: {self.stderr}")
                await self._news.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """The exit code, as soon as it has ended."""
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(*self._readers)
            return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        if self._process.returncode is None:
            self._process.kill()
        await self.ended()

    async def _read_log(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            if b'"action":"event.' not in raw:
                self.lines.append(json.loads(raw))
            elif b'"action":"event.processed"' in raw:
                self.processed += 1
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self.stderr = (await self._process.stderr.read()).decode()


@asynccontextmanager
async def running(journal: Path, extra: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """A connector that listens; killed at the end if it is still there."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    connector = await Running.start(journal, extra)
    try:
        await connector.listening()
        yield connector
    finally:
        await connector.kill()


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A session with the token."""
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {TOKEN}"}, timeout=aiohttp.ClientTimeout(TIMEOUT)
    ) as session:
        yield session


async def post(session: aiohttp.ClientSession, connector: Running, body: bytes) -> int:
    """Post an event; the status of the answer."""
    async with session.post(f"{connector.url}/process-event", data=body) as answer:
        await answer.read()
        return answer.status


async def ready(session: aiohttp.ClientSession, connector: Running) -> int:
    """The status of ``/ready``."""
    async with session.get(f"{connector.url}/ready") as answer:
        return answer.status
