"""Which event runs next: the part of an embedded journal that is in memory. No I/O, no clock of its own.

Every open event is in exactly one of these places::

    ahead     on disk, not looked at yet: its seq is above the watermark
    active    in memory: ready (in the asyncio.Queue) or running (with a worker)
    blocked   on disk; an earlier event has one of its resources. Some are cached in memory
    later     on disk, may run, passed by the watermark: memory keeps its seq
    resting   on disk, may run, given back to wait for something: memory keeps its seq
    waiting   on disk, for its retry or for an operator; memory keeps when the next one is due

    ahead ──fed──▶ active ──settled──▶ (gone) or waiting ──due, fed──▶ active
      │              ▲ └──given back to wait──▶ resting ──wake──▶ later
      │              ├──fed── later
      └─passed─▶ blocked ──its predecessors have ended──▶ active, or later where memory is full

Invariants:

1. The store knows which events may run (``blockers`` = 0): it says so when an event is accepted, when it unblocks one,
   and when it is asked. The scheduler never decides it.
2. Active events never exceed ``queue_size`` by more than what one transaction feeds, nor active and cached ones
   together: a cached one makes room for an active one.
3. Each seq passes the watermark once, so the cost of reading does not grow with the number of events that wait.
4. What is due, what is later and what is ahead share the room there is; a new event goes past neither: it is active at
   once only where nothing is later, overdue or ahead.
5. An event that was ended by an operator while it runs keeps its resources until its attempt has ended: what the store
   unblocks meanwhile and shares one with it is delayed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Final

from connector.journal import Entry
from connector.journal.store import Fed, Feed

READ_EVENTS: Final = 256
"""Events read at a time from each source: a few milliseconds of work for the loop."""

LARGE: Final = 16 * 1024
"""Bytes of a body above which it is read again when its event runs: what was read of it takes many times its size."""

MAX_BYTES: Final = 1 << 62
"""No bound of bytes, such as for a store that is in memory itself."""


class Scheduler:
    """Hands out what may run, and says what to read.

    ``queue_size``   events held in memory
    ``queue_bytes``  bytes of their bodies; one event more may pass it
    ``clock``        seconds since the epoch, steady while the process runs
    """

    def __init__(self, queue_size: int, clock: Callable[[], float], queue_bytes: int = MAX_BYTES) -> None:
        self._queue_size = queue_size
        self._queue_bytes = queue_bytes
        self._bytes = 0
        self._clock = clock
        self._ready: asyncio.Queue[Entry] = asyncio.Queue()
        self._active: dict[int, Entry] = {}
        self._running: set[int] = set()
        self._blocked: dict[int, Entry] = {}
        self._later: deque[int] = deque()
        self._resting: dict[str, list[int]] = {}
        self._ghosts: dict[int, Entry] = {}
        self._delayed: list[Entry] = []
        self._watermark = 0
        self._last = 0
        self._asked = 0
        self._turn = 0
        self._next_due: float | None = 0.0
        self._told_due: float | None = None
        self._holds: set[str] = set()
        self._going = asyncio.Event()
        self._going.set()
        self._changed = asyncio.Event()

    @property
    def holds(self) -> frozenset[str]:
        """Why ``take`` waits although there is work."""
        return frozenset(self._holds)

    @property
    def next_due(self) -> float | None:
        """When ``wants`` is to be asked again, although nothing has happened; None if never."""
        return self._next_due

    @property
    def hungry(self) -> bool:
        """Whether workers may soon have nothing to do although there is more to read."""
        return self._ready.empty() and self._behind()

    @property
    def cached(self) -> Collection[int]:
        """Blocked events that are in memory. May be looked into from another thread."""
        return self._blocked.keys()

    @property
    def running(self) -> Collection[int]:
        """Events that workers have in their hands. May be looked into from another thread."""
        return self._running

    @property
    def in_memory(self) -> int:
        """Events in memory: active and cached ones."""
        return len(self._active) + len(self._blocked)

    def hold(self, reason: str) -> None:
        """Hand out nothing until every reason to hold is released."""
        self._holds.add(reason)
        self._going.clear()

    def release(self, reason: str) -> None:
        """Withdraw a reason to hold."""
        self._holds.discard(reason)
        if not self._holds:
            self._going.set()

    async def take(self) -> Entry:
        """The event that has been ready for longest."""
        while True:
            entry = await self._ready.get() if self._ready.empty() else self._ready.get_nowait()
            try:
                while self._holds:
                    await self._going.wait()
            except asyncio.CancelledError:
                self._ready.put_nowait(entry)
                raise
            if self._active.get(entry.seq) is entry:
                self._running.add(entry.seq)
                return entry

    def give_back(self, entry: Entry, waits_for: str | None = None) -> bool:
        """Return a taken event; whether it has to wait on disk until it is due."""
        self._running.discard(entry.seq)
        if entry.seq in self._ghosts or self._active.get(entry.seq) is not entry:
            self._leave(entry)
        elif waits_for is not None:
            self._leave(entry)
            self._resting.setdefault(waits_for, []).append(entry.seq)
        elif entry.due is not None and entry.due > self._clock():
            self._leave(entry)
            self._look_at(entry.due)
            return True
        else:
            self._ready.put_nowait(entry)
        return False

    def wake(self, waits_for: str, most: int | None = None) -> int:
        """What rests for this may run again: ``most`` of them, the first ones, or all; how many these are."""
        resting = self._resting.get(waits_for, [])
        woken = resting[:most]
        self._later.extend(woken)
        del resting[:most]
        self._changed.set()
        return len(woken)

    async def join(self) -> None:
        """Return when no event is left that could run now, other than those that rest."""
        while self._active or self._later or self._watermark < self._last or self._overdue():
            self._changed.clear()
            await self._changed.wait()

    def open(self, last_seq: int) -> None:
        """Begin with what the store has, up to this sequence number."""
        self._last = last_seq

    def accepted(self, entry: Entry) -> None:
        """A new event is in the store."""
        caught_up = self._watermark == self._last
        self._last = entry.seq
        if not caught_up:
            return
        if entry.blockers:
            self._watermark = entry.seq
            self._cache(entry)
        elif self._room() > 0 and not self._later and not self._overdue():
            self._watermark = entry.seq
            self._enqueue(entry)

    def unblocked(self, seq: int, entry: Entry | None) -> None:
        """An event that could not run may run now; ``entry`` where it was read."""
        if seq > self._watermark:
            return  # it is met when that is read
        entry = self._uncache(seq) or entry
        if entry is None or self._behind() or self._room() <= 0:
            self._later.append(seq)
        else:
            entry.blockers = 0
            self._enqueue(entry)

    def loadable(self, freed: int) -> int:
        """How many events that a transaction unblocks may be read by it, if it ends ``freed`` active ones."""
        return 0 if self._behind() else max(0, self._room() + freed)

    def ended(self, entry: Entry, due: float | None = None) -> None:
        """The attempt of a taken event has ended, and the store knows; ``due`` where it waits for the next one."""
        self._running.discard(entry.seq)
        self._leave(entry)
        if due is not None:
            self._look_at(due)

    def gone(self, seqs: Iterable[int]) -> None:
        """An operator has ended these events."""
        for seq in seqs:
            self._uncache(seq)
            if seq in self._running:
                self._ghosts[seq] = self._active[seq]
            elif (entry := self._active.pop(seq, None)) is not None:
                self._bytes -= len(entry.event.raw)
        self._changed.set()

    def added(self, last_seq: int) -> None:
        """There are events up to this sequence number."""
        self._last = max(self._last, last_seq)

    def wants(self) -> Feed | None:
        """What to read now; None for nothing."""
        self._asked = 0
        room = self._room()
        if room <= 0 or (len(self._active) > self._queue_size // 2 and not self._ready.empty()):
            return None
        sources = [
            name
            for name, there in (
                ("due", self._overdue()),
                ("later", bool(self._later)),
                ("ahead", self._watermark < self._last),
            )
            if there
        ]
        if not sources:
            return None
        shares = dict.fromkeys(sources, min(READ_EVENTS, room // len(sources)))
        if room < len(sources):  # one after the other, each time another one first
            self._turn += 1
            shares = {sources[self._turn % len(sources)]: 1}
        self._asked = sum(shares.values())
        self._told_due = None
        return Feed(
            self._clock(),
            shares.get("due"),
            list(islice(self._later, shares.get("later", 0))),
            self._watermark,
            shares.get("ahead", 0),
        )

    def fed(self, feed: Feed, fed: Fed) -> None:
        """What was read. Of ``feed.seqs``, what is missing cannot run any more."""
        self._asked = 0
        for _ in feed.seqs:
            self._later.popleft()
        for entry in fed.entries:
            self._enqueue(entry)
        if feed.due is not None:
            self._next_due = fed.next_due
            if self._told_due is not None:  # while it was read; the store may not have known of it
                self._look_at(self._told_due)
        if feed.ahead:
            self._watermark = fed.upto
        self._changed.set()

    def _room(self) -> int:
        if self._bytes >= self._queue_bytes and self._active:
            return 0
        return self._queue_size - len(self._active) - self._asked

    def _behind(self) -> bool:
        return bool(self._later) or self._watermark < self._last or self._overdue()

    def _overdue(self) -> bool:
        return self._next_due is not None and self._next_due <= self._clock()

    def _look_at(self, due: float) -> None:
        if self._told_due is None or due < self._told_due:
            self._told_due = due
        if self._next_due is None or due < self._next_due:
            self._next_due = due

    def _cache(self, entry: Entry) -> None:
        self._blocked[entry.seq] = entry
        self._bytes += len(entry.event.raw)
        entry.event.forget()
        self._trim()

    def _uncache(self, seq: int) -> Entry | None:
        entry = self._blocked.pop(seq, None)
        if entry is not None:
            self._bytes -= len(entry.event.raw)
        return entry

    def _trim(self) -> None:
        while self._blocked and (self.in_memory > self._queue_size or self._bytes > self._queue_bytes):
            self._uncache(next(iter(self._blocked)))

    def _enqueue(self, entry: Entry) -> None:
        if entry.seq in self._active:
            return
        self._active[entry.seq] = entry
        self._bytes += len(entry.event.raw)
        if len(entry.event.raw) > LARGE:
            entry.event.forget()
        if self._ghosts and self._haunted(entry):
            self._delayed.append(entry)
        else:
            self._ready.put_nowait(entry)
        if self._blocked:
            self._trim()

    def _haunted(self, entry: Entry) -> bool:
        return any(not set(ghost.event.resources).isdisjoint(entry.event.resources) for ghost in self._ghosts.values())

    def _leave(self, entry: Entry) -> None:
        if self._active.get(entry.seq) is entry:
            del self._active[entry.seq]
            self._bytes -= len(entry.event.raw)
        if self._ghosts.pop(entry.seq, None) is not None:
            delayed, self._delayed = self._delayed, []
            for each in delayed:
                if self._active.get(each.seq) is not each:
                    continue  # an operator has ended it, too
                if self._haunted(each):
                    self._delayed.append(each)
                else:
                    self._ready.put_nowait(each)
        self._changed.set()
