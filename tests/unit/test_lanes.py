"""The lanes over the journal that keeps nothing, with a clock that stands still until it is set."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from connector.errors import NoRoom, Unavailable
from connector.events.event import Event
from connector.journal.lanes import LOOK_AHEAD, Lanes
from connector.journal.memory import MemoryJournal
from connector.outcome import Outcome

DONE = Outcome("done")
NOW = 1000.0


class Belt:
    """Lanes, their journal, and what was taken from them."""

    def __init__(self, journal: MemoryJournal, queue_size: int) -> None:
        self.now = NOW
        self.journal = journal
        self.lanes = Lanes(journal, queue_size, lambda: self.now)
        self.numbers = 0

    async def append(self, lane: str, count: int = 1) -> list[Event]:
        """Accept events of this lane; the number in an id is the order of acceptance."""
        events = []
        for _ in range(count):
            self.numbers += 1
            event = Event(f"{self.numbers}", "Test/Any", (lane,), "r", "u", self.now, b"{}")
            await self.journal.append(event)
            events.append(event)
        return events

    async def take(self) -> Event:
        """The next event, which has to come."""
        async with asyncio.timeout(5):
            return await self.lanes.take()

    async def work(self, patience: float = 5) -> list[Event]:
        """Take and settle until nothing is left that could be run; the events in order."""
        taken: list[Event] = []

        async def worker() -> None:
            while True:
                event = await self.lanes.take()
                taken.append(event)
                self.journal.settle(event, DONE)

        task = asyncio.create_task(worker())
        try:
            async with asyncio.timeout(patience):
                await self.lanes.join()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return taken


async def started(journal: MemoryJournal, queue_size: int) -> Belt:
    belt = Belt(journal, queue_size)
    await belt.lanes.start()
    return belt


@pytest.fixture
async def belt() -> AsyncIterator[Belt]:
    """Lanes that hold 100 events in memory, over a journal that has room for 1000."""
    belt = await started(MemoryJournal(1000), 100)
    yield belt
    await belt.lanes.stop()


@pytest.fixture
async def narrow() -> AsyncIterator[Belt]:
    """Lanes that hold 4 events in memory, over a journal that has room for 1000."""
    belt = await started(MemoryJournal(1000), 4)
    yield belt
    await belt.lanes.stop()


def ids(events: Sequence[Event]) -> list[str]:
    return [event.event_id for event in events]


def per_lane(events: Sequence[Event]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for event in events:
        found.setdefault(event.lane, []).append(int(event.event_id))
    return found


async def test_one_subscriber_s_events_run_one_at_a_time_in_order(belt: Belt) -> None:
    await belt.append("a", 3)
    first = await belt.take()
    waiting = asyncio.create_task(belt.lanes.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    belt.journal.settle(first, DONE)
    second = await waiting
    assert ids([first, second]) == ["1", "2"]


async def test_a_subscriber_does_not_wait_for_another(belt: Belt) -> None:
    await belt.append("a", 2)
    await belt.append("b")
    assert [(await belt.take()).lane, (await belt.take()).lane] == ["a", "b"]


async def test_a_flood_of_one_subscriber_delays_the_others_by_one_event_each(belt: Belt) -> None:
    await belt.append("flood", 50)
    await belt.append("b", 2)
    await belt.append("c", 2)
    assert [event.lane for event in await belt.work()][:6] == ["flood", "b", "c", "flood", "b", "c"]


async def test_a_flood_of_one_subscriber_does_not_fill_the_memory(belt: Belt) -> None:
    await belt.append("flood", 500)
    assert belt.lanes.loaded <= LOOK_AHEAD
    await belt.append("b")
    await belt.take()
    assert (await belt.take()).lane == "b"


@pytest.mark.parametrize("count", [LOOK_AHEAD - 1, LOOK_AHEAD, LOOK_AHEAD + 1, 2 * LOOK_AHEAD + 1, 300])
async def test_events_left_behind_come_in_order_and_none_is_skipped(belt: Belt, count: int) -> None:
    await belt.append("a", count)
    assert [int(event.event_id) for event in await belt.work()] == list(range(1, count + 1))
    assert belt.journal.size == belt.lanes.loaded == 0


async def test_events_that_come_while_others_are_left_behind_do_not_overtake_them(belt: Belt) -> None:
    await belt.append("a", LOOK_AHEAD + 1)
    for _ in range(LOOK_AHEAD):
        belt.journal.settle(await belt.take(), DONE)
        await belt.append("a")
    assert per_lane(await belt.work())["a"] == list(range(LOOK_AHEAD + 1, 2 * LOOK_AHEAD + 2))


async def test_more_events_than_memory_holds_all_come_each_lane_in_order(narrow: Belt) -> None:
    for number in range(200):
        await narrow.append(f"lane {number % 7}")
    found = per_lane(await narrow.work())
    assert sum(map(len, found.values())) == 200
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert narrow.journal.size == narrow.lanes.loaded == 0


async def test_memory_is_bounded_however_many_events_are_open(narrow: Belt) -> None:
    for number in range(200):
        await narrow.append(f"lane {number}")
    assert narrow.lanes.loaded == 4
    narrow.journal.settle(await narrow.take(), DONE)
    assert narrow.lanes.loaded <= 4


async def test_an_event_that_waits_for_its_retry_holds_its_own_subscriber_only(belt: Belt) -> None:
    await belt.append("a", 3)
    await belt.append("b", 3)
    belt.journal.settle(await belt.take(), Outcome("waiting", due=NOW + 1e6))
    assert {event.lane for event in await belt.work()} == {"b"}
    assert (belt.lanes.parked, belt.lanes.loaded, belt.journal.size) == (1, 0, 3)


async def test_parked_subscribers_hold_no_memory_and_starve_nobody(narrow: Belt) -> None:
    for number in range(50):
        await narrow.append(f"lane {number}", 2)
        head = await narrow.take()
        narrow.journal.settle(head, Outcome("waiting", due=NOW + 1e6))
        assert narrow.lanes.loaded == 0
    await narrow.append("b")
    assert (await narrow.take()).lane == "b"
    assert narrow.lanes.parked == 50


async def test_events_that_come_for_a_parked_subscriber_wait_behind_its_head(belt: Belt) -> None:
    await belt.append("a")
    head = await belt.take()
    belt.journal.settle(head, Outcome("waiting", due=NOW))
    await belt.append("a", 3)
    again = await belt.take()
    belt.journal.settle(again, DONE)
    assert ids([again, *await belt.work()]) == ["1", "2", "3", "4"]


async def test_a_retry_comes_back_as_the_next_attempt_before_its_successors(belt: Belt) -> None:
    await belt.append("a", 2)
    belt.journal.settle(await belt.take(), Outcome("waiting", due=NOW))
    again = await belt.take()
    assert (again.event_id, again.attempt) == ("1", 2)
    belt.journal.settle(again, DONE)
    assert (await belt.take()).event_id == "2"


async def test_a_retry_that_becomes_due_first_comes_first(belt: Belt) -> None:
    for lane, due in (("late", NOW + 1e6), ("soon", NOW)):
        await belt.append(lane)
        belt.journal.settle(await belt.take(), Outcome("waiting", due=due))
    assert (await belt.take()).lane == "soon"
    assert belt.lanes.parked == 1


async def test_a_retry_s_timer_that_goes_off_while_no_lane_is_parked_does_not_silence_the_next(belt: Belt) -> None:
    await belt.append("a")
    first = await belt.take()
    belt.journal.settle(first, Outcome("waiting", due=NOW + 0.01))
    belt.lanes.changed(1, ["a"], {})  # an operator touches the lane: it is loaded again before its head is due
    head = await belt.take()
    await asyncio.sleep(0.03)  # the timer of its first wait goes off
    belt.now = NOW + 1
    belt.journal.settle(head, Outcome("waiting", due=NOW + 1.01))
    belt.now = NOW + 2
    assert ids([await belt.take()]) == ["1"]


async def test_a_held_subscriber_waits_for_an_operator(belt: Belt) -> None:
    await belt.append("a", 2)
    await belt.append("b")
    belt.journal.settle(await belt.take(), Outcome("held", "dead"))
    assert [event.lane for event in await belt.work()] == ["b"]
    assert belt.lanes.parked == 1


async def test_an_event_that_somebody_else_settled_does_not_stop_its_subscriber(belt: Belt) -> None:
    await belt.append("a", 2)
    event = await belt.take()
    belt.lanes.settled(event, DONE, kept=False)
    assert (await belt.take()).event_id == "2"


async def test_nothing_is_handed_out_until_every_reason_to_hold_is_gone(belt: Belt) -> None:
    belt.lanes.hold("operator")
    belt.lanes.hold("outage")
    await belt.append("a")
    waiting = asyncio.create_task(belt.lanes.take())
    for reason in ("operator", "outage"):
        for _ in range(5):
            await asyncio.sleep(0)
        assert not waiting.done()
        assert reason in belt.lanes.holds
        belt.lanes.release(reason)
    assert (await waiting).event_id == "1"
    assert not belt.lanes.holds


async def test_an_event_that_is_put_back_comes_again_unspent_and_in_order(belt: Belt) -> None:
    await belt.append("a", 2)
    belt.lanes.put_back(await belt.take())
    again = await belt.take()
    assert (again.event_id, again.attempt) == ("1", 1)
    belt.lanes.put_back(again)
    assert ids(await belt.work()) == ["1", "2"]


async def test_join_returns_at_once_where_there_is_nothing_to_do(belt: Belt) -> None:
    async with asyncio.timeout(5):
        await belt.lanes.join()


async def test_a_full_journal_refuses_and_changes_nothing() -> None:
    belt = await started(MemoryJournal(2), 2)
    await belt.append("a", 2)
    with pytest.raises(NoRoom):
        await belt.append("a")
    assert (belt.journal.size, belt.lanes.loaded) == (2, 2)
    belt.journal.settle(await belt.take(), DONE)
    await belt.append("a")
    await belt.lanes.stop()


async def test_open_events_of_an_earlier_start_come_in_order() -> None:
    journal = MemoryJournal(1000)
    before = await started(journal, 10)
    await before.append("a", 30)
    await before.append("b", 30)
    await before.lanes.stop()
    after = await started(journal, 10)
    found = per_lane(await after.work())
    assert found == {"a": list(range(1, 31)), "b": list(range(31, 61))}
    await after.lanes.stop()


class FaultyOnce(MemoryJournal):
    """Its disk cannot be read once."""

    faults = 1

    async def read_lanes(self, lanes: Sequence[str], upto: int, limit: int) -> dict[str, Sequence[Event]]:
        if self.faults:
            self.faults -= 1
            raise Unavailable
        return dict(await super().read_lanes(lanes, upto, limit))


async def test_a_journal_that_cannot_be_read_for_a_moment_costs_no_lane() -> None:
    belt = await started(FaultyOnce(1000), 100)
    try:
        await belt.append("a", LOOK_AHEAD + 1)
        assert len(await belt.work(patience=2)) == LOOK_AHEAD + 1
    finally:
        await belt.lanes.stop()
