"""What surrounds the run of ``python run.py``: signals before it is up, descriptors that are closed, SIGHUP."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from connector.serve import ephemeral
from tests import events
from tests.integration.external.targets import standing
from tests.process import ROOT, TIMEOUT, environment, running
from tests.wire import ask, post


async def test_a_hang_up_stops_in_order_and_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.send(signal.SIGHUP)
        assert await server.ended() == 0
        assert (await server.line("server.draining"))["reason"] == "SIGHUP"


@pytest.mark.parametrize("command", [["run.py"], ["-m", "connector.serve"]])
async def test_closed_standard_descriptors_do_not_end_a_start_or_a_stop(tmp_path: Path, command: list[str]) -> None:
    arguments = [str(ROOT / command[0])] if command[0] == "run.py" else command
    line = f"exec {sys.executable} {' '.join(arguments)} <&- >&- 2>&-"
    marker = tmp_path / "marker.py"
    marker.write_text(
        "import pathlib, connector\n@connector.on('*')\nasync def f(event): ...\n"
        "@connector.on_start\nasync def up() -> None: pathlib.Path('up').touch()\n"
    )
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", line, cwd=tmp_path, env=environment(HANDLERS="marker", PYTHONPATH=f"{ROOT}:{tmp_path}")
    )
    async with asyncio.timeout(TIMEOUT):
        while not (tmp_path / "up").exists() and process.returncode is None:  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        process.terminate()
        assert await process.wait() == 0


def test_a_journal_that_does_not_last_is_noticed(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("overlay / overlay rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/sda /app/data ext4 rw 0 0\n")
    assert ephemeral(Path("/app/data/journal.db"), mounts) is None
    assert ephemeral(Path("/app/database/journal.db"), mounts) == "overlay"
    assert ephemeral(Path("/run/journal.db"), mounts) == "tmpfs"
    assert ephemeral(Path("/x"), tmp_path / "none") is None


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
async def test_the_health_check_asks_where_the_connector_listens(tmp_path: Path, host: str) -> None:
    async def check(port: int) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "connector", "health"),
            cwd=tmp_path,
            env=environment(HOST=host, PORT=str(port), HTTP_PROXY="http://127.0.0.1:9"),
        )
        return await asyncio.wait_for(process.wait(), TIMEOUT)

    async with running(tmp_path, HOST=host) as server:
        assert await check(server.port) == 0
        assert await server.terminate() == 0
    assert await check(server.port) == 1


async def test_the_health_check_does_not_fail_while_the_file_of_a_secret_is_being_replaced(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-token-0123456789")
    async with running(tmp_path, API_TOKEN="", API_TOKEN_FILE=str(file)) as server:
        file.unlink()
        settings = environment(API_TOKEN="", API_TOKEN_FILE=str(file), PORT=str(server.port))
        command = [sys.executable, "-m", "connector", "health"]
        process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=settings)
        assert await asyncio.wait_for(process.wait(), TIMEOUT) == 0


async def test_tokens_are_rotated_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first-token-0123456789")
    body = events.encode(events.minimal())
    async with running(tmp_path, API_TOKEN="", API_TOKEN_FILE=str(file)) as server:
        assert (await ask(server.port, post(body, token="first-token-0123456789"))).status == 202
        file.write_text("")
        server.send(signal.SIGHUP)
        await server.line("settings.refused")
        assert (await ask(server.port, post(body, token="first-token-0123456789"))).status == 202
        file.write_text("second-token-012345678")
        server.send(signal.SIGHUP)
        await server.line("settings.reread")
        assert (await ask(server.port, post(body, token="second-token-012345678"))).status == 202
        assert (await ask(server.port, post(body, token="first-token-0123456789"))).status == 401


async def test_secrets_in_files_that_change_are_taken_without_a_signal(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text("first-token-0123456789")
    theirs.write_text("old-credential")
    async with standing() as target:
        settings = {
            "API_TOKEN": "",
            "API_TOKEN_FILE": str(ours),
            "HANDLERS": "connector.handlers.forward",
            "TARGET_URL": target.url,
            "TARGET_AUTH": "bearer",
            "TARGET_TOKEN_FILE": str(theirs),
        }
        async with running(tmp_path, **settings) as server:
            for number, (token, credential) in enumerate([("first", "old"), ("second", "new")]):
                ours.write_text(f"{token}-token-0123456789")
                theirs.write_text(f"{credential}-credential")
                if number:
                    changed = (await server.line("settings.reread"))["changed"]
                    assert changed == ["API_TOKEN", "credentials of target"]
                body = events.encode(events.of_subscriber(1, f"rotated-{number}"))
                assert (await ask(server.port, post(body, token=f"{token}-token-0123456789"))).status == 202
                await server.reached("event.processed", number + 1)
                assert target.seen[-1].headers["Authorization"] == f"Bearer {credential}-credential"
            assert (await ask(server.port, post(body, token="first-token-0123456789"))).status == 401
