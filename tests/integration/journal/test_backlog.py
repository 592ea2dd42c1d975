"""A backlog larger than memory: fed in order, nothing forgotten, nothing overtaken; also over restarts and faults."""

import asyncio
import random
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from connector.errors import Unavailable
from connector.events.event import Event
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.lanes import LOOK_AHEAD, Lanes
from connector.journal.memory import MemoryJournal
from connector.journal.sqlite import file
from connector.outcome import Outcome
from tests.journal_support.engines import DONE, TIMEOUT, Clock, sqlite_store, waiting
from tests.journal_support.events import event

QUEUE = 50


class Line:
    """Journal and lanes, and tasks that take events and settle them with what ``judge`` says."""

    def __init__(self, path: Path, judge: Callable[[Event], Outcome] = lambda _: DONE) -> None:
        self.clock = Clock()
        self.journal = GroupCommitJournal(sqlite_store(path, self.clock), 10**6)
        self.lanes = Lanes(self.journal, QUEUE, self.clock)
        self.judge = judge
        self.taken: list[str] = []
        self.running: set[str] = set()
        self.most_loaded = 0
        self._tasks: list[asyncio.Task[None]] = []

    def work(self) -> None:
        """Begin to take events."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(4)]

    async def stop(self) -> None:
        """Take no more and close the journal; what was settled is noted."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.lanes.stop()
        await self.journal.close()

    async def emptied(self) -> None:
        """Return when nothing is open that could be run."""
        async with asyncio.timeout(30):
            await self.lanes.join()

    async def _work(self) -> None:
        while True:
            each = await self.lanes.take()
            assert each.lane not in self.running, "two events of a lane at a time"
            self.running.add(each.lane)
            self.most_loaded = max(self.most_loaded, self.lanes.loaded)
            await asyncio.sleep(0)
            self.taken.append(each.event_id)
            self.running.discard(each.lane)
            self.journal.settle(each, self.judge(each))


@asynccontextmanager
async def _line(path: Path, judge: Callable[[Event], Outcome] = lambda _: DONE) -> AsyncIterator[Line]:
    line = Line(path, judge)
    await line.lanes.start()
    try:
        yield line
    finally:
        await line.stop()


@pytest.fixture
def path(memory_disk: Path) -> Path:
    return memory_disk / "journal.db"


def _in_order(taken: list[str], lane_of: dict[str, str], sent: list[str]) -> bool:
    """Whether the events of each lane were taken in the order in which they were sent."""
    taken_by_lane, sent_by_lane = defaultdict(list), defaultdict(list)
    for event_id in taken:
        taken_by_lane[lane_of[event_id]].append(event_id)
    for event_id in sent:
        sent_by_lane[lane_of[event_id]].append(event_id)
    return taken_by_lane == sent_by_lane


def _events(count: int, lanes: int) -> list[Event]:
    chance = random.Random(count + lanes)
    return [event(lane=f"lane:{chance.randrange(lanes)}") for _ in range(count)]


@pytest.mark.parametrize("lanes", [1, 3, 40, 2000])
async def test_backlog_is_fed_whole_and_in_order_while_new_events_arrive(path: Path, lanes: int) -> None:
    events = _events(3000, lanes)
    lane_of = {each.event_id: each.lane for each in events}
    async with _line(path) as line:
        await asyncio.gather(*(line.journal.append(each) for each in events[:1500]))
        assert line.lanes.loaded <= QUEUE
        line.work()
        for start in range(1500, 3000, 100):
            await asyncio.gather(*(line.journal.append(each) for each in events[start : start + 100]))
        await line.emptied()
        assert _in_order(line.taken, lane_of, [each.event_id for each in events])
        assert line.most_loaded <= QUEUE + 64 * LOOK_AHEAD
        assert line.journal.size == 0


@pytest.mark.parametrize("lanes", [2, 40, 2000])
async def test_backlog_goes_on_in_order_after_restarts_and_before_new_events(path: Path, lanes: int) -> None:
    events = _events(3000, lanes)
    lane_of = {each.event_id: each.lane for each in events}
    taken: list[str] = []
    async with _line(path) as line:
        await asyncio.gather(*(line.journal.append(each) for each in events[:1000]))
    for start in (1000, 2000):
        async with _line(path) as line:
            line.work()
            await asyncio.gather(*(line.journal.append(each) for each in events[start : start + 500]))
        taken += line.taken
        async with _line(path) as line:
            await asyncio.gather(*(line.journal.append(each) for each in events[start + 500 : start + 1000]))
    async with _line(path) as line:
        line.work()
        await line.emptied()
        assert line.journal.size == 0
    assert _in_order(taken + line.taken, lane_of, [each.event_id for each in events])


async def test_lanes_that_wait_for_a_retry_do_not_hold_up_or_lose_others(path: Path) -> None:
    events = _events(2000, 60)
    lane_of = {each.event_id: each.lane for each in events}
    failed: set[str] = set()

    def judge(each: Event) -> Outcome:
        if each.attempt == 1 and int(each.lane.removeprefix("lane:")) < 30:
            failed.add(each.event_id)
            return waiting(line.clock.now)
        return DONE

    async with _line(path, judge) as line:
        line.work()
        for start in range(0, 2000, 250):
            await asyncio.gather(*(line.journal.append(each) for each in events[start : start + 250]))
        async with asyncio.timeout(30):
            while line.journal.size:
                await line.emptied()
                await asyncio.sleep(0.001)
    assert failed
    again: set[str] = set()
    taken = [each for each in line.taken if each not in failed or each in again or again.add(each)]  # type: ignore[func-returns-value]
    assert _in_order(taken, lane_of, [each.event_id for each in events])


class Slow(MemoryJournal):
    """A journal that looks for due events only when it is let."""

    def __init__(self) -> None:
        super().__init__(100)
        self.asked, self.let = asyncio.Event(), asyncio.Event()

    async def claim_due(self, now: float, limit: int) -> tuple[Sequence[str], float | None]:
        self.asked.set()
        await self.let.wait()
        return await super().claim_due(now, limit)


async def test_retry_noted_while_others_are_claimed_does_not_keep_later_ones_asleep() -> None:
    clock, journal = Clock(), Slow()
    lanes = Lanes(journal, QUEUE, clock)
    await lanes.start()
    try:
        async with asyncio.timeout(TIMEOUT):
            await journal.append(event(lane="lane:1"))
            await journal.append(event(lane="lane:2"))
            first, second = await lanes.take(), await lanes.take()
            journal.settle(first, waiting(clock.now))
            await journal.asked.wait()
            journal.settle(second, waiting(clock.now))
            await asyncio.sleep(0.01)  # the timer of the second one is over before the claim, which takes both
            journal.let.set()
            first, second = await lanes.take(), await lanes.take()
            await asyncio.sleep(0.01)
            journal.settle(first, DONE)
            journal.settle(second, waiting(clock.now))
            assert (await lanes.take()).attempt == 3
    finally:
        await lanes.stop()


async def test_lane_that_could_not_be_read_during_a_fault_is_read_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.0)
    events = _events(200, 1)
    async with _line(path) as line:
        read_lanes, faults = line.journal.read_lanes, 0

        async def fault_first(*arguments: Any) -> Any:
            nonlocal faults
            if not faults:
                faults += 1
                with sqlite3.connect(path, isolation_level=None) as other:
                    other.execute("BEGIN IMMEDIATE")
                    with pytest.raises(Unavailable):
                        await read_lanes(*arguments)
                other.close()
                raise Unavailable
            return await read_lanes(*arguments)

        monkeypatch.setattr(line.journal, "read_lanes", fault_first)
        await asyncio.gather(*(line.journal.append(each) for each in events))
        line.work()
        await line.emptied()
        assert (faults, line.journal.size) == (1, 0)
    assert line.taken == [each.event_id for each in events]
