"""Operator's commands and handlers beside real processes."""

import asyncio
import json
import re
import signal
import sys
from pathlib import Path

import pytest

from tests import events
from tests.process import Ended, Server, environment, run_to_end, running
from tests.wire import ask, post

HANDLERS = """
import asyncio, os, time
from connector import DeadLetter, Event, on

@on("Test/Fixable", max_attempts=1)
async def fixable(event: Event) -> None:
    if not os.path.exists("repaired"):
        raise ValueError("not repaired yet")

@on("Test/Clings")
async def clings(event: Event) -> None:
    event.log.info("clings")
    while True:
        try:
            await asyncio.sleep(1000)
        except BaseException:
            pass

@on("Test/HangsInThread")
def hangs(event: Event) -> None:
    event.log.info("hangs")
    time.sleep(1000)

@on("Test/Exits")
async def exits(event: Event) -> None:
    raise SystemExit(3)

@on("*", require=["pb_data.sim_info.imsi"])
async def rest(event: Event) -> None:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "made_up_connector.py").write_text(HANDLERS)
    return tmp_path


SETTINGS = {"HANDLERS": "made_up_connector", "JOURNAL_URL": "sqlite:///journal.db", "MIN_FREE_DISK": "0"}


async def cli(cwd: Path, *arguments: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connector", *arguments,
        cwd=cwd, env=environment(**SETTINGS), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, stdout.decode(), stderr.decode())


async def send(server: Server, event_id: str, event_type: str, i_account: int = 1) -> int:
    body = events.encode(events.of_subscriber(i_account, event_id, event_type))
    return (await ask(server.port, post(body))).status


async def test_every_command_works_beside_a_running_connector_and_on_a_stopped_one(folder: Path) -> None:
    async with running(folder, **SETTINGS, ON_DEAD="hold") as server:
        assert await send(server, "one", "Test/Fixable") == 202
        assert await send(server, "two", "Test/Fixable") == 202
        await server.line("event.dead", event_id="one")
        (blocked,) = [json.loads(line) for line in (await cli(folder, "lanes", "--json")).stdout.splitlines()]
        assert (blocked["event_id"], blocked["state"], blocked["behind"]) == ("one", "held", 1)
        assert (await cli(folder, "pause")).stdout == "delivery: paused\n"
        assert (await cli(folder, "lanes", "skip", "i_account:1")).stdout == "i_account:1: skipped\n"
        assert await send(server, "three", "Test/Fixable", 3) == 202
        listed = await cli(folder, "events", "list", "--json")
        assert [json.loads(line)["state"] for line in listed.stdout.splitlines()] == ["pending", "pending", "dead"]
        assert await server.terminate() == 0
    assert json.loads((await cli(folder, "stats", "--json")).stdout)["paused"] is True
    (folder / "repaired").touch()
    async with running(folder, **SETTINGS, ON_DEAD="hold") as server:
        assert await send(server, "four", "Test/Fixable", 4) == 202
        assert not server.counts["event.processed"]
        assert (await cli(folder, "resume")).stdout == "delivery: resumed\n"
        for name in ("two", "three", "four"):
            await server.line("event.processed", event_id=name)
        assert (await cli(folder, "replay", "--state", "dead")).stdout == "one: replayed\n"
        await server.line("event.processed", event_id="one")
        shown = json.loads((await cli(folder, "events", "show", "one", "--json")).stdout)
        assert [series["state"] for series in shown["series"]] == ["done", "dead"]
        assert (await cli(folder, "discard", "one")).stdout == "one: ended well already\n"
        assert await server.terminate() == 0
    assert (await cli(folder, "replay", "one")).stdout == "one: replayed\n"
    async with running(folder, **SETTINGS) as server:
        await server.line("event.processed", event_id="one")


@pytest.mark.parametrize("event_type", ["Test/Clings", "Test/HangsInThread"])
async def test_handler_that_cannot_be_ended_does_not_hold_up_the_stop(folder: Path, event_type: str) -> None:
    async with running(folder, **SETTINGS, DRAIN_TIMEOUT="100ms") as server:
        assert await send(server, "one", event_type) == 202
        await server.line("handler.log", event_id="one")
        server.send(signal.SIGTERM)
        assert await server.ended() == 0
        assert (await server.line("server.drained"))["cut_off"] == 1
        assert server.lines[-1]["action"] == "server.stopped"
    listed = json.loads((await cli(folder, "events", "list", "--json")).stdout)
    assert (listed["state"], listed["attempts"]) == ("pending", 0)


async def test_handler_that_wants_to_end_the_process_fails_its_event_only(folder: Path) -> None:
    async with running(folder, **SETTINGS) as server:
        assert await send(server, "one", "Test/Exits") == 202
        reason = (await server.line("event.retrying", event_id="one"))["reason"]
        assert re.fullmatch(r"SystemExit: 3 \(made_up_connector\.py:\d+\)", reason)
        assert await send(server, "two", "Test/Fixable", 2) == 202


async def test_event_without_a_field_that_its_handler_needs_is_refused_before_202(folder: Path) -> None:
    async with running(folder, **SETTINGS) as server:
        body = events.encode(events.of_subscriber(1, "one", "Other/Type"))
        answer = await ask(server.port, post(body))
        assert answer.status == 422
        assert [detail["loc"] for detail in answer.json()["details"]] == [["pb_data", "sim_info", "imsi"]]
        assert await send(server, "two", "Test/Fixable") == 202


async def test_module_that_ends_the_process_as_it_is_imported_is_a_failed_start(tmp_path: Path) -> None:
    (tmp_path / "quits.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "lists.py").write_text("from connector import on\n@on(['A', 'B'])\ndef f(event): pass\n")
    ended = await run_to_end(tmp_path, HANDLERS="quits,lists,no_such_module")
    assert ended.code == 2
    assert {line.split()[3].rstrip(":") for line in ended.stderr.splitlines()} == {"quits", "lists.f", "no_such_module"}
    assert "Traceback" not in ended.stderr
