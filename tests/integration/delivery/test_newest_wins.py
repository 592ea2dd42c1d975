"""Promise 4: a ``latest_only`` handler never applies a snapshot older than one already applied."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector import DeadLetter, Event, Retry, on
from connector.outcome import RetryPolicy
from tests.delivering import Delivery, delivering
from tests.journal_support.faulty_disk import IN_MEMORY

SLOW = RetryPolicy(base=100.0, longest=600.0, max_attempts=50, max_age=1e9)


def at(second: int | None) -> str | None:
    """A time of day as ``updated_at`` has it."""
    return None if second is None else f"1970-01-01T00:00:{second:02d}+00:00"


class Applied:
    """What a handler wrote to the external system, in order; ``gates`` hold it back, ``failures`` let it fail."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.ran: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.failures: dict[str, int] = {}

    def handler(self) -> Callable[[Event], Awaitable[None]]:
        @on("SIM/Updated", latest_only=True)
        async def apply(event: Event) -> None:
            self.ran.append(event.event_id)
            if gate := self.gates.get(event.event_id):
                await gate.wait()
            if event.attempt <= self.failures.get(event.event_id, 0):
                raise Retry("not yet")
            self.ids.append(event.event_id)

        return apply


async def accept(delivery: Delivery, event_id: str, updated: int | None, i_account: int = 1) -> None:
    await delivery.accept(event_id, i_account, updated_at=at(updated))


async def test_older_event_that_comes_after_a_newer_one_was_applied_is_superseded(tmp_path: Path) -> None:
    applied = Applied()
    async with delivering(tmp_path, applied.handler()) as delivery:
        await accept(delivery, "new", 2)
        await delivery.become(new="done")
        await delivery.restart()
        await accept(delivery, "old", 1)
        await accept(delivery, "other subscriber", 1, 2)
        await delivery.become(old="superseded", **{"other subscriber": "done"})
        assert delivery.find(state="superseded")[0].reason == "new"
        assert delivery.find(state="superseded")[0].attempts == 0
    assert applied.ids == ["new", "other subscriber"]


async def test_older_queued_events_are_superseded_without_being_run(tmp_path: Path) -> None:
    applied = Applied()
    applied.gates["running"] = asyncio.Event()
    async with delivering(tmp_path, applied.handler()) as delivery:
        await accept(delivery, "running", 1)
        await delivery.until(lambda: delivery.workers.running == 1)
        for number in range(2, 40):
            await accept(delivery, f"{number}", number)
        applied.gates["running"].set()
        await delivery.become(**{"39": "done"})
        assert {series.reason for series in delivery.find(state="superseded")} == {"39"}
    assert applied.ran == ["running", "39"]


async def test_waiting_event_is_superseded_at_once_when_a_newer_one_is_accepted(tmp_path: Path) -> None:
    applied = Applied()
    applied.failures["old"] = 99
    async with delivering(tmp_path, applied.handler(), policy=SLOW) as delivery:
        await accept(delivery, "old", 1)
        await delivery.become(old="waiting")
        await accept(delivery, "new", 2)
        await delivery.become(old="superseded", new="done")
        assert delivery.find()[0].reason == "new"
        assert delivery.find()[0].attempts == 1
    assert applied.ran == ["old", "new"]


async def test_waiting_event_goes_on_waiting_when_an_older_one_is_accepted(tmp_path: Path) -> None:
    applied = Applied()
    applied.failures["new"] = 1
    async with delivering(tmp_path, applied.handler(), policy=SLOW) as delivery:
        await accept(delivery, "new", 2)
        await delivery.become(new="waiting")
        await accept(delivery, "old", 1)
        await delivery.quiet()
        assert delivery.states() == {"new": "waiting", "old": "pending"}
        await delivery.later(200.0)
        await delivery.become(new="done", old="superseded")
    assert applied.ids == ["new"]


async def test_held_event_stays_held_when_a_newer_one_is_accepted(tmp_path: Path) -> None:
    @on("SIM/Updated", latest_only=True)
    async def refuse(event: Event) -> None:
        if event.event_id == "bad":
            raise DeadLetter("never")

    async with delivering(tmp_path, refuse, hold_dead=True, policy=SLOW) as delivery:
        await accept(delivery, "bad", 1)
        await delivery.become(bad="held")
        await accept(delivery, "new", 2)
        await delivery.quiet()
        assert delivery.states() == {"bad": "held", "new": "pending"}
        await delivery.command("skip", "i_account:1")
        await delivery.become(new="done")


async def test_body_that_cannot_be_read_any_more_ends_its_event_and_not_the_connector(tmp_path: Path) -> None:
    @on("SIM/Updated", latest_only=True, max_attempts=1)
    async def reads(event: Event) -> str:
        return event.data.event_type

    async with delivering(tmp_path, reads) as delivery:
        await delivery.command("pause")
        for event_id, i_account in (("before", 1), ("rotten", 1), ("after", 1), ("other", 2)):
            await accept(delivery, event_id, 1, i_account)
        await delivery.stop()
        with closing(sqlite3.connect(delivery.path)) as db, db:
            db.execute("UPDATE events SET body = substr(body, 2) WHERE event_id = 'rotten'")
        await delivery.start()
        await delivery.command("resume")
        await delivery.become(before="superseded", rotten="dead", after="done", other="done")


async def test_event_is_not_superseded_by_one_that_was_discarded(tmp_path: Path) -> None:
    applied = Applied()
    async with delivering(tmp_path, applied.handler()) as delivery:
        await delivery.command("pause")
        await accept(delivery, "old", 1)
        await accept(delivery, "new", 2)
        await delivery.command("discard", "new")
        await delivery.command("resume")
        await delivery.become(old="done", new="ignored")


async def test_events_of_another_handler_supersede_nothing(tmp_path: Path) -> None:
    applied = Applied()

    @on("*")
    async def rest(_: Event) -> None: ...

    async with delivering(tmp_path, applied.handler(), rest) as delivery:
        await delivery.accept("new", updated_at=at(2), event_type="Other/Type")
        await accept(delivery, "old", 1)
        await delivery.become(new="done", old="done")


async def test_replay_of_what_was_applied_last_runs_and_of_what_came_before_does_not(tmp_path: Path) -> None:
    applied = Applied()
    async with delivering(tmp_path, applied.handler()) as delivery:
        for number in (1, 2):
            await accept(delivery, f"{number}", number)
            await delivery.quiet()
        await delivery.command("replay", "1", "2")
        await delivery.quiet()
        assert [each.state for each in delivery.find()] == ["done", "done", "superseded", "done"]
    assert applied.ids == ["1", "2", "2"]


async def test_replay_of_an_event_does_not_overwrite_a_later_one_of_the_same_time(tmp_path: Path) -> None:
    applied = Applied()
    async with delivering(tmp_path, applied.handler()) as delivery:
        for event_id in ("first", "second"):
            await accept(delivery, event_id, 1)
            await delivery.quiet()
        await delivery.command("replay", "first")
        await delivery.quiet()
        await delivery.command("replay", "second")
        await delivery.quiet()
        assert [each.state for each in delivery.find()] == ["done", "done", "superseded", "done"]
    assert applied.ids == ["first", "second", "second"]


class Sent(NamedTuple):
    """An event as it is sent: its times (None: missing), how often it fails, and whether a restart follows."""

    times: tuple[int | None, int | None, int | None]
    failures: int
    restart: bool


SECONDS = st.integers(0, 4)


@st.composite
def histories(draw: st.DrawFn, *, mixed: bool) -> list[Sent]:
    """Events of a subscriber in the order of acceptance; ``mixed``: each has other times."""
    there = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    events = []
    for _ in range(draw(st.integers(2, 7))):
        has = draw(st.tuples(st.booleans(), st.booleans(), st.booleans())) if mixed else there
        times: Any = tuple(draw(SECONDS) if each else None for each in has)
        events.append(Sent(times, draw(st.sampled_from((0, 0, 1, 2))), draw(st.integers(0, 4)) == 0))
    return events


async def deliver(sent: Sequence[Sent]) -> tuple[list[int], dict[int, tuple[str, str]]]:
    """What was applied in order, and state and reason of each, by place in ``sent``."""
    applied = Applied()
    with TemporaryDirectory(dir=IN_MEMORY) as folder:
        async with delivering(Path(folder), applied.handler(), queue_size=4) as delivery:
            for place, event in enumerate(sent):
                updated, created, happened = event.times
                applied.failures[f"{place}"] = event.failures
                variables = {} if happened is None else {"event_time": f"1970-01-01 00:00:{happened:02d}"}
                await delivery.accept(
                    f"{place}",
                    updated_at=at(updated),
                    created_at=at(created),
                    data={"event_type": "SIM/Updated", "variables": variables},
                )
                if event.restart:
                    await delivery.restart()
            await delivery.until(lambda: delivery.journal.size == 0)
            ended = {int(each.event_id): (each.state, each.reason) for each in delivery.find()}
    return [int(name) for name in applied.ids], ended


BOUNDED = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@BOUNDED
@given(histories(mixed=False))
def test_external_state_ends_at_the_newest_and_never_goes_back(sent: list[Sent]) -> None:
    applied, ended = asyncio.run(deliver(sent))

    def age(place: int) -> tuple[Any, ...]:
        return (*(time or 0 for time in sent[place].times), place)

    assert applied == sorted(applied, key=age)
    assert applied[-1] == max(range(len(sent)), key=age)
    for place, (state, reason) in ended.items():
        if place in applied:
            assert state == "done"
        else:
            assert state == "superseded"
            assert age(int(reason)) > age(place)
    assert len(ended) == len(sent)


@BOUNDED
@given(histories(mixed=True))
def test_no_time_is_undone_where_events_have_different_ones(sent: list[Sent]) -> None:
    """Such events are in no order; ``updated_at`` never goes back, and each event still ends."""
    applied, ended = asyncio.run(deliver(sent))
    updated = [time for place in applied if (time := sent[place].times[0]) is not None]
    assert updated == sorted(updated)
    assert {state for state, _ in ended.values()} <= {"done", "superseded"}
    assert len(ended) == len(sent)
