"""Handlers that end the loop, the process or its parts: who waits gets an answer, and the process lives or ends."""

import asyncio
from pathlib import Path

import pytest

from connector.serve import EXIT_LOST
from tests import events
from tests.process import running
from tests.wire import ask, post

HANDLER = """
import asyncio, sys
from connector import Event, on


def interrupt():
    raise KeyboardInterrupt


def cancel(name):
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task() and name in ("", task.get_name()):
            task.cancel()


@on("*")
async def handler(event: Event) -> str:
    loop = asyncio.get_running_loop()
    match event.event_id:
        case "exits":
            loop.call_soon(sys.exit, 5)
        case "interrupts":
            loop.call_later(0.01, interrupt)
        case "stops the loop":
            loop.stop()
        case "cancels all":
            cancel("")
        case "cancels the journal":
            cancel("journal")
        case "cancels a worker":
            cancel("worker-1")
    await asyncio.sleep(0.05)
    return "worked"
"""
WITHIN = 10.0


def _event(event_id: str, i_account: int) -> bytes:
    return post(events.encode(events.of_subscriber(i_account, event_id, "SIM/Updated")))


@pytest.mark.parametrize("mode", ["accepted", "outcome"])
@pytest.mark.parametrize("kind", ["exits", "interrupts", "stops the loop"])
async def test_a_callback_of_a_handler_does_not_end_the_process(tmp_path: Path, kind: str, mode: str) -> None:
    (tmp_path / "ending.py").write_text(HANDLER)
    async with running(tmp_path, HANDLERS="ending", RESPONSE=mode) as server:
        assert (await ask(server.port, _event(kind, 1))).status == 202
        await server.line("handler.exit")
        assert (await ask(server.port, _event("next", 2))).status == 202
        await server.reached("event.processed", 2)
        assert await server.terminate() == 0
        assert server.stderr == ""
        assert server.counts["handler.exit"] == 1


@pytest.mark.parametrize("mode", ["accepted", "outcome"])
@pytest.mark.parametrize("kind", ["cancels all", "cancels the journal", "cancels a worker"])
async def test_a_part_that_a_handler_has_ended_ends_the_process_in_order(tmp_path: Path, kind: str, mode: str) -> None:
    (tmp_path / "ending.py").write_text(HANDLER)
    journal = f"sqlite:///{tmp_path}/journal.db"
    async with running(tmp_path, HANDLERS="ending", RESPONSE=mode, JOURNAL_URL=journal, MIN_FREE_DISK="0") as server:
        asking = asyncio.ensure_future(ask(server.port, _event(kind, 1)))
        async with asyncio.timeout(WITHIN):
            code = await server.ended()
        assert code == EXIT_LOST
        assert "Traceback" not in server.stderr
        assert server.counts["server.draining"] == 1
        if kind == "cancels all":  # the task of the request is one of them
            asking.cancel()
        else:
            assert (await asking).status == (503 if (mode, kind) == ("outcome", "cancels the journal") else 202)
