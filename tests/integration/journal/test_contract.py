"""The journal's contract, held against every engine. The numbers are those of the invariants in connector.journal."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from connector.errors import NoRoom, Stopping
from connector.events.snapshot import Snapshot
from connector.journal import Entry, Kept, Mark, Newest, Step
from connector.journal.commands import NOTHING_APPLIED, PAUSED, Command
from connector.journal.queries import COUNTERS, BodyOf, ReadStats, SeriesOf
from connector.outcome import Outcome, State
from tests.journal_support.engines import CAPACITY, DEAD, DONE, ENGINES, HELD, QUEUE, Bench, waiting
from tests.journal_support.events import event

NEWER, OLDER, OLDEST = "1970-01-01 00:10:00", "1970-01-01 00:05:00", "1970-01-01 00:01:00"  # the clock begins at 1000
LATEST = "SIM/Latest"
MARK = Mark("handler", "i_account:1")


@pytest.fixture(params=ENGINES)
async def bench(request: pytest.FixtureRequest, memory_disk: Path) -> AsyncIterator[Bench]:
    bench = Bench(request.param, memory_disk)
    await bench.open()
    yield bench
    await bench.journal.close()


@pytest.fixture
async def durable(bench: Bench) -> Bench:
    if not bench.durable:
        pytest.skip("the engine keeps nothing over a stop")
    return bench


def ids(entries: Sequence[Entry]) -> list[str]:
    """The ids of events, in order."""
    return [entry.event.event_id for entry in entries]


async def states(bench: Bench, event_id: str) -> list[str]:
    """The states of all series of the events that bear this id, the newest first."""
    return [series.state for series in await bench.journal.ask(SeriesOf(event_id))]


# Keeping: invariants 1 to 4


async def test_new_event_is_stored_and_counted(bench: Bench) -> None:
    first = event()
    assert await bench.journal.keep(first) is Kept.NEW
    assert bench.journal.size == 1
    entry = await bench.take()
    assert (entry.event.event_id, entry.seq, entry.attempt, entry.due) == (first.event_id, 1, 1, None)


async def test_id_of_event_that_is_open_is_a_duplicate(bench: Bench) -> None:
    assert await bench.keep(event("same")) == [Kept.NEW]
    assert await bench.keep(event("same")) == [Kept.DUPLICATE]
    assert bench.journal.size == 1
    assert ids(await bench.take_all()) == ["same"]


@pytest.mark.parametrize("outcome", [waiting(), HELD], ids=lambda outcome: outcome.state)
async def test_id_of_event_that_waits_or_is_held_is_a_duplicate(bench: Bench, outcome: Outcome) -> None:
    await bench.keep(event("same"))
    assert await bench.settle(await bench.take(), outcome)
    assert await bench.keep(event("same")) == [Kept.DUPLICATE]
    assert bench.journal.size == 1


@pytest.mark.parametrize("state", ["done", "ignored", "superseded"])
async def test_id_of_event_that_ended_well_is_a_duplicate(bench: Bench, state: State) -> None:
    await bench.keep(event("same"))
    assert await bench.settle(await bench.take(), Outcome(state))
    assert await bench.keep(event("same")) == [Kept.DUPLICATE]
    assert bench.journal.size == 0


@pytest.mark.parametrize("outcome", [None, DONE, waiting(), HELD], ids=["open", "done", "waiting", "held"])
async def test_id_is_a_duplicate_after_reopening(durable: Bench, outcome: Outcome | None) -> None:
    await durable.keep(event("same"))
    if outcome:
        await durable.settle(await durable.take(), outcome)
    size = durable.journal.size
    await durable.reopen()
    assert await durable.keep(event("same")) == [Kept.DUPLICATE]
    assert durable.journal.size == size


async def test_one_of_twenty_copies_sent_at_the_same_instant_is_stored(bench: Bench) -> None:
    kept = await bench.keep(*(event("same") for _ in range(20)))
    assert sorted(kept) == [Kept.DUPLICATE] * 19 + [Kept.NEW]
    assert bench.journal.size == 1
    assert ids(await bench.take_all()) == ["same"]


async def test_id_of_dead_event_begins_a_new_series(bench: Bench) -> None:
    await bench.keep(event("same"))
    await bench.settle(await bench.take(), DEAD)
    assert await bench.keep(event("same")) == [Kept.NEW]
    assert await bench.keep(event("same")) == [Kept.DUPLICATE]
    second = await bench.take()
    assert (second.seq, second.attempt, bench.journal.size) == (2, 1, 1)
    assert [series.earlier for series in await bench.journal.ask(SeriesOf("same"))] == [1, None]


async def test_id_of_dead_event_begins_a_new_series_after_reopening(durable: Bench) -> None:
    await durable.keep(event("same"))
    await durable.settle(await durable.take(), DEAD)
    await durable.reopen()
    assert await durable.keep(event("same")) == [Kept.NEW]
    await durable.settle(await durable.take(), DONE)
    await durable.reopen()
    assert await durable.keep(event("same")) == [Kept.DUPLICATE]


async def test_sequence_numbers_follow_the_order_of_acceptance(bench: Bench) -> None:
    events = [event() for _ in range(30)]
    await bench.keep(*events)
    taken: list[Entry] = []
    for _ in events:
        taken.append(await bench.take())
        await bench.settle(taken[-1], DONE)
    assert [entry.seq for entry in taken] == list(range(1, 31))
    assert ids(taken) == [each.event_id for each in events]


async def test_sequence_number_is_not_used_again_when_its_event_has_ended(bench: Bench) -> None:
    await bench.keep(event())
    first = await bench.take()
    await bench.settle(first, DONE)
    await bench.keep(event())
    assert (await bench.take()).seq > first.seq


async def test_sequence_number_is_not_used_again_after_reopening(durable: Bench) -> None:
    await durable.keep(event())
    first = await durable.take()
    await durable.settle(first, DONE)
    await durable.reopen()
    await durable.keep(event())
    assert (await durable.take()).seq > first.seq


async def test_refusal_for_want_of_room_leaves_no_trace(bench: Bench) -> None:
    await bench.keep(*(event() for _ in range(CAPACITY)))
    with pytest.raises(NoRoom):
        await bench.journal.keep(event("refused"))
    assert bench.journal.size == CAPACITY
    assert await states(bench, "refused") == []
    await bench.settle(await bench.take(), DONE)
    assert await bench.keep(event("refused")) == [Kept.NEW]


async def test_requests_at_the_same_instant_do_not_exceed_the_capacity(bench: Bench) -> None:
    async def keep() -> bool:
        await asyncio.sleep(0)
        try:
            return await bench.journal.keep(event()) is Kept.NEW
        except NoRoom:
            return False

    started: list[asyncio.Task[bool]] = []
    for _ in range(3 * CAPACITY):  # while earlier ones are being written, later ones arrive
        started.append(asyncio.create_task(keep()))
        await asyncio.sleep(0)
    assert sum(await asyncio.gather(*started)) == CAPACITY
    assert bench.journal.size == CAPACITY


async def test_event_whose_client_has_gone_is_stored_and_handed_on(bench: Bench) -> None:
    request = asyncio.create_task(bench.journal.keep(event("gone")))
    await asyncio.sleep(0)
    request.cancel()
    assert ids([await bench.take()]) == ["gone"]
    assert bench.journal.size == 1
    assert await bench.keep(event("gone")) == [Kept.DUPLICATE]


async def test_closing_keeps_what_is_under_way(durable: Bench) -> None:
    await durable.keep(event())
    durable.journal.settle(await durable.take(), DONE)
    requests = [asyncio.create_task(durable.journal.keep(event())) for _ in range(3)]
    await asyncio.sleep(0)
    await durable.reopen()
    assert await asyncio.gather(*requests) == [Kept.NEW] * 3
    assert durable.journal.size == 3


async def test_keeping_after_closing_is_refused(bench: Bench) -> None:
    await bench.journal.close()
    await bench.journal.close()
    with pytest.raises(Stopping):
        await bench.journal.keep(event())


async def test_event_comes_back_as_it_was_accepted(bench: Bench) -> None:
    first = event("a ’quoted’ id", resources=["imsi:00101", "i_account:7"])
    await bench.keep(first)
    _assert_same(await bench.take(), first)
    assert await bench.journal.ask(BodyOf(1)) == first.raw


async def test_event_comes_back_as_it_was_accepted_after_reopening(durable: Bench) -> None:
    first, bare = event("a ’quoted’ id", resources=["imsi:00101", "i_account:7"]), event(resources=[])
    await durable.keep(first, bare)
    await durable.reopen()
    _assert_same(await durable.take(), first)
    _assert_same(await durable.take(), bare)


def _assert_same(entry: Entry, accepted: object) -> None:
    for name in ("event_id", "event_type", "resources", "request_id", "unique_id", "accepted_at", "raw", "attempt"):
        assert getattr(entry.event, name) == getattr(accepted, name)


# Identities: invariant 3


@pytest.mark.parametrize(
    "other", [{"i_env": 2}, {"i_event": 8}, {"event_type": "SIM/Replaced"}], ids=lambda other: next(iter(other))
)
async def test_events_that_share_an_id_and_differ_in_their_identity_are_two(
    bench: Bench, other: dict[str, Any]
) -> None:
    one: dict[str, Any] = {"i_env": 1, "i_event": 7}
    assert await bench.keep(event("same", **one), event("same", **(one | other))) == [Kept.NEW] * 2
    assert await bench.keep(event("same", **one), event("same", **(one | other))) == [Kept.DUPLICATE] * 2
    for _ in range(2):
        await bench.settle(await bench.take(), DONE)
    assert await bench.keep(event("same", **one), event("same", **(one | other))) == [Kept.DUPLICATE] * 2
    assert bench.journal.size == 0


async def test_series_of_one_identity_does_not_end_that_of_another_with_the_same_id(bench: Bench) -> None:
    await bench.keep(event("same", i_event=7), event("same", i_event=8))
    await bench.settle(await bench.take(), DEAD)
    await bench.settle(await bench.take(), DONE)
    assert await bench.keep(event("same", i_event=7), event("same", i_event=8)) == [Kept.NEW, Kept.DUPLICATE]


async def test_another_body_under_the_same_identity_is_a_conflict(bench: Bench) -> None:
    assert await bench.keep(event("same"), event("same", padding=1)) == [Kept.NEW, Kept.CONFLICT]
    assert await bench.keep(event("same", padding=1), event("same")) == [Kept.CONFLICT, Kept.DUPLICATE]
    await bench.settle(await bench.take(), DONE)
    assert await bench.keep(event("same", padding=1), event("same")) == [Kept.CONFLICT, Kept.DUPLICATE]
    assert bench.journal.size == 0


async def test_another_body_under_the_same_identity_is_a_conflict_after_reopening(durable: Bench) -> None:
    await durable.keep(event("same"))
    await durable.reopen()
    assert await durable.keep(event("same", padding=1)) == [Kept.CONFLICT]


async def test_another_body_of_an_event_that_ended_dead_begins_a_new_series(bench: Bench) -> None:
    await bench.keep(event("same"))
    await bench.settle(await bench.take(), DEAD)
    new = event("same", padding=1)
    assert await bench.keep(new) == [Kept.NEW]
    assert (await bench.take()).event.raw == new.raw


async def test_event_whose_identity_is_not_known_is_never_a_duplicate(bench: Bench) -> None:
    copies = [event(named=False) for _ in range(4)]
    assert len({each.raw for each in copies}) == 1
    assert await bench.keep(*copies[:2]) == [Kept.NEW] * 2
    assert await bench.keep(copies[2]) == [Kept.NEW]
    for _ in range(3):
        await bench.settle(await bench.take(), DONE)
    assert await bench.keep(copies[3]) == [Kept.NEW]


async def test_i_event_alone_makes_an_identity(bench: Bench) -> None:
    kept = await bench.keep(*(event(named=False, i_event=number) for number in (7, 7, 8)))
    assert kept == [Kept.NEW, Kept.DUPLICATE, Kept.NEW]


# Settling: invariants 5, 6 and 9


async def test_settling_twice_counts_once(bench: Bench) -> None:
    await bench.keep(event("same"))
    entry = await bench.take()
    assert await bench.settle(entry, DONE)
    assert not await bench.settle(entry, DEAD)
    assert bench.journal.size == 0
    assert await states(bench, "same") == ["done"]
    assert await bench.keep(event("same")) == [Kept.DUPLICATE]


@pytest.mark.parametrize("outcome", [DONE, waiting(), HELD], ids=lambda outcome: outcome.state)
async def test_attempt_that_is_not_the_current_one_settles_nothing(bench: Bench, outcome: Outcome) -> None:
    await bench.keep(event())
    first = await bench.take()
    assert await bench.settle(first, waiting())
    assert not await bench.settle(first, outcome)
    await bench.later(10)
    later = await bench.take()
    assert (later.attempt, later.event.attempt, bench.journal.size) == (2, 2, 1)
    assert not await bench.settle(first, outcome)
    assert await bench.settle(later, DONE)
    assert bench.journal.size == 0


async def test_twice_in_one_transaction_counts_once(bench: Bench) -> None:
    await bench.keep(event())
    entry = await bench.take()
    bench.journal.settle(entry, DONE)
    bench.journal.settle(entry, DONE)
    await bench.until(lambda: len(bench.settled) == 2)
    assert [counted for _, _, counted in bench.settled] == [True, False]
    assert bench.journal.size == 0


async def test_event_that_was_never_stored_cannot_be_settled(bench: Bench) -> None:
    assert not await bench.settle(Entry(event(), 7), DONE)
    assert bench.journal.size == 0


async def test_outcomes_are_told_in_order_in_the_thread_of_the_loop(bench: Bench) -> None:
    await bench.keep(*(event(resources=[f"lane:{number}"]) for number in range(3)))
    entries = await bench.take_all()
    outcomes = [waiting(), DONE, DEAD]
    for entry, outcome in zip(entries, outcomes, strict=True):
        bench.journal.settle(entry, outcome)
    await bench.until(lambda: len(bench.settled) == 3)
    assert bench.settled == [(*pair, True) for pair in zip(entries, outcomes, strict=True)]
    assert bench.threads == {threading.get_ident()}


async def test_flush_returns_when_everything_before_it_is_kept_and_told(bench: Bench) -> None:
    await bench.keep(event())
    bench.journal.settle(await bench.take(), DONE)
    await bench.journal.flush()
    assert (len(bench.settled), bench.journal.size) == (1, 0)


async def test_counter_is_right_after_everything_and_after_reopening(durable: Bench) -> None:
    await durable.keep(*(event(resources=[f"lane:{number}"]) for number in range(8)))
    for outcome in (DONE, DEAD, waiting(), HELD, Outcome("ignored")):
        await durable.settle(await durable.take(), outcome)
    assert durable.journal.size == 5
    await durable.reopen()
    assert durable.journal.size == 5
    await durable.later(10)
    assert [entry.seq for entry in sorted(await durable.take_all(), key=lambda entry: entry.seq)] == [3, 6, 7, 8]


async def test_event_in_hand_when_the_process_ended_is_pending_again(durable: Bench) -> None:
    first = event()
    await durable.keep(first)
    await durable.take()
    await durable.reopen()
    back = await durable.take()
    assert (back.event.event_id, back.attempt) == (first.event_id, 1)


# Waiting


async def test_waiting_event_is_claimed_when_it_is_due_and_not_before(bench: Bench) -> None:
    early, late, held = (event(resources=[name]) for name in ("early", "late", "held"))
    await bench.keep(early, late, held)
    for outcome in (waiting(1010.0), waiting(1020.0), HELD):
        await bench.settle(await bench.take(), outcome)
    await bench.later(9.9)
    assert await bench.take_if_there() is None
    await bench.later(0.1)
    assert ids(await bench.take_all()) == [early.event_id]
    await bench.later(10)
    assert ids(await bench.take_all()) == [late.event_id]
    await bench.later(9999)
    assert await bench.take_if_there() is None
    assert bench.journal.size == 3


async def test_more_events_are_due_than_memory_holds_and_all_are_handed_out(bench: Bench) -> None:
    count = 2 * QUEUE
    await bench.keep(*(event(resources=[f"lane:{number}"]) for number in range(count)))
    for _ in range(count):
        await bench.settle(await bench.take(), waiting())
    await bench.later(10)
    taken = set()
    for _ in range(count):
        entry = await bench.take()
        taken.add((entry.seq, entry.attempt))
        await bench.settle(entry, DONE)
    assert taken == {(seq, 2) for seq in range(1, count + 1)}


async def test_waiting_event_keeps_its_time_and_attempt_over_a_reopening(durable: Bench) -> None:
    await durable.keep(event())
    await durable.settle(await durable.take(), waiting(1010.0))
    await durable.reopen()
    await durable.later(5)
    assert await durable.take_if_there() is None
    await durable.later(5)
    assert (await durable.take()).attempt == 2


# The order: invariants 7 and 8


async def test_event_waits_for_each_earlier_one_that_shares_a_resource_with_it(bench: Bench) -> None:
    both = event("both", resources=["x", "y"])
    await bench.keep(event("x", resources=["x"]), event("y", resources=["y", "z"]), both)
    x, y = await bench.take_all()
    assert ids([x, y]) == ["x", "y"]
    await bench.settle(y, DONE)
    assert await bench.take_if_there() is None
    await bench.settle(x, DONE)
    assert ids(await bench.take_all()) == ["both"]


async def test_event_waits_for_an_earlier_one_that_waits_itself_and_nobody_else_does(bench: Bench) -> None:
    chain = [event(name, resources=name.split("+")) for name in ("a", "a+b", "b+c", "c")]
    await bench.keep(*chain, event("other", resources=["d"]))
    (first, other) = await bench.take_all()
    assert ids([first, other]) == ["a", "other"]
    for following in ("a+b", "b+c", "c"):
        await bench.settle(first, DONE)
        (first,) = await bench.take_all()
        assert ids([first]) == [following]


async def test_events_that_share_nothing_with_each_other_run_together_behind_one_that_both_share(bench: Bench) -> None:
    await bench.keep(*(event(name, resources=name.split("+")) for name in ("a+b", "a", "b")))
    (first,) = await bench.take_all()
    await bench.settle(first, DONE)
    assert ids(await bench.take_all()) == ["a", "b"]


async def test_event_does_not_wait_for_a_later_one(bench: Bench) -> None:
    await bench.keep(event("first", resources=["a"]), event("second", resources=["a", "b"]))
    first = await bench.take()
    await bench.settle(first, waiting())
    await bench.keep(event("third", resources=["b"]))
    assert await bench.take_if_there() is None
    await bench.later(10)
    assert ids(await bench.take_all()) == ["first"]


async def test_event_that_shares_two_resources_with_one_waits_for_it_once(bench: Bench) -> None:
    await bench.keep(event("first", resources=["a", "b"]), event("second", resources=["b", "a"]))
    await bench.settle(await bench.take(), DONE)
    assert ids(await bench.take_all()) == ["second"]


@pytest.mark.parametrize("outcome", [None, waiting()], ids=["in hand", "waiting"])
async def test_order_by_resources_holds_over_a_reopening(durable: Bench, outcome: Outcome | None) -> None:
    chain = [event(name, resources=name.split("+")) for name in ("a", "a+b", "b+c", "c")]
    await durable.keep(*chain)
    first = await durable.take()
    if outcome:
        await durable.settle(first, outcome)
        await durable.reopen()
        assert await durable.take_if_there() is None
        await durable.later(10)
    for name in ("a", "a+b", "b+c", "c"):
        await durable.reopen()
        (entry,) = await durable.take_all()
        assert ids([entry]) == [name]
        await durable.settle(entry, DONE)
    assert durable.journal.size == 0


async def test_event_without_resources_runs_at_once(bench: Bench) -> None:
    await bench.keep(event("head"), event("behind"))
    await bench.settle(await bench.take(), waiting())
    await bench.keep(event("bare-1", resources=[]), event("bare-2", resources=[]))
    assert ids(await bench.take_all()) == ["bare-1", "bare-2"]


@pytest.mark.parametrize("outcome", [waiting(), HELD], ids=lambda outcome: outcome.state)
async def test_head_that_waits_blocks_all_that_share_a_resource_with_it_and_nobody_else(
    bench: Bench, outcome: Outcome
) -> None:
    await bench.keep(event("head", resources=["a", "b"]))
    await bench.settle(await bench.take(), outcome)
    await bench.keep(*(event(name, resources=name.split("+")) for name in ("a", "b", "b+c", "d", "e")))
    assert ids(await bench.take_all()) == ["d", "e"]
    await bench.journal.command(Command("skip", ["a"]))
    assert ids(await bench.take_all()) == ["a", "b"]


async def test_backlog_larger_than_memory_is_taken_in_order_of_each_resource(bench: Bench) -> None:
    await bench.keep(*(event(f"{number}", resources=[f"lane:{number % 3}"]) for number in range(CAPACITY)))
    order: dict[str, list[int]] = {}
    for _ in range(CAPACITY):
        entry = await bench.take()
        order.setdefault(entry.event.resources[0], []).append(int(entry.event.event_id))
        await bench.settle(entry, DONE)
    assert order == {f"lane:{lane}": list(range(lane, CAPACITY, 3)) for lane in range(3)}


async def test_event_that_can_run_is_taken_however_many_wait(bench: Bench) -> None:
    await bench.keep(*(event(resources=["held"]) for _ in range(2 * QUEUE)))
    await bench.settle(await bench.take(), HELD)
    await bench.keep(event("free", resources=["free"]))
    assert ids([await bench.take()]) == ["free"]


async def test_discarded_event_keeps_its_resources_until_its_attempt_has_ended(bench: Bench) -> None:
    await bench.keep(event("first"), event("second"), event("other", resources=["other"]))
    first, _ = await bench.take_all()
    await bench.journal.command(Command("discard", ["first"]))
    assert bench.journal.size == 2
    assert await bench.take_if_there() is None
    assert not await bench.settle(first, DONE)
    assert ids(await bench.take_all()) == ["second"]
    assert await states(bench, "first") == ["ignored"]


# Giving back, holding


async def test_event_given_back_is_handed_out_again_and_no_attempt_is_spent(bench: Bench) -> None:
    await bench.keep(event("first"), event("second"))
    bench.journal.give_back(await bench.take())
    again = await bench.take()
    assert (again.event.event_id, again.attempt) == ("first", 1)
    assert await bench.take_if_there() is None
    assert await bench.settle(again, DONE)


async def test_event_given_back_to_wait_is_out_of_the_way_until_it_is_woken(bench: Bench) -> None:
    await bench.keep(event("first"), event("behind"), event("other", resources=["other"]))
    first, _ = await bench.take_all()
    bench.journal.give_back(first, "HLR")
    assert await bench.take_if_there() is None
    bench.journal.wake("HSS")
    assert await bench.take_if_there() is None
    bench.journal.wake("HLR")
    (again,) = await bench.take_all()
    assert (again.event.event_id, again.attempt) == ("first", 1)
    await bench.settle(again, DONE)
    assert ids(await bench.take_all()) == ["behind"]


async def test_wake_hands_out_the_first_ones_that_rest_and_no_more_than_asked(bench: Bench) -> None:
    await bench.keep(*(event(f"{number}", resources=[f"lane:{number}"]) for number in range(5)))
    for entry in await bench.take_all():
        bench.journal.give_back(entry, "HLR")
    bench.journal.wake("HLR", 1)
    assert ids(await bench.take_all()) == ["0"]
    bench.journal.wake("HLR", 2)
    assert ids(await bench.take_all()) == ["1", "2"]
    bench.journal.wake("HLR")
    assert ids(await bench.take_all()) == ["3", "4"]


async def test_event_that_rests_runs_after_a_reopening(durable: Bench) -> None:
    await durable.keep(event("first"))
    durable.journal.give_back(await durable.take(), "HLR")
    await durable.reopen()
    assert ids(await durable.take_all()) == ["first"]


async def test_discarded_event_that_rests_is_not_woken(bench: Bench) -> None:
    await bench.keep(event("first"), event("second"))
    bench.journal.give_back(await bench.take(), "HLR")
    await bench.journal.command(Command("discard", ["first"]))
    bench.journal.wake("HLR")
    assert ids(await bench.take_all()) == ["second"]


async def test_nothing_is_handed_out_until_every_reason_to_hold_is_released(bench: Bench) -> None:
    bench.journal.hold("one")
    bench.journal.hold("other")
    assert await bench.keep(event("first")) == [Kept.NEW]
    bench.journal.release("one")
    assert bench.journal.holds == {"other"}
    assert await bench.take_if_there() is None
    bench.journal.release("other")
    assert bench.journal.holds == frozenset()
    assert ids(await bench.take_all()) == ["first"]


async def test_operators_pause_holds_until_it_is_resumed(bench: Bench) -> None:
    await bench.keep(event("first"))
    await bench.journal.command(Command("pause"))
    assert bench.journal.holds == {PAUSED}
    assert await bench.take_if_there() is None
    await bench.journal.command(Command("resume"))
    assert ids(await bench.take_all()) == ["first"]


async def test_operators_pause_holds_over_a_reopening(durable: Bench) -> None:
    await durable.keep(event())
    await durable.journal.command(Command("pause"))
    await durable.reopen()
    assert durable.journal.holds == {PAUSED}
    assert await durable.take_if_there() is None


async def test_join_returns_when_nothing_is_left_that_could_run(bench: Bench) -> None:
    names = ("runs", "waits", "held", "rests")
    await bench.keep(*(event(name, resources=[name]) for name in names), event("behind", resources=["waits"]))
    entries = {entry.event.event_id: entry for entry in await bench.take_all()}
    await bench.settle(entries["waits"], waiting())
    await bench.settle(entries["held"], HELD)
    bench.journal.give_back(entries["rests"], "HLR")
    joined = asyncio.create_task(bench.journal.join())
    await bench.journal.flush()
    assert not joined.done()
    await bench.settle(entries["runs"], DONE)
    async with asyncio.timeout(10):
        await joined


# Handlers' progress: invariant 10

FIRST, SECOND = Step("first", "done", 1, "well", 3), Step("second", "waiting", 1, "later", 4)


async def test_progress_of_handlers_is_there_at_the_next_attempt(bench: Bench) -> None:
    await bench.keep(event())
    entry = await bench.take()
    assert entry.progress == {}
    bench.journal.note(entry, FIRST)
    await bench.settle(entry, Outcome("waiting", "later", due=1010.0, steps=(SECOND,)))
    await bench.later(10)
    assert (await bench.take()).progress == {"first": FIRST, "second": SECOND}


async def test_progress_of_handlers_is_there_after_a_reopening(durable: Bench) -> None:
    await durable.keep(event())
    durable.journal.note(await durable.take(), FIRST)
    await durable.journal.flush()
    await durable.reopen()
    entry = await durable.take()
    assert (entry.progress, entry.attempt) == ({"first": FIRST}, 1)
    await durable.settle(entry, Outcome("waiting", "later", due=1010.0, steps=(SECOND,)))
    await durable.reopen()
    await durable.later(10)
    assert (await durable.take()).progress == {"first": FIRST, "second": SECOND}


@pytest.mark.parametrize("waits_for", [None, "HLR"])
async def test_progress_of_handlers_is_there_when_an_event_given_back_is_taken_again(
    bench: Bench, waits_for: str | None
) -> None:
    await bench.keep(event())
    entry = await bench.take()
    bench.journal.note(entry, FIRST)
    bench.journal.give_back(entry, waits_for)
    bench.journal.wake("HLR")
    assert (await bench.take()).progress == {"first": FIRST}


@pytest.mark.parametrize("again", ["replay", "replay of everything", "sent again"])
async def test_new_series_begins_with_the_steps_that_ended_well(bench: Bench, again: str) -> None:
    first = event("same")
    await bench.keep(first)
    entry = await bench.take()
    bench.journal.note(entry, FIRST)
    await bench.settle(entry, Outcome("dead", "never", steps=(Step("second", "dead", 2, "never", 5),)))
    if again == "sent again":
        assert await bench.keep(event("same")) == [Kept.NEW]
    else:
        await bench.journal.command(Command("replay", ["same"], whole=again != "replay"))
    new = await bench.take()
    assert (new.attempt, new.seq) == (1, 2)
    assert new.progress == ({} if again == "replay of everything" else {"first": FIRST})


async def test_step_of_an_attempt_that_is_not_the_current_one_leaves_no_trace(bench: Bench) -> None:
    await bench.keep(event())
    first = await bench.take()
    await bench.settle(first, waiting())
    bench.journal.note(first, FIRST)
    await bench.later(10)
    assert (await bench.take()).progress == {}


# Commands


async def test_command_finds_every_event_that_bears_an_id(bench: Bench) -> None:
    sharing = [event("same", i_event=7), event("same", i_event=8), event("same", event_type="SIM/Replaced")]
    await bench.keep(*sharing, event("another"))
    for _ in sharing:
        await bench.settle(await bench.take(), DEAD)
    assert bench.journal.size == 1
    result = await bench.journal.command(Command("replay", ["same", "nobody"]))
    assert result.results == {"same": "replayed (3 events)", "nobody": "not known"}
    assert bench.journal.size == 4
    result = await bench.journal.command(Command("discard", ["same"]))
    assert result.results == {"same": "discarded (3 events)"}
    assert bench.journal.size == 1
    assert await states(bench, "same") == ["ignored"] * 3 + ["dead"] * 3
    assert ids(await bench.take_all()) == ["another"]


async def test_command_finds_every_event_that_bears_an_id_after_reopening(durable: Bench) -> None:
    await durable.keep(event("same", i_event=7), event("same", i_event=8))
    for _ in range(2):
        await durable.settle(await durable.take(), DEAD)
    await durable.reopen()
    result = await durable.journal.command(Command("replay", ["same"]))
    assert result.results == {"same": "replayed (2 events)"}


async def test_replay_takes_its_place_behind_what_was_accepted_before_it(bench: Bench) -> None:
    await bench.keep(event("dead"), event("second"))
    await bench.settle(await bench.take(), DEAD)
    await bench.journal.command(Command("replay", ["dead"]))
    (second,) = await bench.take_all()
    assert ids([second]) == ["second"]
    await bench.settle(second, DONE)
    assert ids(await bench.take_all()) == ["dead"]
    assert await bench.keep(event("dead")) == [Kept.DUPLICATE]


async def test_id_of_event_that_ended_dead_when_it_was_replayed_begins_a_new_series(bench: Bench) -> None:
    await bench.keep(event("same"))
    await bench.settle(await bench.take(), DONE)
    await bench.journal.command(Command("replay", ["same"], whole=True))
    assert await bench.keep(event("same")) == [Kept.DUPLICATE]
    await bench.settle(await bench.take(), DEAD)
    assert await bench.keep(event("same")) == [Kept.NEW]


async def test_id_of_discarded_dead_event_is_a_duplicate(bench: Bench) -> None:
    await bench.keep(event("same"))
    await bench.settle(await bench.take(), DEAD)
    await bench.journal.command(Command("discard", ["same"]))
    assert await bench.keep(event("same")) == [Kept.DUPLICATE]


@pytest.mark.parametrize("outcome", [waiting(), HELD], ids=lambda outcome: outcome.state)
async def test_released_event_is_tried_at_once(bench: Bench, outcome: Outcome) -> None:
    await bench.keep(event("first", resources=["a", "b"]), event("second", resources=["b"]))
    await bench.settle(await bench.take(), outcome)
    result = await bench.journal.command(Command("release", ["b"]))
    assert result.results == {"b": "released"}
    (again,) = await bench.take_all()
    assert (again.event.event_id, again.attempt, again.due) == ("first", 2, None)
    assert await bench.settle(again, DONE)


# Counters


async def test_stats_tell_every_counter_also_one_that_nothing_has_counted(bench: Bench) -> None:
    assert (await bench.journal.ask(ReadStats())).total == dict.fromkeys(COUNTERS, 0)


async def test_everything_that_is_counted_is_counted_once(bench: Bench) -> None:
    outcomes = [DONE, Outcome("ignored"), Outcome("superseded"), DEAD, HELD, waiting(1e9)]
    await bench.keep(*(event(str(number), resources=[str(number)]) for number in range(len(outcomes))))
    await bench.keep(event("0", resources=["0"]))
    for entry, outcome in zip(await bench.take_all(), outcomes, strict=True):
        await bench.settle(entry, outcome)
        await bench.settle(entry, outcome)
    for command in (Command("replay", ["3"]), Command("skip", ["4"]), Command("discard", ["5"]), Command("pause")):
        await bench.journal.command(command)
    stats = await bench.journal.ask(ReadStats())
    assert stats.total == {
        "accepted": 6, "duplicate": 1, "retried": 1, "held": 1, "done": 1, "ignored": 2, "superseded": 1, "dead": 2,
        "replayed": 1,
    }  # fmt: skip
    assert (stats.open, stats.paused) == ({"pending": 1, "waiting": 0, "held": 0}, True)


# The newest snapshot


async def test_newest_is_what_was_applied_and_what_is_behind(bench: Bench) -> None:
    await bench.keep(event("first", event_type=LATEST, updated_at=OLDER))
    first = await bench.take()
    assert await bench.journal.newest(first, MARK) == Newest(None, None)
    await bench.keep(event("second", event_type=LATEST, updated_at=NEWER))
    behind = (await bench.journal.newest(first, MARK)).behind
    assert behind is not None
    assert (behind.event_id, behind.seq) == ("second", 2)
    await bench.settle(first, Outcome("done", applied=((MARK, behind),)))
    second = await bench.take()
    assert await bench.journal.newest(second, MARK) == Newest(behind, None)
    assert await bench.journal.newest(second, Mark("another handler", MARK.resource)) == Newest(None, None)


async def test_what_a_discarded_event_that_runs_would_write_counts_as_applied(bench: Bench) -> None:
    await bench.keep(event("runs", event_type=LATEST, updated_at=NEWER))
    runs = await bench.take()
    await bench.journal.command(Command("discard", ["runs"]))
    await bench.settle(runs, waiting())
    await bench.keep(event("older", event_type=LATEST, updated_at=OLDER))
    applied = (await bench.journal.newest(await bench.take(), MARK)).applied
    assert applied is not None
    assert applied.event_id == "runs"


@pytest.mark.parametrize("outcome", [DONE, DEAD, HELD, waiting()], ids=lambda each: each.state)
async def test_subscriber_of_a_discarded_event_that_runs_goes_on_however_its_attempt_ends(
    bench: Bench, outcome: Outcome
) -> None:
    await bench.keep(event("runs", "i_account:1"))
    runs = await bench.take()
    await bench.keep(event("behind", "i_account:1"))
    await bench.journal.command(Command("discard", ["runs"]))
    assert await bench.take_if_there() is None
    assert not await bench.settle(runs, outcome)
    assert (await bench.take()).event.event_id == "behind"


async def test_what_a_discarded_event_that_never_ran_would_write_is_not_applied(bench: Bench) -> None:
    await bench.keep(event("head", event_type=LATEST, updated_at=OLDER))
    head = await bench.take()
    await bench.keep(event("behind", event_type=LATEST, updated_at=NEWER))
    await bench.journal.command(Command("discard", ["behind"]))
    assert await bench.journal.newest(head, MARK) == Newest(None, None)


async def test_what_a_handler_has_written_is_known_although_its_event_is_given_back(bench: Bench) -> None:
    """That handler does not run again, so that nothing else would tell of what it wrote."""
    await bench.keep(event("first", event_type=LATEST, updated_at=NEWER))
    first = await bench.take()
    applied = Snapshot(9e9, None, None, first.seq, "first")
    bench.journal.note(first, FIRST, ((MARK, applied),))
    bench.journal.give_back(first)
    again = await bench.take()
    assert (await bench.journal.newest(again, MARK)).applied == applied


async def test_what_was_applied_last_can_be_cleared(bench: Bench) -> None:
    await bench.keep(event("first", event_type=LATEST, updated_at=NEWER))
    first = await bench.take()
    applied = Snapshot(9e9, None, None, first.seq, "first")
    await bench.settle(first, Outcome("done", applied=((MARK, applied),)))
    await bench.keep(event("second", event_type=LATEST, updated_at=NEWER))
    second = await bench.take()
    assert (await bench.journal.newest(second, MARK)).applied == applied
    cleared = await bench.journal.command(Command("clear_newest", [MARK.resource, "nobody:1"]))
    assert cleared.results == {MARK.resource: "cleared for 1 handler", "nobody:1": NOTHING_APPLIED}
    assert await bench.journal.newest(second, MARK) == Newest(None, None)


NOT_NEWER = pytest.mark.parametrize(
    "other",
    [
        {"event_type": LATEST, "updated_at": OLDEST},
        {"event_type": "SIM/Updated", "updated_at": NEWER},
        {"event_type": LATEST, "updated_at": NEWER, "resources": ["i_account:2"]},
    ],
    ids=["an older one", "one that writes nothing", "one of another subscriber"],
)


@NOT_NEWER
async def test_event_that_is_not_newer_is_not_behind(bench: Bench, other: dict[str, Any]) -> None:
    await bench.keep(event("head", event_type=LATEST, updated_at=OLDER))
    head = await bench.take()
    await bench.keep(event(**other))
    assert (await bench.journal.newest(head, MARK)).behind is None


@NOT_NEWER
async def test_event_that_is_not_newer_wakes_nobody(bench: Bench, other: dict[str, Any]) -> None:
    await bench.keep(event("head", event_type=LATEST, updated_at=OLDER))
    await bench.settle(await bench.take(), waiting())
    await bench.keep(event("other", **other))
    assert "head" not in ids(await bench.take_all())


async def test_newcomer_with_a_newer_mark_wakes_a_head_that_waits(bench: Bench) -> None:
    await bench.keep(event("head", event_type=LATEST, updated_at=OLDER))
    await bench.settle(await bench.take(), waiting(1010.0))
    assert await bench.take_if_there() is None
    await bench.keep(event("newer", event_type=LATEST, updated_at=NEWER))
    (woken,) = await bench.take_all()
    assert (woken.event.event_id, woken.attempt, woken.due) == ("head", 2, 1010.0)
    assert await bench.settle(woken, Outcome("superseded", "newer"))
    (newer,) = await bench.take_all()
    assert (newer.event.event_id, newer.due) == ("newer", None)


async def test_head_woken_before_its_time_and_given_back_waits_on(bench: Bench) -> None:
    await bench.keep(event("head", event_type=LATEST, updated_at=OLDER))
    await bench.settle(await bench.take(), waiting(1010.0))
    await bench.keep(event("newer", event_type=LATEST, updated_at=NEWER))
    bench.journal.give_back(await bench.take())
    assert await bench.take_if_there() is None
    await bench.later(10)
    (again,) = await bench.take_all()
    assert (again.event.event_id, again.attempt, again.due) == ("head", 2, None)
    assert await bench.settle(again, DONE)


async def test_newcomer_does_not_wake_a_head_that_is_held(bench: Bench) -> None:
    await bench.keep(event("head", event_type=LATEST, updated_at=OLDER))
    await bench.settle(await bench.take(), HELD)
    await bench.keep(event("newer", event_type=LATEST, updated_at=NEWER))
    assert await bench.take_if_there() is None


async def test_newcomer_wakes_a_replayed_head_that_waits(bench: Bench) -> None:
    await bench.keep(event("head", event_type=LATEST, updated_at=OLDER))
    await bench.settle(await bench.take(), DEAD)
    await bench.journal.command(Command("replay", ["head"]))
    await bench.settle(await bench.take(), waiting())
    await bench.keep(event("newer", event_type=LATEST, updated_at=NEWER))
    assert ids(await bench.take_all()) == ["head"]


async def test_replayed_event_that_is_newer_is_behind(bench: Bench) -> None:
    await bench.keep(event("newer", event_type=LATEST, updated_at=NEWER))
    await bench.settle(await bench.take(), DEAD)
    await bench.keep(event("head", event_type=LATEST, updated_at=OLDER))
    head = await bench.take()
    await bench.journal.command(Command("replay", ["newer"]))
    behind = (await bench.journal.newest(head, MARK)).behind
    assert behind is not None
    assert behind.event_id == "newer"


async def test_replayed_event_that_is_newer_wakes_a_head_that_waits(bench: Bench) -> None:
    await bench.keep(event("newer", event_type=LATEST, updated_at=NEWER))
    await bench.settle(await bench.take(), DEAD)
    await bench.keep(event("head", event_type=LATEST, updated_at=OLDER))
    await bench.settle(await bench.take(), waiting())
    await bench.journal.command(Command("replay", ["newer"]))
    assert ids(await bench.take_all()) == ["head"]


async def test_mark_of_something_by_which_events_are_not_ordered_wakes_nobody_and_is_kept(bench: Bench) -> None:
    elsewhere, mark = "SIM/Elsewhere", Mark("handler", "elsewhere")
    await bench.keep(event("first", event_type=elsewhere, updated_at=OLDER))
    first = await bench.take()
    await bench.keep(event("second", event_type=elsewhere, updated_at=NEWER))
    behind = (await bench.journal.newest(first, mark)).behind
    assert behind is not None
    assert behind.event_id == "second"
    await bench.settle(first, Outcome("done", applied=((mark, behind),)))
    assert (await bench.journal.newest(await bench.take(), mark)).applied == behind


async def test_what_was_applied_is_known_after_a_reopening_and_so_is_what_is_behind(durable: Bench) -> None:
    await durable.keep(event("first", event_type=LATEST, updated_at=OLDER))
    await durable.keep(event("second", event_type=LATEST, updated_at=NEWER))
    first = await durable.take()
    behind = (await durable.journal.newest(first, MARK)).behind
    await durable.reopen()
    first = await durable.take()
    assert (await durable.journal.newest(first, MARK)).behind == behind
    assert behind is not None
    await durable.settle(first, Outcome("done", applied=((MARK, behind),)))
    await durable.reopen()
    assert (await durable.journal.newest(await durable.take(), MARK)).applied == behind
