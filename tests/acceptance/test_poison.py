"""An event that ends the process, on the real process: it dies at last, and its neighbours do not pay for it."""

import signal
from pathlib import Path

import pytest

from connector.delivery.crashes import Crashes
from tests import events
from tests.conftest import Lines
from tests.process import run_to_end, running
from tests.wire import ask, connect, post

TEXT = """
import asyncio, os, signal
from connector import Event, on

@on("*")
async def handle(event: Event) -> str:
    await asyncio.sleep(0.2)
    if event.event_id == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    with open("handled", "a") as file:
        print(event.event_id, file=file)
    return "done"
"""

SETTINGS = {"HANDLERS": "partner", "JOURNAL_URL": "sqlite:///journal.db", "WORKERS": "4"}


async def test_event_that_ends_the_process_is_dead_after_three_deaths_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "partner.py").write_text(TEXT)
    names = ["healthy0", "healthy1", "poison", *(f"healthy{number}" for number in range(2, 10))]
    async with running(tmp_path, **SETTINGS) as server:
        bodies = [post(events.encode(events.of_subscriber(number, name))) for number, name in enumerate(names)]
        async with connect(server.port) as wire:
            await wire.send(b"".join(bodies))
            await server.ended()
    for _ in range(2):
        assert (await run_to_end(tmp_path, **SETTINGS)).code == -signal.SIGKILL
    async with running(tmp_path, **SETTINGS) as server:
        dead = await server.line("event.dead", event_id="poison")
        assert dead["reason"] == "the process died 3 times while this ran"
        for body in [*bodies[:2], *bodies[3:]]:  # the first death may have caught some before they were kept
            assert (await ask(server.port, body)).status == 202
        handled = tmp_path / "handled"
        await server.until(lambda: {*names} - {"poison"} <= {*handled.read_text().split()}, "all others handled")
        assert await server.terminate() == 0
    async with running(tmp_path, **SETTINGS) as server:
        assert await server.terminate() == 0
        assert "server.died" not in server.counts


def test_what_ran_when_the_process_died_is_counted_and_forgotten_once_it_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "journal.db-running"
    for times in range(3):
        crashes = Crashes(path, 4 - times)  # another number of workers is another file
        crashes.open()
        assert (crashes.deaths(7), crashes.deaths(8)) == (times, 0)
        crashes.begin(0, 7)
        crashes.begin(1, 8)
        crashes.end(1, 8)
    assert path.stat().st_mode & 0o777 == 0o600
    crashes = Crashes(path, 4)
    crashes.open()
    assert crashes.deaths(7) == 3
    crashes.begin(0, 7)
    crashes.end(0, 7)
    crashes.close()
    crashes = Crashes(path, 4)
    crashes.open()
    assert crashes.deaths(7) == 0
    crashes.close()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"nspsrun1", b"nspsrun1" + b"\xff" * 8, b"x" * 9999])
def test_file_of_what_ran_that_is_damaged_blames_nobody(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "running"
    path.write_bytes(content)
    crashes = Crashes(path, 4)
    crashes.open()
    assert crashes.deaths(1) == 0
    crashes.begin(3, 1)
    crashes.close()


def test_file_of_what_runs_that_cannot_be_written_is_said(tmp_path: Path, log_lines: Lines) -> None:
    (tmp_path / "running").symlink_to(tmp_path / "elsewhere")
    crashes = Crashes(tmp_path / "running", 4)
    crashes.open()
    crashes.begin(0, 1)
    crashes.close()
    assert [line["action"] for line in log_lines()] == ["crashes.unavailable"]
    assert not (tmp_path / "elsewhere").exists()
