"""Whatever is done to a journal in whatever order, it answers as a simple model does."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connector.errors import NoRoom
from connector.events.event import Event
from connector.outcome import Outcome
from tests.journal_support.engines import CAPACITY, Bench
from tests.journal_support.events import event
from tests.journal_support.faulty_disk import IN_MEMORY

Result = TypeVar("Result")

IDS = st.integers(1, 70).map(lambda number: f"event-{number}")
LANES = st.integers(1, 4).map(lambda number: f"lane:{number}")
OUTCOMES = st.one_of(
    st.sampled_from([Outcome("done"), Outcome("ignored"), Outcome("superseded"), Outcome("dead"), Outcome("held")]),
    st.integers(0, 20).map(lambda delay: Outcome("waiting", due=1000.0 + delay)),
)


@dataclass(frozen=True)
class Open:
    """What the model knows of an open event. ``due`` and ``parked`` are of the attempt that is next."""

    event_id: str
    lane: str
    attempt: int = 1
    parked: bool = False
    due: float | None = None


class JournalMachine(RuleBasedStateMachine):
    """A journal and its model."""

    engine = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory(dir=IN_MEMORY)
        self.runner = asyncio.Runner()
        self.bench = self._run(self._open())
        self.seq = 0
        self.open: dict[int, Open] = {}
        self.ended_well: set[str] = set()
        self.in_hand: list[Event] = []

    async def _open(self) -> Bench:
        bench = Bench(self.engine, Path(self.folder.name))
        await bench.open()
        return bench

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def teardown(self) -> None:
        self._run(self.bench.journal.close())
        self.runner.close()
        self.folder.cleanup()

    @rule(event_id=IDS, lane=LANES)
    def append(self, event_id: str, lane: str) -> None:
        known = event_id in self.ended_well or any(each.event_id == event_id for each in self.open.values())
        new = event(event_id, lane)
        if len(self.open) >= CAPACITY:
            if not known:
                with pytest.raises(NoRoom):
                    self._run(self.bench.journal.append(new))
            return
        assert self._run(self.bench.journal.append(new)) is not known
        if not known:
            self.seq += 1
            assert new.seq == self.seq
            self.open[new.seq] = Open(event_id, lane)
            self.in_hand.append(new)

    @rule(ids=st.lists(IDS, min_size=2, max_size=30), lane=LANES)
    def append_together(self, ids: list[str], lane: str) -> None:
        if len(self.open) + len(ids) > CAPACITY:
            return
        events = [event(event_id, lane) for event_id in ids]

        async def together() -> list[bool]:
            return await asyncio.gather(*(self.bench.journal.append(each) for each in events))

        open_ids = {each.event_id for each in self.open.values()}
        for each, new in zip(events, self._run(together()), strict=True):
            assert new is not (each.event_id in self.ended_well or each.event_id in open_ids)
            if new:
                self.seq += 1
                assert each.seq == self.seq
                open_ids.add(each.event_id)
                self.open[each.seq] = Open(each.event_id, lane)
                self.in_hand.append(each)

    @precondition(lambda self: self.in_hand)
    @rule(place=st.integers(0, 1000), outcome=OUTCOMES)
    def settle(self, place: int, outcome: Outcome) -> None:
        each = self.in_hand[place % len(self.in_hand)]
        known = self.open.get(each.seq)
        counts = known is not None and known.attempt == each.attempt
        assert self._run(self.bench.settle(each, outcome)) is counts
        if not counts or known is None:
            return
        if not outcome.final:
            self.open[each.seq] = replace(known, attempt=known.attempt + 1, parked=True, due=outcome.due)
            return
        del self.open[each.seq]
        if outcome.state != "dead":
            self.ended_well.add(each.event_id)

    @rule(now=st.integers(0, 20).map(lambda passed: 1000.0 + passed), limit=st.integers(1, 4))
    def claim_due(self, now: float, limit: int) -> None:
        lanes, next_due = self._run(self.bench.journal.claim_due(now, limit))
        waiting = sorted((each.due, seq) for seq, each in self.open.items() if each.parked and each.due is not None)
        due = [seq for when, seq in waiting if when <= now]
        assert len(lanes) == min(limit, len(due))
        times = sorted(when for when, _ in waiting)[len(lanes) :]
        assert next_due == (times[0] if times else None)
        left = set(self._run(self.bench.journal.parked_lanes()))
        for lane in lanes:
            first = next(seq for _, seq in waiting if self.open[seq].lane == lane and self.open[seq].parked)
            self.open[first] = replace(self.open[first], parked=False, due=None)
        assert left == self._parked()

    @rule(after=st.integers(0, 60), limit=st.integers(1, 60))
    def read(self, after: int, limit: int) -> None:
        page = self._run(self.bench.journal.read(after, limit))
        wanted = [seq for seq in sorted(self.open) if seq > after][:limit]
        assert [each.seq for each in page.events] == wanted
        assert page.upto == (wanted[-1] if len(wanted) == limit else self.seq)
        self._same(page.events)

    @rule(lanes=st.sets(LANES, min_size=1), upto=st.integers(0, 60), limit=st.integers(1, 5))
    def read_lanes(self, lanes: set[str], upto: int, limit: int) -> None:
        found = self._run(self.bench.journal.read_lanes(sorted(lanes), upto, limit))
        for lane in lanes:
            wanted = [seq for seq, each in sorted(self.open.items()) if each.lane == lane and seq <= upto][:limit]
            assert [each.seq for each in found.get(lane, ())] == wanted
            self._same(found.get(lane, ()))
            self.in_hand += found.get(lane, ())

    @precondition(lambda self: self.bench.durable)
    @rule()
    def reopen(self) -> None:
        assert self._run(self.bench.reopen()) == self.seq

    @invariant()
    def counters_and_parked_lanes_are_right(self) -> None:
        assert self.bench.journal.size == len(self.open)
        assert set(self._run(self.bench.journal.parked_lanes())) == self._parked()

    def _parked(self) -> set[str]:
        return {each.lane for each in self.open.values() if each.parked}

    def _same(self, events: Any) -> None:
        for each in events:
            known = self.open[each.seq]
            assert (each.event_id, each.lane, each.attempt) == (known.event_id, known.lane, known.attempt)


class MemoryMachine(JournalMachine):
    engine = "memory"


class SqliteMachine(JournalMachine):
    engine = "sqlite"


def _case(machine: type[JournalMachine], examples: int) -> Callable[..., Any]:
    case = machine.TestCase
    case.settings = settings(max_examples=examples, stateful_step_count=40, deadline=None)
    return case


TestMemory = _case(MemoryMachine, 60)
TestSqlite = _case(SqliteMachine, 25)
