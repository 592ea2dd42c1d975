"""The simplest engine there is: it follows the rules of the contract word for word, over one dictionary.

It shows that an engine needs nothing but ``connector.journal``, and what the others must not do differently.
"""

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from connector.errors import NoRoom, Stopping
from connector.events.event import Event
from connector.events.snapshot import Snapshot, is_older, snapshot
from connector.journal import Entry, Journal, Kept, Mark, Newest, Settled, Step
from connector.outcome import Outcome


@dataclass
class Row:
    """An event: open while ``ended`` is None."""

    entry: Entry
    state: str = "pending"
    due: float = 0.0
    taken: bool = False
    ended: str | None = None
    rests: str | None = None


class SimplestJournal(Journal):
    """All rows that ever were, in the order of acceptance."""

    durable = False

    def __init__(self, capacity: int, clock: Callable[[], float], marks: Callable[[Event], Sequence[Mark]]) -> None:
        self._capacity, self._clock, self._marks = capacity, clock, marks
        self._rows: dict[int, Row] = {}
        self._steps: dict[int, dict[str, Step]] = {}
        self._applied: dict[Mark, Snapshot] = {}
        self._holds: set[str] = set()
        self._changed = asyncio.Event()
        self._settled: Settled | None = None

    size = property(lambda self: len(self._open()))  # type: ignore[assignment]
    holds = property(lambda self: frozenset(self._holds))  # type: ignore[assignment]

    async def lost(self) -> str:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

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
        before = [row for row in self._rows.values() if row.entry.event.event_id == event.event_id]
        if before and before[-1].ended != "dead":
            return Kept.DUPLICATE
        if self.size >= self._capacity:
            raise NoRoom
        seq = len(self._rows) + 1
        well = self._steps.get(before[-1].entry.seq, {}) if before else {}
        self._steps[seq] = {name: step for name, step in well.items() if step.well}
        self._rows[seq] = Row(Entry(event, seq, progress=self._steps[seq]))
        for mark in self._marks(event):
            head = next(row for row in self._open() if mark.resource in row.entry.event.resources)
            if (
                head.state == "waiting"
                and mark in self._marks(head.entry.event)
                and self._older(head.entry, event, seq)
            ):
                head.state, head.entry = "pending", self._next(head.entry, head.entry.attempt, head.due)
        self._changed.set()
        return Kept.NEW

    async def take(self) -> Entry:
        while not (found := [row for row in self._open() if self._may_run(row)]) or self._holds:
            self._changed.clear()
            await self._changed.wait()
        found[0].taken = True
        if found[0].state == "waiting":
            found[0].state = "pending"
        return found[0].entry

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        row = self._rows.get(entry.seq)
        counted = row is not None and row.entry is entry and row.ended is None
        self._applied.update(outcome.applied)
        if row is not None and counted:
            self._steps[entry.seq].update({step.handler: step for step in outcome.steps})
            row.taken = False
            if outcome.final:
                row.ended = outcome.state
            else:
                row.state, row.due = outcome.state, outcome.due or 0.0
                row.entry = self._next(entry, entry.attempt + 1)
        if self._settled is not None:
            self._settled(entry, outcome, counted)
        self._changed.set()

    def note(self, entry: Entry, step: Step) -> None:
        if self._rows[entry.seq].entry is entry:
            self._steps[entry.seq][step.handler] = step

    def give_back(self, entry: Entry, waits_for: str | None = None) -> None:
        row = self._rows[entry.seq]
        row.taken, row.rests = False, waits_for
        if entry.due is not None:
            row.state, row.entry = "waiting", self._next(entry, entry.attempt)
        self._changed.set()

    def wake(self, waits_for: str) -> None:
        for row in self._open():
            row.rests = None if row.rests == waits_for else row.rests
        self._changed.set()

    def hold(self, reason: str) -> None:
        self._holds.add(reason)

    def release(self, reason: str) -> None:
        self._holds.discard(reason)
        self._changed.set()

    async def join(self) -> None:
        while any(row.taken or self._may_run(row) for row in self._open()):
            self._changed.clear()
            await self._changed.wait()

    async def newest(self, entry: Entry, mark: Mark) -> Newest:
        behind = [
            row.entry
            for row in self._open()
            if row.entry.seq > entry.seq and mark in self._marks(row.entry.event)
            if self._older(entry, row.entry.event, row.entry.seq)
        ]
        return Newest(self._applied.get(mark), self._snapshot(behind[-1].event, behind[-1].seq) if behind else None)

    async def ask(self, query: Any) -> Any:
        raise NotImplementedError

    async def command(self, command: Any) -> Any:
        raise NotImplementedError

    def note_target(self, reason: str) -> None: ...

    def _open(self) -> list[Row]:
        return [row for row in self._rows.values() if row.ended is None]

    def _may_run(self, row: Row) -> bool:
        if row.taken or row.rests or row.state == "held" or (row.state == "waiting" and row.due > self._clock()):
            return False
        mine = set(row.entry.event.resources)
        return all(
            each.entry.seq >= row.entry.seq or mine.isdisjoint(each.entry.event.resources) for each in self._open()
        )

    def _next(self, entry: Entry, attempt: int, due: float | None = None) -> Entry:
        event = copy(entry.event)
        event.attempt = attempt
        return Entry(event, entry.seq, attempt=attempt, due=due, progress=self._steps[entry.seq])

    def _snapshot(self, event: Event, seq: int) -> Snapshot:
        return snapshot(event.body, seq, event.event_id)

    def _older(self, entry: Entry, event: Event, seq: int) -> bool:
        return is_older(self._snapshot(entry.event, entry.seq), self._snapshot(event, seq))
