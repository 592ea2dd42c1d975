"""The journal that keeps nothing over a stop: for trying things out, and for tests."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import copy
from itertools import islice
from math import inf
from typing import Final

from connector.errors import NoRoom, Stopping
from connector.events.event import Event
from connector.events.snapshot import Snapshot
from connector.journal import Journal, Listener, Page
from connector.outcome import Outcome

REMEMBERED: Final = 100_000
"""Ids of ended events that are remembered."""


class MemoryJournal(Journal):
    """Open events in dictionaries, at most ``capacity`` of them."""

    durable = False

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._listener: Listener | None = None
        self._seq = 0
        self._open: dict[int, Event] = {}
        self._parked: dict[int, tuple[str, float | None]] = {}
        self._open_ids: set[str] = set()
        self._ended_ids: OrderedDict[str, bool] = OrderedDict()
        self._newest: dict[tuple[str, str], Snapshot] = {}

    @property
    def size(self) -> int:
        return len(self._open)

    async def open(self, listener: Listener) -> int:
        self._listener = listener
        return self._seq

    async def close(self) -> None:
        self._listener = None

    async def append(self, event: Event) -> bool:
        if self._listener is None:
            raise Stopping
        if event.event_id in self._open_ids or event.event_id in self._ended_ids:
            return False
        if len(self._open) >= self._capacity:
            raise NoRoom
        self._seq += 1
        event.seq = self._seq
        self._open[event.seq] = event
        self._open_ids.add(event.event_id)
        self._listener.stored(event)
        return True

    async def flush(self) -> None:
        """Nothing is ever under way."""

    def settle(self, event: Event, outcome: Outcome) -> None:
        kept = self._open.get(event.seq) is event
        if kept:
            if outcome.final:
                self._end(event, outcome)
            else:  # whoever still has the event of this attempt settles nothing with it
                self._parked[event.seq] = (event.lane, outcome.due)
                self._open[event.seq] = later = copy(event)
                later.attempt += 1
                later.due = inf if outcome.due is None else outcome.due
        if self._listener is not None:
            self._listener.settled(event, outcome, kept)

    async def read(self, after: int, limit: int) -> Page:
        events = list(islice((event for seq, event in self._open.items() if seq > after), limit))
        return Page(events, events[-1].seq if len(events) == limit else self._seq)

    async def read_lanes(self, lanes: Sequence[str], upto: int, limit: int) -> Mapping[str, Sequence[Event]]:
        found: dict[str, list[Event]] = {lane: [] for lane in lanes}
        for event in self._open.values():
            if event.seq <= upto and event.lane in found and len(found[event.lane]) < limit:
                found[event.lane].append(event)
        return found

    async def parked_lanes(self) -> Sequence[str]:
        return [lane for lane, _ in self._parked.values()]

    async def claim_due(self, now: float, limit: int) -> tuple[Sequence[str], float | None]:
        waiting = sorted((due, seq, lane) for seq, (lane, due) in self._parked.items() if due is not None)
        claimed = [(seq, lane) for due, seq, lane in waiting[:limit] if due <= now]
        for seq, _ in claimed:
            del self._parked[seq]
            self._open[seq].due = None
        rest = waiting[len(claimed) :]
        return [lane for _, lane in claimed], rest[0][0] if rest else None

    def note_target(self, away: str) -> None:
        """Nobody can look into this journal from outside; the log has it."""

    async def newest(self, lane: str, handler: str) -> Snapshot | None:
        return self._newest.get((lane, handler))

    def _end(self, event: Event, outcome: Outcome) -> None:
        del self._open[event.seq]
        self._parked.pop(event.seq, None)
        for mark, snapshot in outcome.applied:
            self._newest[mark.resource, mark.name] = snapshot
        self._open_ids.discard(event.event_id)
        if outcome.state != "dead":
            self._ended_ids[event.event_id] = True
            if len(self._ended_ids) > REMEMBERED:
                self._ended_ids.popitem(last=False)
