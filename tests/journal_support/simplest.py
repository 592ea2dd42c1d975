"""The simplest engine there is: it follows the rules of the contract word for word, over one dictionary.

It shows that an engine needs nothing but the contract, and what the others must not do differently. It looks through
everything for every answer.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from connector.errors import NoRoom, Stopping
from connector.events.event import Event
from connector.events.snapshot import Snapshot, after, is_older, snapshot_of
from connector.journal import Entry, Journal, Kept, Mark, Newest, Settled, Step
from connector.journal.commands import HELD, PAUSED, PENDING, WAITING, Command, CommandResult, OpenEvent, Operator
from connector.journal.plain import Delivery, Past, answer, bears
from connector.journal.queries import Attempt, Query, Series, TargetAway
from connector.outcome import Outcome

STATES = {"pending": PENDING, "waiting": WAITING, "held": HELD}


@dataclass
class Row:
    """A series of attempts at an event. ``taken``: a worker has it; ``rests``: what it was given back to wait for."""

    entry: Entry
    earlier: int | None
    steps: dict[str, Step] = field(default_factory=dict)
    failed: list[Attempt] = field(default_factory=list)
    state: str = "pending"
    due: float | None = None
    ended_at: float | None = None
    attempts: int = 0
    reason: str = ""
    ms: int = 0
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

    def end(self, state: str, reason: str, now: float) -> None:
        """End the series."""
        self.state, self.reason, self.due, self.ended_at = state, reason, None, now

    def settle(self, outcome: Outcome, now: float) -> None:
        """End an attempt."""
        self.steps.update({step.handler: step for step in outcome.steps})
        self.attempts, self.ms = self.entry.attempt - (outcome.state == "superseded"), outcome.ms
        if outcome.final:
            self.end(outcome.state, outcome.reason, now)
            return
        self.state, self.reason, self.due = outcome.state, outcome.reason, outcome.due
        self.failed.append(Attempt(self.entry.attempt, now, outcome.ms, outcome.reason))
        self.attempt(self.entry.attempt + 1)

    def past(self) -> Past:
        """What an operator is told of it."""
        event = self.entry.event
        about = (self.entry.seq, event.event_id, event.event_type, [*event.resources], self.state, event.accepted_at)
        tried = (self.ended_at, self.attempts, self.reason, self.due, self.ms)
        series = Series(*about, *tried, event.request_id, event.unique_id, self.earlier)
        return Past(series, self.failed, self.steps, event.raw)


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
        self._counts: Counter[str] = Counter()
        self._away: TargetAway | None = None

    @property
    def size(self) -> int:
        return len(self._open())

    @property
    def holds(self) -> frozenset[str]:
        return frozenset(self._holds)

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
            self._counts["duplicate"] += 1
            return Kept.DUPLICATE if before.entry.event.raw == event.raw else Kept.CONFLICT
        if self.size >= self._capacity:
            raise NoRoom
        self._begin(event, before)
        self._counts["accepted"] += 1
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
            row.settle(outcome, self._clock())
            self._counts["retried" if outcome.state == "waiting" else outcome.state] += 1
        if self._settled is not None:
            self._settled(entry, outcome, counts)
        self._changed.set()

    def note(self, entry: Entry, step: Step, applied: Sequence[tuple[Mark, Snapshot]] = ()) -> None:
        self._applied.update(applied)
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

    async def ask(self, query: Query[Any]) -> Any:
        counts = self._counts + self.change.counts
        delivery = Delivery(PAUSED in self._holds, self._away, counts)
        return answer(query, [row.past() for row in self._rows.values()], delivery)

    async def command(self, command: Command) -> CommandResult:
        result = self.run(command)
        self._changed.set()
        return result

    def note_target(self, reason: str) -> None:
        since = self._away.since if self._away else self._clock()
        self._away = TargetAway(reason, since) if reason else None

    def latest(self, event_id: str) -> Sequence[int]:
        of_key = {row.entry.event.key: seq for seq, row in self._rows.items() if row.entry.event.event_id == event_id}
        return sorted(of_key.values())

    def find(self, seq: int) -> OpenEvent | None:
        row = self._rows[seq]
        if not row.is_open:
            return None
        entry = row.entry
        return OpenEvent(seq, STATES[row.state], entry.attempt, len(self._before(row)), len(entry.event.raw))

    def first(self, resource: str) -> OpenEvent | None:
        found = [row for row in self._open() if bears(row.entry.event.resources, resource)]
        return self.find(found[0].entry.seq) if found else None

    def reason(self, seq: int) -> str:
        return self._rows[seq].reason

    def copy(self, seq: int, whole: bool) -> int | None:
        event = replace(self._rows[seq].entry.event, attempt=1, accepted_at=self._clock())
        return self._begin(event, self._rows[seq], whole).entry.seq

    def end(self, event: OpenEvent, state: str, reason: str) -> Sequence[int]:
        row = self._rows[event.seq]
        row.end(state, reason, self._clock())
        for mark in self._marks(row.entry.event) if row.taken else ():
            mine, before = _snapshot(row), self._applied.get(mark)
            if before is None or not is_older(mine, before):
                self._applied[mark] = after(mine, before)
        return ()

    def give_up_dead(self, seq: int, note: str) -> bool:
        row = self._rows[seq]
        if row.state != "dead":
            return False
        row.state, row.reason = "ignored", f"{note}: {row.reason}"
        return True

    def try_now(self, seq: int) -> None:
        self._rows[seq].state = "pending"

    def clear_newest(self, resource: str) -> int:
        found = [mark for mark in self._applied if mark.resource == resource]
        for mark in found:
            del self._applied[mark]
        return len(found)

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
