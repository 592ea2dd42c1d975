"""The journal's contract, held against every engine. The numbers are those of the invariants in connector.journal."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector.errors import NoRoom, Stopping
from connector.outcome import Outcome
from tests.journal_support.engines import CAPACITY, DEAD, DONE, HELD, Bench, waiting
from tests.journal_support.events import event


@pytest.fixture(params=["memory", "sqlite"])
async def bench(request: pytest.FixtureRequest, memory_disk: Path) -> AsyncIterator[Bench]:
    bench = Bench(request.param, memory_disk)
    assert await bench.open() == 0
    yield bench
    await bench.journal.close()


@pytest.fixture
async def durable(bench: Bench) -> Bench:
    if not bench.durable:
        pytest.skip("the engine keeps nothing over a stop")
    return bench


async def test_new_event_is_stored_and_counted(bench: Bench) -> None:
    first = event()
    assert await bench.journal.append(first)
    assert (first.seq, bench.journal.size) == (1, 1)
    assert bench.heard.log == [("stored", 1)]


async def test_id_of_event_that_is_open_is_a_duplicate(bench: Bench) -> None:
    await bench.journal.append(event("same"))
    again = event("same")
    assert not await bench.journal.append(again)
    assert (again.seq, bench.journal.size) == (0, 1)
    assert bench.heard.log == [("stored", 1)]


@pytest.mark.parametrize("outcome", [waiting(), HELD], ids=lambda outcome: outcome.state)
async def test_id_of_event_that_waits_or_is_held_is_a_duplicate(bench: Bench, outcome: Outcome) -> None:
    first = event("same")
    await bench.journal.append(first)
    assert await bench.settle(first, outcome)
    assert not await bench.journal.append(event("same"))
    assert bench.journal.size == 1


@pytest.mark.parametrize("state", ["done", "ignored", "superseded"])
async def test_id_of_event_that_ended_well_is_a_duplicate(bench: Bench, state: str) -> None:
    first = event("same")
    await bench.journal.append(first)
    assert await bench.settle(first, Outcome(state))  # type: ignore[arg-type]
    assert not await bench.journal.append(event("same"))
    assert bench.journal.size == 0


@pytest.mark.parametrize("outcome", [None, DONE, waiting(), HELD], ids=["open", "done", "waiting", "held"])
async def test_id_is_a_duplicate_after_reopening(durable: Bench, outcome: Outcome | None) -> None:
    first = event("same")
    await durable.journal.append(first)
    if outcome:
        await durable.settle(first, outcome)
    size = durable.journal.size
    assert await durable.reopen() == 1
    assert not await durable.journal.append(event("same"))
    assert durable.journal.size == size


async def test_one_of_twenty_copies_sent_at_the_same_instant_is_stored(bench: Bench) -> None:
    new = await asyncio.gather(*(bench.journal.append(event("same")) for _ in range(20)))
    assert sorted(new) == [False] * 19 + [True]
    assert bench.journal.size == len(bench.heard.stored_events) == 1
    assert await bench.open_ids() == ["same"]


async def test_id_of_dead_event_begins_a_new_series(bench: Bench) -> None:
    first, second = event("same"), event("same")
    await bench.journal.append(first)
    await bench.settle(first, DEAD)
    assert await bench.journal.append(second)
    assert not await bench.journal.append(event("same"))
    assert (second.seq, second.attempt, bench.journal.size) == (2, 1, 1)


async def test_id_of_dead_event_begins_a_new_series_after_reopening(durable: Bench) -> None:
    first = event("same")
    await durable.journal.append(first)
    await durable.settle(first, DEAD)
    await durable.reopen()
    assert await durable.journal.append(event("same"))
    await durable.settle(durable.heard.stored_events[0], DONE)
    await durable.reopen()
    assert not await durable.journal.append(event("same"))


async def test_sequence_numbers_follow_the_order_of_acceptance(bench: Bench) -> None:
    events = [event() for _ in range(30)]
    await asyncio.gather(*(bench.journal.append(each) for each in events))
    assert [each.seq for each in events] == list(range(1, 31))
    assert [each.seq for each in bench.heard.stored_events] == list(range(1, 31))
    assert await bench.open_ids() == [each.event_id for each in events]


async def test_sequence_number_is_not_used_again_when_its_event_has_ended(bench: Bench) -> None:
    first, second = event(), event()
    await bench.journal.append(first)
    await bench.settle(first, DONE)
    await bench.journal.append(second)
    assert second.seq > first.seq


async def test_refusal_for_want_of_room_leaves_no_trace(bench: Bench) -> None:
    events = [event() for _ in range(CAPACITY)]
    await asyncio.gather(*(bench.journal.append(each) for each in events))
    heard = list(bench.heard.log)
    with pytest.raises(NoRoom):
        await bench.journal.append(event("refused"))
    assert (bench.journal.size, bench.heard.log) == (CAPACITY, heard)
    await bench.settle(events[0], DONE)
    assert await bench.journal.append(event("refused"))


async def test_requests_at_the_same_instant_do_not_exceed_the_capacity(bench: Bench) -> None:
    async def append() -> bool:
        await asyncio.sleep(0)
        try:
            return await bench.journal.append(event())
        except NoRoom:
            return False

    started: list[asyncio.Task[bool]] = []
    for _ in range(3 * CAPACITY):  # while earlier ones are being written, later ones arrive
        started.append(asyncio.create_task(append()))
        await asyncio.sleep(0)
    assert sum(await asyncio.gather(*started)) == CAPACITY
    assert bench.journal.size == CAPACITY


async def test_settling_twice_counts_once(bench: Bench) -> None:
    first = event()
    await bench.journal.append(first)
    assert await bench.settle(first, DONE)
    assert not await bench.settle(first, DEAD)
    assert bench.journal.size == 0
    assert not await bench.journal.append(event(first.event_id))


@pytest.mark.parametrize("outcome", [DONE, waiting(), HELD], ids=lambda outcome: outcome.state)
async def test_attempt_that_is_not_the_current_one_settles_nothing(bench: Bench, outcome: Outcome) -> None:
    first = event()
    await bench.journal.append(first)
    assert await bench.settle(first, waiting())
    assert not await bench.settle(first, outcome)
    (later,) = (await bench.journal.read_lanes([first.lane], first.seq, 9))[first.lane]
    assert (later.attempt, bench.journal.size) == (2, 1)
    assert await bench.settle(later, DONE)
    assert bench.journal.size == 0


async def test_twice_in_one_transaction_counts_once(bench: Bench) -> None:
    first = event()
    await bench.journal.append(first)
    bench.journal.settle(first, DONE)
    bench.journal.settle(first, DONE)
    await bench.heard.until(lambda: len(bench.heard.settled_events) == 2)
    assert [kept for _, _, kept in bench.heard.settled_events] == [True, False]
    assert bench.journal.size == 0


async def test_event_that_was_never_stored_cannot_be_settled(bench: Bench) -> None:
    stranger = event()
    stranger.seq = 7
    assert not await bench.settle(stranger, DONE)
    assert bench.journal.size == 0


async def test_listener_hears_everything_in_order(bench: Bench) -> None:
    first, second = event(), event()
    await bench.journal.append(first)
    bench.journal.settle(first, waiting())
    await bench.journal.append(second)
    bench.journal.settle(second, DONE)
    await bench.heard.until(lambda: len(bench.heard.log) == 4)
    stored = [seq for what, seq in bench.heard.log if what == "stored"]
    settled = [(what, seq) for what, seq in bench.heard.log if what != "stored"]
    assert (stored, settled) == ([1, 2], [("waiting", 1), ("done", 2)])


async def test_reading_goes_on_after_a_sequence_number(bench: Bench) -> None:
    events = [event() for _ in range(10)]
    for each in events:
        await bench.journal.append(each)
    page = await bench.journal.read(0, 4)
    assert ([each.seq for each in page.events], page.upto) == ([1, 2, 3, 4], 4)
    await bench.settle(events[5], DONE)
    page = await bench.journal.read(4, 100)
    assert ([each.seq for each in page.events], page.upto) == ([5, 7, 8, 9, 10], 10)
    page = await bench.journal.read(10, 100)
    assert (list(page.events), page.upto) == ([], 10)


async def test_page_says_that_ended_events_up_to_the_newest_were_seen(bench: Bench) -> None:
    last = event()
    await bench.journal.append(last)
    await bench.settle(last, DONE)
    assert await bench.journal.read(0, 5) == ([], 1)


async def test_event_comes_back_as_it_was_accepted(bench: Bench) -> None:
    first = event("a ’quoted’ id", "imsi:00101")
    await bench.journal.append(first)
    ((back,), _) = await bench.journal.read(0, 5)
    for name in ("event_id", "event_type", "lane", "request_id", "unique_id", "accepted_at", "raw", "seq", "attempt"):
        assert getattr(back, name) == getattr(first, name)


async def test_first_events_of_lanes_are_read_up_to_a_sequence_number(bench: Bench) -> None:
    for number in range(12):
        await bench.journal.append(event(lane=f"lane:{number % 3}"))
    found = await bench.journal.read_lanes(["lane:0", "lane:2", "lane:none"], 9, 2)
    assert {lane: [each.seq for each in events] for lane, events in found.items() if events} == {
        "lane:0": [1, 4],
        "lane:2": [3, 6],
    }


async def test_lanes_whose_head_waits_or_is_held_are_parked(bench: Bench) -> None:
    events = {name: event(lane=f"lane:{name}") for name in ("waits", "held", "runs")}
    for each in events.values():
        await bench.journal.append(each)
    await bench.settle(events["waits"], waiting())
    await bench.settle(events["held"], HELD)
    assert sorted(await bench.journal.parked_lanes()) == ["lane:held", "lane:waits"]


async def test_waiting_event_is_claimed_when_it_is_due_and_not_before(bench: Bench) -> None:
    early, late, held = event(lane="lane:early"), event(lane="lane:late"), event(lane="lane:held")
    for each, outcome in ((early, waiting(1010.0)), (late, waiting(1020.0)), (held, HELD)):
        await bench.journal.append(each)
        await bench.settle(each, outcome)
    assert await bench.journal.claim_due(1009.9, 9) == ([], 1010.0)
    assert await bench.journal.claim_due(1010.0, 9) == (["lane:early"], 1020.0)
    assert await bench.journal.claim_due(1010.0, 9) == ([], 1020.0)
    assert sorted(await bench.journal.parked_lanes()) == ["lane:held", "lane:late"]
    assert await bench.journal.claim_due(9999.0, 9) == (["lane:late"], None)
    assert bench.journal.size == 3


async def test_no_more_than_the_limit_is_claimed_and_the_rest_is_due_at_once(bench: Bench) -> None:
    for number in range(5):
        each = event(lane=f"lane:{number}")
        await bench.journal.append(each)
        await bench.settle(each, waiting(1000.0 + number))
    assert await bench.journal.claim_due(1004.0, 2) == (["lane:0", "lane:1"], 1002.0)


async def test_waiting_event_keeps_its_time_and_attempt_over_a_reopening(durable: Bench) -> None:
    first = event()
    await durable.journal.append(first)
    await durable.settle(first, waiting(1010.0))
    await durable.reopen()
    assert await durable.journal.parked_lanes() == [first.lane]
    assert await durable.journal.claim_due(1005.0, 9) == ([], 1010.0)
    (back,) = (await durable.journal.read_lanes([first.lane], 1, 9))[first.lane]
    assert back.attempt == 2


async def test_event_whose_client_has_gone_is_stored_and_handed_on(bench: Bench) -> None:
    request = asyncio.create_task(bench.journal.append(event("gone")))
    await asyncio.sleep(0)
    request.cancel()
    await bench.heard.until(lambda: bool(bench.heard.stored_events))
    assert await bench.open_ids() == ["gone"]
    assert bench.journal.size == 1
    assert not await bench.journal.append(event("gone"))


async def test_closing_keeps_what_is_under_way(durable: Bench) -> None:
    first = event()
    await durable.journal.append(first)
    durable.journal.settle(first, DONE)
    requests = [asyncio.create_task(durable.journal.append(event())) for _ in range(3)]
    await asyncio.sleep(0)
    await durable.reopen()
    assert await asyncio.gather(*requests) == [True] * 3
    assert durable.journal.size == 3


async def test_append_after_closing_is_refused(bench: Bench) -> None:
    await bench.journal.close()
    await bench.journal.close()
    with pytest.raises(Stopping):
        await bench.journal.append(event())


async def test_counter_is_right_after_everything_and_after_reopening(durable: Bench) -> None:
    events = [event(lane=f"lane:{number}") for number in range(8)]
    for each in events:
        await durable.journal.append(each)
    for each, outcome in zip(events, (DONE, DEAD, waiting(), HELD, Outcome("ignored")), strict=False):
        await durable.settle(each, outcome)
    assert durable.journal.size == len(await durable.open_ids()) == 5
    assert await durable.reopen() == 8
    assert durable.journal.size == len(await durable.open_ids()) == 5


async def test_event_in_hand_when_the_process_ended_is_pending_again(durable: Bench) -> None:
    first = event()
    await durable.journal.append(first)
    await durable.reopen()
    ((back,), _) = await durable.journal.read(0, 5)
    assert (back.event_id, back.attempt) == (first.event_id, 1)
    assert await durable.journal.parked_lanes() == []
