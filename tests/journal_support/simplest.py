"""The simplest engine there is: it follows the rules of the contract word for word, over one dictionary.

It shows that an engine needs nothing but the contract, and what the others must not do differently. It looks through
everything for every answer, and of an operator's questions it knows those of the contract's tests.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from connector.errors import NoRoom, Stopping
from connector.events.event import Event
from connector.events.snapshot import Snapshot, is_older, snapshot_of
from connector.journal import Entry, Journal, Kept, Mark, Newest, Settled, Step
from connector.journal.commands import HELD, PAUSED, PENDING, WAITING, Command, CommandResult, OpenEvent, Operator
from connector.journal.queries import BodyOf, Series, SeriesOf
from connector.outcome import Outcome

STATES = {"pending": PENDING, "waiting": WAITING, "held": HELD}


@dataclass
class Row:
    """A series of attempts at an event. ``taken``: a worker has it; ``rests``: what it was given back to wait for."""

    entry: Entry
    earlier: int | None
    steps: dict[str, Step] = field(default_factory=dict)
    state: str = "pending"
    due: float | None = None
    reason: str = ""
    taken: bool = False
    rests: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the series has not ended."""
        return self.state in STATES

    def attempt(self, number: int, due: float | None = None) -> None:
        """Begin another attempt: whoever has the entry of the one before settles nothing with it."""
        event = replace(self.entry.event, attempt=number)
        self.entry = Entry(
            event, self.entry.seq, attempt=number, due=due, progress=self.steps, origin=self.entry.origin
        )


class SimplestJournal(Operator, Journal):
    """All series that ever were, in the order of acceptance."""

    durable = False

    def __init__(self, capacity: int, clock: Callable[[], float], marks: Callable[[Event], Sequence[Mark]]) -> None:
        super().__init__(0)
        self._capacity, self._clock, self._marks = capacity, clock, marks
        self._rows: dict[int, Row] = {}
        self._applied: dict[Mark, Snapshot] = {}
        self._holds: set[str] = set()
        self._changed = asyncio.Event()
        self._settled: Settled | None = None

    @property
    def size(self) -> int:
        return len(self._open())

    @property
    def holds(self) -> frozenset[str]:
        return frozenset(self._holds)

    async def lost(self) -> str:
        return await asyncio.Future()

    async def open(self, settled: Settled) -> None:
        self._settled = settled

    async def close(self) -> None:
        self._settled = None

    async def flush(self) -> None:
        self._changed.set()
        await asyncio.sleep(0)

    async def keep(self, event: Event) -> Kept:
        if self._settled is None:
            raise Stopping
        before = next((row for row in reversed(self._rows.values()) if row.entry.event.key == event.key), None)
        if before is not None and before.state != "dead":
            return Kept.DUPLICATE if before.entry.event.raw == event.raw else Kept.CONFLICT
        if self.size >= self._capacity:
            raise NoRoom
        self._begin(event, before)
        return Kept.NEW

    async def take(self) -> Entry:
        while self._holds or not (ready := [row for row in self._open() if self._may_run(row)]):
            self._changed.clear()
            await self._changed.wait()
        ready[0].taken, ready[0].state = True, "pending"
        return ready[0].entry

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        self._applied.update(outcome.applied)
        row = self._rows.get(entry.seq)
        is_current = row is not None and row.entry is entry
        counts = row is not None and is_current and row.is_open
        if row is not None and is_current:
            row.taken = False
        if row is not None and counts:
            row.steps.update({step.handler: step for step in outcome.steps})
            row.state, row.due, row.reason = outcome.state, outcome.due, outcome.reason
            if not outcome.final:
                row.attempt(entry.attempt + 1)
        if self._settled is not None:
            self._settled(entry, outcome, counts)
        self._changed.set()

    def note(self, entry: Entry, step: Step) -> None:
        row = self._rows[entry.seq]
        if row.entry is entry and row.is_open:
            row.steps[step.handler] = step

    def give_back(self, entry: Entry, waits_for: str | None = None) -> None:
        row = self._rows[entry.seq]
        row.taken, row.rests = False, waits_for
        if entry.due is not None and waits_for is None:
            row.state = "waiting"
            row.attempt(entry.attempt)
        self._changed.set()

    def wake(self, waits_for: str, most: int | None = None) -> int:
        woken = [row for row in self._open() if row.rests == waits_for][:most]
        for row in woken:
            row.rests = None
        self._changed.set()
        return len(woken)

    def hold(self, reason: str) -> None:
        self._holds.add(reason)

    def release(self, reason: str) -> None:
        self._holds.discard(reason)
        self._changed.set()

    async def join(self) -> None:
        while any(row.taken or self._may_run(row) for row in self._rows.values()):
            self._changed.clear()
            await self._changed.wait()

    async def newest(self, entry: Entry, mark: Mark) -> Newest:
        mine = self._rows[entry.seq]
        behind = [row for row in self._open() if row.entry.seq > entry.seq and self._is_newer(row, mine, mark)]
        return Newest(self._applied.get(mark), _snapshot(behind[-1]) if behind else None)

    async def ask(self, query: Any) -> Any:
        match query:
            case SeriesOf(event_id=event_id):
                rows = reversed(self._rows.values())
                return [_series(row) for row in rows if row.entry.event.event_id == event_id]
            case BodyOf(seq=seq):
                return self._rows[seq].entry.event.raw
        raise NotImplementedError

    async def command(self, command: Command) -> CommandResult:
        result = self.run(command)
        self._changed.set()
        return result

    def note_target(self, reason: str) -> None:
        """Nobody asks for it."""

    def latest(self, event_id: str) -> Sequence[int]:
        of_key = {row.entry.event.key: seq for seq, row in self._rows.items() if row.entry.event.event_id == event_id}
        return sorted(of_key.values())

    def find(self, seq: int) -> OpenEvent | None:
        row = self._rows[seq]
        return OpenEvent(seq, STATES[row.state], row.entry.attempt, len(self._before(row))) if row.is_open else None

    def first(self, resource: str) -> OpenEvent | None:
        found = [row for row in self._open() if resource in row.entry.event.resources]
        return self.find(found[0].entry.seq) if found else None

    def reason(self, seq: int) -> str:
        return self._rows[seq].reason

    def copy(self, seq: int, whole: bool) -> int | None:
        event = replace(self._rows[seq].entry.event, attempt=1, accepted_at=self._clock())
        return self._begin(event, self._rows[seq], whole).entry.seq

    def end(self, event: OpenEvent, state: str, reason: str) -> Sequence[int]:
        self._rows[event.seq].state, self._rows[event.seq].reason = state, reason
        return ()

    def give_up_dead(self, seq: int, note: str) -> bool:
        row = self._rows[seq]
        if row.state != "dead":
            return False
        row.state, row.reason = "ignored", f"{note}: {row.reason}"
        return True

    def try_now(self, seq: int) -> None:
        self._rows[seq].state = "pending"

    def pause(self, paused: bool) -> None:
        (self.hold if paused else self.release)(PAUSED)

    def _open(self) -> list[Row]:
        return [row for row in self._rows.values() if row.is_open]

    def _begin(self, event: Event, before: Row | None, whole: bool = False) -> Row:
        seq = len(self._rows) + 1
        row = self._rows[seq] = Row(
            Entry(event, seq, origin=before.entry.origin if before else None), before.entry.seq if before else None
        )
        if before is not None and before.state == "dead" and not whole:
            row.steps |= {name: step for name, step in before.steps.items() if step.well}
        row.entry.progress = row.steps
        for mark in self._marks(event):
            head = next((each for each in self._open() if mark.resource in each.entry.event.resources), row)
            if head.state == "waiting" and self._is_newer(row, head, mark):
                head.state = "pending"
                head.attempt(head.entry.attempt, head.due)
        self._changed.set()
        return row

    def _before(self, row: Row) -> list[Row]:
        """What this one waits for: it came earlier, has not left yet and shares a resource with it."""
        mine = set(row.entry.event.resources)
        there = [each for each in self._rows.values() if each.is_open or each.taken]
        return [each for each in there if each.entry.seq < row.entry.seq and mine & set(each.entry.event.resources)]

    def _may_run(self, row: Row) -> bool:
        is_due = row.state == "pending" or (row.state == "waiting" and (row.due or 0.0) <= self._clock())
        return is_due and not row.taken and row.rests is None and not self._before(row)

    def _is_newer(self, one: Row, other: Row, mark: Mark) -> bool:
        both = all(mark in self._marks(row.entry.event) for row in (one, other))
        return both and is_older(_snapshot(other), _snapshot(one))


def _snapshot(row: Row) -> Snapshot:
    event = row.entry.event
    found = snapshot_of(event, row.entry.seq, row.entry.origin)
    assert found is not None
    return found


def _series(row: Row) -> Series:
    entry, event = row.entry, row.entry.event
    resources, accepted = list(event.resources), event.accepted_at
    trace = (event.request_id, event.unique_id)
    of_event = (entry.seq, event.event_id, event.event_type, resources, row.state, accepted)
    return Series(*of_event, None, entry.attempt, row.reason, row.due, 0, *trace, row.earlier)
