"""A part of the connector that ends by a fault of its own ends the process, so that it is started anew."""

import asyncio

import pytest

from connector.events.event import Event
from connector.journal.scheduler import Scheduler
from tests import events
from tests.serving import serving
from tests.wire import TIMEOUT, ask, post


@pytest.mark.parametrize("part", ["worker", "scheduler"])
async def test_a_part_that_has_failed_does_not_leave_a_connector_that_only_accepts(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Event:
        raise RuntimeError("a fault of the connector")

    async with serving() as (connector, port):
        lost = asyncio.ensure_future(connector.lost())
        if part == "worker":
            monkeypatch.setattr(connector.workers, "_handle", fail)
            assert (await ask(port, post(events.encode(events.minimal())))).status == 202
        else:
            monkeypatch.setattr(Scheduler, "wants", fail)
        async with asyncio.timeout(TIMEOUT):
            assert "RuntimeError" in await lost


async def test_a_part_that_was_cancelled_is_told_like_one_that_failed() -> None:
    async with serving() as (connector, _):
        lost = asyncio.ensure_future(connector.lost())
        await asyncio.sleep(0)
        connector.workers.tasks[-1].cancel()
        async with asyncio.timeout(TIMEOUT):
            assert "has failed: CancelledError" in await lost


async def test_a_stop_is_no_loss() -> None:
    async with serving() as (connector, _):
        lost = asyncio.ensure_future(connector.lost())
        await asyncio.sleep(0)
        lost.cancel()
        connector.stop_accepting()
        await connector.drain()
    assert lost.cancelled()
