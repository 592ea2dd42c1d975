"""Before the first line of ``main``: a signal during the imports, and the duties of process 1 of a container."""

import asyncio
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests import events
from tests.process import ROOT, TIMEOUT, Server, environment
from tests.wire import ask, post

COMMANDS = {
    "run.py": [str(ROOT / "run.py")],
    "serve": ["-m", "connector", "serve"],
    "module": ["-m", "connector.serve"],
}
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]

SLOW_IMPORT = "import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(60)\n"

HANDLER = """
import asyncio, connector

@connector.on("*")
async def leaves_an_orphan(event):
    child = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.2 & exit 7")
    return f"exit code {await child.wait()}"
"""


def _may_be_process_one() -> bool:
    return (
        shutil.which("unshare") is not None and not subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode
    )


as_process_one = pytest.mark.skipif(not _may_be_process_one(), reason="no right to make a PID namespace")


async def until(found: Callable[[], object]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not found():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)


@asynccontextmanager
async def started(*command: str, cwd: Path, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=environment(PYTHONPATH=f"{cwd}:{ROOT}", **settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            for each in psutil.Process(process.pid).children(recursive=True)[::-1]:
                each.kill()
            process.kill()
            await process.wait()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_a_signal_during_the_imports_ends_the_process_with_0(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "jmespath.py").write_text(SLOW_IMPORT)
    async with started(sys.executable, *command, cwd=tmp_path) as process:
        await until((tmp_path / "importing").exists)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), TIMEOUT) == 0


@as_process_one
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
async def test_process_one_does_not_miss_a_signal_during_the_imports(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "jmespath.py").write_text(SLOW_IMPORT)
    async with started(*NAMESPACE, sys.executable, *command, cwd=tmp_path) as process:
        await until((tmp_path / "importing").exists)
        psutil.Process(process.pid).children()[0].terminate()
        assert await asyncio.wait_for(process.wait(), TIMEOUT) == 0


@as_process_one
async def test_process_one_waits_for_orphans_and_takes_no_exit_code_of_a_handlers_child(tmp_path: Path) -> None:
    (tmp_path / "marker.py").write_text(HANDLER)
    command = [*NAMESPACE, sys.executable, str(ROOT / "run.py")]
    async with started(*command, cwd=tmp_path, HANDLERS="marker") as process:
        server = Server(process)
        server.port = (await server.line("server.started"))["port"]
        for number in range(5):
            body = events.encode(events.of_subscriber(number, f"orphan-{number}"))
            assert (await ask(server.port, post(body))).status == 202
        await server.reached("event.processed", 5)
        said = [line["message"] for line in server.lines if line["action"] == "event.processed"]
        assert all("exit code 7" in message for message in said), said

        (one,) = psutil.Process(process.pid).children()
        await until(lambda: len(one.children()) == 1)  # the connector alone: each orphan was waited for
        one.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
        assert server.counts["server.stopped"] == 1


@as_process_one
async def test_process_one_ends_with_the_exit_code_of_the_connector(tmp_path: Path) -> None:
    async with started(*NAMESPACE, sys.executable, str(ROOT / "run.py"), cwd=tmp_path, PORT="none") as process:
        assert await asyncio.wait_for(process.wait(), TIMEOUT) == 2
