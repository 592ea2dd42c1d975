"""One lane per subscriber over one asyncio.Queue: order within a lane, none between lanes, bounded memory.

Every open event of the journal is in exactly one of four places::

    ahead        not looked at yet: its seq is above the watermark
    loaded       in memory, in a Lane: at the head (queued or running) or behind it
    left behind  on disk, behind the loaded events of its lane (``lane.more``)
    parked       on disk, in a lane whose head waits for its retry or for an operator

    ahead ──feed──▶ loaded ──take──▶ running ──settled──▶ (gone)
      │               ▲                 └──waiting, held──▶ parked (the whole lane leaves memory)
      ├─lane is full─▶ left behind ──lane ran empty──▶ loaded
      └─lane parked──▶ parked ──head due──▶ loaded

Invariants:

1. A lane's loaded events are its first open ones, without a gap, up to the watermark if ``more`` is false.
2. At most one event of a lane is queued or running: the head.
3. ``loaded`` never exceeds ``queue_size`` by more than a lane's look-ahead for each lane that is being read, and a
   lane whose head has become due is read only when there is room.
4. Each seq passes the watermark once, so the cost of feeding does not grow with the number of lanes that wait.
5. A parked lane costs its key in memory and nothing else.

A new event is admitted the moment it is stored, when nothing is ahead and there is room; else it is met again on
disk. Both ways go through ``_admit``.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from math import inf
from typing import Final

from connector.errors import Unavailable
from connector.events.event import Event
from connector.events.snapshot import Snapshot, is_older, snapshot, snapshot_of
from connector.journal import Journal
from connector.outcome import Outcome

LOOK_AHEAD: Final = 16
"""Events of one lane that are held in memory; more would let one subscriber fill it."""

READ_EVENTS: Final = 256
"""Events read from the journal at a time: a few milliseconds of work for the loop."""

READ_AGAIN_SECONDS: Final = 1.0
"""Until the journal is read again after it could not be read."""

READ_LANES: Final = 64
"""Lanes read from the journal at a time."""


class Lane:
    """A subscriber with open events in memory, or about to be read into it."""

    __slots__ = ("changed", "events", "key", "last", "more", "newest", "running")

    def __init__(self, key: str) -> None:
        self.key = key
        self.events: deque[Event] = deque()
        self.running = False
        self.changed = False
        self.more = False
        self.last = 0
        self.newest: dict[str, Snapshot] = {}


class Lanes:
    """Feeds open events from the journal to the workers. It is the journal's listener.

    ``queue_size``  events held in memory
    ``clock``       seconds since the epoch, steady while the process runs
    ``latest``      the name of the handler that wants only the newest event of this type, None for other types
    ``kept``        is told of every outcome that is kept
    """

    def __init__(
        self,
        journal: Journal,
        queue_size: int,
        clock: Callable[[], float],
        latest: Callable[[str], str | None] | None = None,
        kept: Callable[[Event, Outcome], None] | None = None,
    ) -> None:
        self._journal = journal
        self._queue_size = queue_size
        self._clock = clock
        self._latest = latest
        self._kept = kept
        self._ready: asyncio.Queue[Lane] = asyncio.Queue()
        self._lanes: dict[str, Lane] = {}
        self._parked: set[str] = set()
        self._hungry: deque[Lane] = deque()
        self._loaded = 0
        self._watermark = 0
        self._last = 0
        self._wanted = asyncio.Event()
        self._empty = asyncio.Event()
        self._holds: set[str] = set()
        self._resting: dict[str, deque[Event]] = {}
        self._going = asyncio.Event()
        self._going.set()
        self._next_due: float | None = None
        self._overdue = False
        self._timer: asyncio.TimerHandle | None = None
        self._feeder: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the journal and begin to feed what is open in it. Raises StartError."""
        self._last = await self._journal.open(self)
        self._parked.update(await self._journal.parked_lanes())
        self._feeder = asyncio.create_task(self._feed(), name="feeder")
        self._wanted.set()

    async def stop(self) -> None:
        """Feed no more. What is loaded stays open in the journal."""
        if self._timer:
            self._timer.cancel()
        if self._feeder:
            self._feeder.cancel()
            await asyncio.gather(self._feeder, return_exceptions=True)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What runs until ``stop``; one that ends before has a fault of its own."""
        return [self._feeder] if self._feeder is not None else []

    @property
    def loaded(self) -> int:
        """Events in memory, running ones included."""
        return self._loaded

    @property
    def parked(self) -> int:
        """Lanes whose head waits for its retry or for an operator."""
        return len(self._parked)

    @property
    def holds(self) -> frozenset[str]:
        """Why ``take`` waits although there is work; empty when it does not."""
        return frozenset(self._holds)

    def hold(self, reason: str) -> None:
        """Hand out no event until every reason to hold is released. Accepting goes on."""
        self._holds.add(reason)
        self._going.clear()

    def release(self, reason: str) -> None:
        """Withdraw a reason to hold."""
        self._holds.discard(reason)
        if not self._holds:
            self._going.set()

    async def take(self) -> Event:
        """The head of the lane that has waited longest; its lane rests until the event is settled or given back."""
        while True:
            lane = await self._ready.get()
            while self._holds:
                await self._going.wait()
            if lane.events:
                lane.running = True
                return lane.events[0]
            self._go_on(lane)

    def newer(self, event: Event, handler: str) -> str | None:
        """The id of an event behind ``event`` in its lane that makes it pointless for a ``latest_only`` handler."""
        newest = self._lanes[event.lane].newest.get(handler)
        if newest is None or newest.seq <= event.seq:
            return None
        return newest.event_id if is_older(snapshot(event.body, event.seq, event.event_id), newest) else None

    def put_back(self, event: Event, waits_for: str | None = None) -> None:
        """Give a taken event back as if it had not been taken: its lane waits its turn again, its attempt not spent.

        With ``waits_for`` its turn comes only after ``wake(waits_for)``.
        """
        if waits_for is not None:
            self._resting.setdefault(waits_for, deque()).append(event)
            return
        lane = self._lanes[event.lane]
        lane.running = False
        if lane.changed:
            lane.changed = False
            self._drop(lane)
        self._ready.put_nowait(lane)

    def wake(self, waits_for: str, most: int | None = None) -> None:
        """Let what waits for this have its turn: ``most`` of them, the first ones, or all."""
        resting = self._resting.get(waits_for, deque())
        for _ in range(len(resting) if most is None else min(most, len(resting))):
            self.put_back(resting.popleft())

    def rest(self, event: Event) -> None:
        """Give a taken event back that waits for its retry, or for an operator, in the journal."""
        lane = self._lanes[event.lane]
        if lane.changed:  # by an operator, so that the event in hand may wait no more
            self.put_back(event)
            return
        self._park(lane, None if event.due == inf else event.due)
        self._look_on()

    async def join(self) -> None:
        """Return when no event is left that could be run now."""
        while self._lanes or self._watermark < self._last:
            self._empty.clear()
            await self._empty.wait()

    def stored(self, event: Event) -> None:
        """A new event is in the journal: admit it, or leave it there to be met later."""
        was_last, self._last = self._last, max(self._last, event.seq)
        if event.seq <= self._watermark:
            return  # the feeder met it on disk first
        if self._watermark == was_last and self._loaded < self._queue_size and not self._overdue:
            self._watermark = event.seq
            self._admit(event)
        elif self._loaded < self._queue_size:
            self._wanted.set()

    def settled(self, event: Event, outcome: Outcome, kept: bool) -> None:
        """The attempt has ended: the next event of the lane may run, or the lane parks behind its head."""
        if self._kept is not None:
            self._kept(event, outcome)
        lane = self._lanes[event.lane]
        lane.running = lane.changed = False
        lane.events.popleft()
        self._loaded -= 1
        if kept and not outcome.final:
            self._park(lane, outcome.due)
        else:
            self._go_on(lane)
        self._look_on()

    def changed(self, last_seq: int, lanes: Iterable[str], holds: Mapping[str, bool]) -> None:
        """An operator has changed the journal: there are events up to ``last_seq``, and these lanes are different."""
        self._last = max(self._last, last_seq)
        for key in lanes:
            lane = self._lanes.get(key)
            if lane is not None:
                lane.changed = lane.running
                self._drop(lane)
            elif key in self._parked:
                self._unpark(key)
        for reason, held in holds.items():
            (self.hold if held else self.release)(reason)
        self._wanted.set()

    def _drop(self, lane: Lane) -> None:
        """Forget what was loaded of a lane, but a running head; the rest is read again."""
        keep = 1 if lane.running else 0
        while len(lane.events) > keep:
            lane.events.pop()
            self._loaded -= 1
        lane.newest.clear()
        lane.more = True

    def _look_on(self) -> None:
        """There is more room in memory: read on where that is wanted."""
        if (self._watermark < self._last or self._overdue) and self._loaded <= self._queue_size // 2:
            self._wanted.set()
        elif not self._lanes:
            self._empty.set()

    def _admit(self, event: Event) -> None:
        key = event.lane
        latest = None if self._latest is None else self._latest(event.event_type)
        lane = self._lanes.get(key)
        if lane is None:
            if key in self._parked:
                if latest is None:
                    return
                lane = self._unpark(key)  # the newcomer may make the head pointless
            else:
                lane = self._lanes[key] = Lane(key)
                self._ready.put_nowait(lane)
        if latest is not None:
            self._note_newest(lane, event, latest)
        if lane.more or len(lane.events) >= LOOK_AHEAD:
            lane.more = True
            lane.last = event.seq
        else:
            lane.events.append(event)
            self._loaded += 1

    def _note_newest(self, lane: Lane, event: Event, handler: str) -> None:
        this = snapshot_of(event)
        newest = lane.newest.get(handler)
        if this is not None and (newest is None or is_older(newest, this)):
            lane.newest[handler] = this

    def _go_on(self, lane: Lane) -> None:
        if lane.events:
            self._ready.put_nowait(lane)
        elif lane.more:
            self._hungry.append(lane)
            self._wanted.set()
        else:
            del self._lanes[lane.key]

    def _park(self, lane: Lane, due: float | None) -> None:
        self._loaded -= len(lane.events)
        del self._lanes[lane.key]
        self._parked.add(lane.key)
        if due is not None:
            self._wake_at(due)

    def _unpark(self, key: str) -> Lane:
        self._parked.remove(key)
        lane = self._lanes[key] = Lane(key)
        lane.more = True
        self._hungry.append(lane)
        self._wanted.set()
        return lane

    def _wake_at(self, due: float) -> None:
        if self._next_due is None or due < self._next_due:
            self._next_due = due
            if self._timer:
                self._timer.cancel()
            # uvloop's timers count whole milliseconds and may be early by one: late by two is never early
            delay = max(0.0, due - self._clock()) + 0.002
            self._timer = asyncio.get_running_loop().call_later(delay, self._wanted.set)

    async def _feed(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._read_due()
                await self._read_lanes()
                await self._read_ahead()
            except Unavailable:
                asyncio.get_running_loop().call_later(READ_AGAIN_SECONDS, self._wanted.set)
            if not self._lanes:
                self._empty.set()

    async def _read_due(self) -> None:
        due, self._next_due = self._next_due, None
        self._overdue = False
        if not self._parked:
            self._next_due = None  # whoever was due was claimed along with others
            return
        if due is not None and due > self._clock():
            self._wake_at(due)
            return
        room = self._queue_size - self._loaded
        if room <= 0:
            self._next_due, self._overdue = due or 0.0, True
            return
        try:
            # half of the room, so that neither those that are due nor those that are ahead starve the others
            lanes, next_due = await self._journal.claim_due(self._clock(), max(1, room // (2 * LOOK_AHEAD)))
        except Unavailable:
            self._next_due = due
            raise
        for key in lanes:
            if key in self._parked:
                self._unpark(key)
        if next_due is not None:
            self._wake_at(next_due)

    async def _read_lanes(self) -> None:
        while self._hungry:
            lanes = list(islice(self._hungry, READ_LANES))
            upto = self._watermark
            found = await self._journal.read_lanes([lane.key for lane in lanes], upto, LOOK_AHEAD + 1)
            for lane in lanes:
                self._hungry.popleft()
                events = found.get(lane.key, ())
                lane.events.extend(events[:LOOK_AHEAD])
                lane.more = len(events) > LOOK_AHEAD or lane.last > upto
                self._loaded += len(lane.events)
                for event in events:
                    latest = None if self._latest is None else self._latest(event.event_type)
                    if latest is not None:
                        self._note_newest(lane, event, latest)
                self._go_on(lane)

    async def _read_ahead(self) -> None:
        while self._watermark < self._last and (room := self._queue_size - self._loaded) > 0:
            page = await self._journal.read(self._watermark, min(READ_EVENTS, room))
            for event in page.events:
                self._admit(event)
            self._watermark = page.upto
            self._last = max(self._last, page.upto)
