"""A backlog larger than memory: fed in order, nothing forgotten, nothing overtaken; also over restarts and faults."""

import asyncio
import random
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connector.events.event import Event
from connector.journal import Entry
from connector.journal import group_commit as group
from connector.journal.commands import Command
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.sqlite import file
from connector.outcome import Outcome
from tests import events
from tests.journal_support.engines import DONE, Clock, sqlite_store, waiting
from tests.journal_support.events import event
from tests.serving import serving
from tests.wire import ask, post

QUEUE = 50


class Line:
    """A journal, and tasks that take events and settle them with what ``judge`` says."""

    def __init__(self, path: Path, judge: Callable[[Entry], Outcome] = lambda _: DONE) -> None:
        self.clock = Clock()
        store = sqlite_store(path, self.clock)
        self.journal = GroupCommitJournal(store, capacity=10**6, queue_size=QUEUE, clock=self.clock)
        self.judge = judge
        self.taken: list[str] = []
        self.running: set[str] = set()
        self.most_in_memory = 0
        self._tasks: list[asyncio.Task[None]] = []

    def work(self) -> None:
        """Begin to take events."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(4)]

    async def keep(self, events: Sequence[Event]) -> None:
        """Keep events at the same time."""
        await asyncio.gather(*(self.journal.keep(each) for each in events))
        self.most_in_memory = max(self.most_in_memory, self.journal.in_memory)

    async def stop(self) -> None:
        """Take no more and close the journal; what was settled is noted."""
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.journal.close()
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends

    async def emptied(self) -> None:
        """Return when nothing is open that could be run."""
        async with asyncio.timeout(30):
            await self.journal.join()

    async def _work(self) -> None:
        while True:
            entry = await self.journal.take()
            resources = set(entry.event.resources)
            assert self.running.isdisjoint(resources), "two events of a resource at a time"
            self.running |= resources
            self.most_in_memory = max(self.most_in_memory, self.journal.in_memory)
            await asyncio.sleep(0)
            self.taken.append(entry.event.event_id)
            self.running -= resources
            self.journal.settle(entry, self.judge(entry))


@asynccontextmanager
async def _line(path: Path, judge: Callable[[Entry], Outcome] = lambda _: DONE) -> AsyncIterator[Line]:
    line = Line(path, judge)
    await line.journal.open(lambda *_: None)
    try:
        yield line
    finally:
        await line.stop()


@pytest.fixture
def path(memory_disk: Path) -> Path:
    return memory_disk / "journal.db"


def _by_resource(event_ids: Sequence[str], events: Sequence[Event]) -> dict[str, list[str]]:
    """The ids of each resource, in the order in which they are given."""
    found, resources = defaultdict(list), {each.event_id: each.resources for each in events}
    for event_id in event_ids:
        for resource in resources[event_id]:
            found[resource].append(event_id)
    return found


def _in_order(taken: Sequence[str], events: Sequence[Event]) -> bool:
    """Whether the events of each resource were taken in the order in which they were sent, each of them once."""
    return _by_resource(taken, events) == _by_resource([each.event_id for each in events], events)


def _events(count: int, lanes: int) -> list[Event]:
    """Events that touch one to three of so many resources."""
    chance = random.Random(count + lanes)
    touched = (chance.sample(range(lanes), min(lanes, chance.choice([1, 1, 2, 3]))) for _ in range(count))
    return [event(resources=[f"lane:{number}" for number in numbers]) for numbers in touched]


@pytest.mark.parametrize("lanes", [1, 3, 40, 2000])
async def test_backlog_is_fed_whole_and_in_order_while_new_events_arrive(path: Path, lanes: int) -> None:
    events = _events(3000, lanes)
    async with _line(path) as line:
        await line.keep(events[:1500])
        line.work()
        for start in range(1500, 3000, 100):
            await line.keep(events[start : start + 100])
        await line.emptied()
        assert _in_order(line.taken, events)
        assert line.most_in_memory <= QUEUE
        assert line.journal.size == 0


@pytest.mark.parametrize("lanes", [2, 40, 2000])
async def test_backlog_goes_on_in_order_after_restarts_and_before_new_events(path: Path, lanes: int) -> None:
    events = _events(3000, lanes)
    taken: list[str] = []
    async with _line(path) as line:
        await line.keep(events[:1000])
    for start in (1000, 2000):
        async with _line(path) as line:
            line.work()
            await line.keep(events[start : start + 500])
        taken += line.taken
        async with _line(path) as line:
            await line.keep(events[start + 500 : start + 1000])
    async with _line(path) as line:
        line.work()
        await line.emptied()
        assert line.journal.size == 0
    assert _in_order(taken + line.taken, events)


async def test_lanes_that_wait_for_a_retry_do_not_hold_up_or_lose_others(path: Path) -> None:
    events = _events(2000, 60)
    failed: set[str] = set()

    def judge(entry: Entry) -> Outcome:
        if entry.attempt == 1 and int(entry.event.lane.removeprefix("lane:")) < 30:
            failed.add(entry.event.event_id)
            return waiting(line.clock.now)
        return DONE

    async with _line(path, judge) as line:
        line.work()
        for start in range(0, 2000, 250):
            await line.keep(events[start : start + 250])
        await line.emptied()
        assert line.journal.size == 0
    assert failed
    assert len(line.taken) == len(events) + len(failed)
    last = {event_id: place for place, event_id in enumerate(line.taken)}
    assert _in_order(sorted(last, key=last.__getitem__), events)


async def test_lane_that_could_not_be_read_during_a_fault_is_read_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(group, "PROBE_INTERVAL", 0.01)
    events = _events(200, 1)
    async with _line(path) as line:
        await line.keep(events)
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            line.work()
            async with asyncio.timeout(30):
                while line.journal.failure is None:
                    await line.journal.flush()
            other.execute("ROLLBACK")
        other.close()
        await line.emptied()
        assert line.journal.size == 0
    assert line.taken == [each.event_id for each in events]


async def test_backlog_is_bounded_in_bytes_over_commands_and_restarts(tmp_path: Path) -> None:
    url = {"JOURNAL_URL": f"sqlite:///{tmp_path / 'journal.db'}", "HANDLERS": "tests.handlers", "DRAIN_TIMEOUT": "0"}
    bound = {"MAX_BACKLOG_BYTES": "50k"}

    async def send(port: int, event_id: str) -> int:
        body = events.encode(events.minimal("Test/Hold", event_id=event_id, padding="x" * 20_000))
        return (await ask(port, post(body))).status

    async with serving(**url, **bound) as (connector, port):
        assert [await send(port, each) for each in ("a", "b", "c")] == [202, 202, 429]
        await connector.journal.command(Command("discard", ["a"]))
        assert [await send(port, each) for each in ("c", "d")] == [202, 429]
    async with serving(**url, **bound) as (connector, port):
        assert [await send(port, each) for each in ("d", "b")] == [429, 429]
        await connector.journal.command(Command("discard", ["b", "c"]))
        await connector.journal.command(Command("replay", ["a", "b", "c"]))  # an operator's own wish is not refused
        assert await send(port, "d") == 429
        await connector.journal.command(Command("discard", ["a", "b", "c"]))
        assert [await send(port, each) for each in ("d", "e", "f")] == [202, 202, 429]
