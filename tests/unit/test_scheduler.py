"""The scheduler alone: what it hands out, what it asks to read, what it holds in memory. Nothing is stored here."""

import asyncio
from collections.abc import Sequence

import pytest

from connector.events.event import Event
from connector.journal import Entry
from connector.journal.scheduler import Scheduler
from connector.journal.store import Fed, Feed

NOW = 1000.0
QUEUE = 4


class Belt:
    """A scheduler over an empty store, and a clock that stands still until it is set."""

    def __init__(self, queue_bytes: int = 1 << 20) -> None:
        self.now = NOW
        self.scheduler = Scheduler(QUEUE, lambda: self.now, queue_bytes)
        self.scheduler.open(0)
        feed = self.scheduler.wants()
        assert feed is not None
        self.scheduler.fed(feed, Fed())

    def accept(self, *seqs: int, lane: str = "", blockers: int = 0) -> list[Entry]:
        """New events; each of a subscriber of its own unless ``lane`` says otherwise."""
        entries = [entry(seq, lane, blockers) for seq in seqs]
        for each in entries:
            self.scheduler.accepted(each)
        return entries

    async def take(self, count: int = 1) -> list[Entry]:
        """So many events, which have to come."""
        async with asyncio.timeout(5):
            return [await self.scheduler.take() for _ in range(count)]

    async def is_idle(self) -> bool:
        """Whether nothing can be taken."""
        taking = asyncio.create_task(self.scheduler.take())
        for _ in range(5):
            await asyncio.sleep(0)
        if taking.done():
            self.scheduler.give_back(taking.result())
            return False
        taking.cancel()
        await asyncio.wait({taking})
        return True

    def wants(self) -> Feed:
        """What is to be read, which has to be something."""
        feed = self.scheduler.wants()
        assert feed is not None
        return feed


def entry(seq: int, lane: str = "", blockers: int = 0, due: float | None = None) -> Entry:
    raw = b'{"event_id":"e%d","data":{"event_type":"Test/Any"}}' % seq
    event = Event(f"e{seq}", "Test/Any", (lane or f"lane:{seq}",), "request", "unique", NOW, raw)
    return Entry(event, seq, blockers=blockers, due=due)


def seqs(entries: Sequence[Entry]) -> list[int]:
    return [each.seq for each in entries]


@pytest.fixture
def belt() -> Belt:
    return Belt()


async def test_events_are_taken_in_the_order_in_which_they_became_ready(belt: Belt) -> None:
    belt.accept(1, 2, 3)
    assert seqs(await belt.take(3)) == [1, 2, 3]


async def test_an_event_that_waits_for_its_retry_holds_its_own_subscriber_only(belt: Belt) -> None:
    belt.accept(1, lane="a")
    belt.accept(2, lane="a", blockers=1)
    belt.accept(3, lane="b")
    first, other = await belt.take(2)
    assert seqs([first, other]) == [1, 3]
    belt.scheduler.ended(first, due=NOW + 60)
    belt.scheduler.ended(other)
    assert await belt.is_idle()
    assert belt.scheduler.next_due == NOW + 60
    assert belt.scheduler.wants() is None
    belt.now = NOW + 60
    assert belt.wants().due == QUEUE


async def test_an_event_runs_as_soon_as_its_predecessor_has_ended_without_being_read_again(belt: Belt) -> None:
    belt.accept(1, lane="a")
    (second,) = belt.accept(2, lane="a", blockers=1)
    (first,) = await belt.take()
    assert await belt.is_idle()
    belt.scheduler.ended(first)
    belt.scheduler.unblocked(2, None)
    assert await belt.take() == [second]


async def test_memory_is_bounded_however_many_events_are_open(belt: Belt) -> None:
    belt.accept(*range(1, 51))
    assert belt.scheduler.in_memory == QUEUE
    assert belt.scheduler.wants() is None
    for each in await belt.take(QUEUE):
        belt.scheduler.ended(each)
    feed = belt.wants()
    assert (feed.after, feed.ahead) == (QUEUE, QUEUE)


async def test_blocked_events_in_memory_make_room_for_those_that_can_run(belt: Belt) -> None:
    belt.accept(1, lane="a")
    belt.accept(*range(2, 10), lane="a", blockers=1)
    assert belt.scheduler.in_memory == QUEUE
    belt.accept(10, 11, 12)
    assert seqs(await belt.take(4)) == [1, 10, 11, 12]
    assert not belt.scheduler.cached


async def test_a_new_event_does_not_overtake_what_is_still_to_be_read(belt: Belt) -> None:
    belt.accept(1, 2, 3, 4, 5)
    for each in await belt.take(4):
        belt.scheduler.ended(each)
    belt.accept(6)
    assert await belt.is_idle()
    belt.scheduler.fed(belt.wants(), Fed([entry(5), entry(6)], upto=6))
    assert seqs(await belt.take(2)) == [5, 6]


async def test_an_event_that_is_given_back_comes_again_after_those_that_were_ready(belt: Belt) -> None:
    belt.accept(1, 2)
    (first,) = await belt.take()
    assert not belt.scheduler.give_back(first)
    assert seqs(await belt.take(2)) == [2, 1]


async def test_what_rests_is_out_of_memory_and_comes_again_when_it_is_woken_the_first_ones_first(belt: Belt) -> None:
    belt.accept(1, 2, 3)
    for each in await belt.take(3):
        assert not belt.scheduler.give_back(each, "slot")
    assert belt.scheduler.in_memory == 0
    assert belt.scheduler.wants() is None
    belt.scheduler.wake("another")
    assert belt.scheduler.wants() is None
    belt.scheduler.wake("slot", 1)
    feed = belt.wants()
    assert feed.seqs == [1]
    belt.scheduler.fed(feed, Fed([entry(1)]))
    belt.scheduler.wake("slot")
    assert belt.wants().seqs == [2, 3]


async def test_a_due_time_that_is_told_during_a_reading_is_not_forgotten_after_it(belt: Belt) -> None:
    belt.accept(1)
    (before_its_time,) = await belt.take()
    before_its_time.due = NOW + 60
    belt.scheduler.ended(entry(9), due=NOW)
    feed = belt.wants()
    assert feed.due is not None
    assert belt.scheduler.give_back(before_its_time)
    belt.scheduler.fed(feed, Fed(next_due=None))
    assert belt.scheduler.next_due == NOW + 60


async def test_a_later_retry_does_not_put_off_an_earlier_one(belt: Belt) -> None:
    belt.accept(1, 2)
    first, second = await belt.take(2)
    belt.scheduler.ended(first, due=NOW + 10)
    belt.scheduler.ended(second, due=NOW + 60)
    assert belt.scheduler.next_due == NOW + 10


async def test_nothing_is_handed_out_until_every_reason_to_hold_is_gone(belt: Belt) -> None:
    belt.scheduler.hold("operator")
    belt.scheduler.hold("outage")
    belt.accept(1)
    for reason in ("operator", "outage"):
        assert await belt.is_idle()
        assert reason in belt.scheduler.holds
        belt.scheduler.release(reason)
    assert not belt.scheduler.holds
    assert seqs(await belt.take()) == [1]


async def test_bodies_in_memory_are_bounded_and_an_event_larger_than_the_bound_runs_alone() -> None:
    belt = Belt(queue_bytes=1)
    belt.accept(1, 2)
    (first,) = await belt.take()
    assert belt.scheduler.in_memory == 1
    assert belt.scheduler.wants() is None
    belt.scheduler.ended(first)
    feed = belt.wants()
    belt.scheduler.fed(feed, Fed([entry(2)], upto=2))
    assert seqs(await belt.take()) == [2]


async def test_an_event_that_an_operator_ended_keeps_its_subscriber_until_its_attempt_has_ended(belt: Belt) -> None:
    belt.accept(1, lane="a")
    belt.accept(2, lane="a", blockers=1)
    (first,) = await belt.take()
    belt.scheduler.gone([1])
    belt.scheduler.unblocked(2, None)
    assert await belt.is_idle()
    belt.scheduler.ended(first)
    assert seqs(await belt.take()) == [2]


async def test_join_returns_at_once_where_nothing_could_run_now(belt: Belt) -> None:
    belt.accept(1, 2)
    first, second = await belt.take(2)
    belt.scheduler.ended(first, due=NOW + 60)
    joining = asyncio.create_task(belt.scheduler.join())
    await asyncio.sleep(0)
    assert not joining.done()
    belt.scheduler.give_back(second, "slot")
    async with asyncio.timeout(5):
        await joining
