"""NSPS's side of the wire: events leave at their planned times, refusals come again by the schedule.

Open loop: the plan alone says when an event leaves. When no connection is free, or this process is late,
the event leaves later, but its latency still counts from the planned time, so that a slow connector
cannot hide its own queue. Closed loop: so many connections send one event after the other, which finds
the connector's ceiling.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import ssl
import time
from dataclasses import dataclass

from nsps_simulator.records import NO_ANSWER, NO_EVENT, NOT_SENT, Writer
from nsps_simulator.sending.scenario import Scenario
from nsps_simulator.wire.chaos import GARBAGE_BURST, Fate, Trouble
from nsps_simulator.wire.client import Connection
from nsps_simulator.wire.draw import chance
from nsps_simulator.wire.events import Events
from nsps_simulator.wire.render import Renderer
from nsps_simulator.wire.retry import Schedule

BURST = 64  # requests written before the event loop may read answers again
SWEEP = 0.25  # seconds between two looks for requests whose time ran out, and flushes of the records
SHORTEST_SLEEP = 0.001  # seconds: an event loop of uvloop takes a shorter timer for none, and would spin
LATE = 0.02  # seconds: an event that leaves so late though a connection was free was held up by this process
MOST_ATTEMPTS = 255

# A retry is one integer, so that a heap of a million of them is small: microseconds, attempt, index.
_INDEX_BITS = 32
_ATTEMPT_BITS = 12


@dataclass
class Effort:
    """How hard the generator had to work: whether it, and not the connector, was the limit."""

    sent: int = 0  # events whose first attempt left
    late: int = 0  # of them, those that this process held up though a connection was free
    starved: int = 0  # of them, those that waited for a free connection
    cpu: float = 0.0  # seconds of processor time while events left
    wall: float = 0.0  # seconds from the first event to the last
    open_loop: bool = True

    @property
    def limited(self) -> bool:
        """Whether the measured rate is the generator's own."""
        busy = self.wall > 0 and self.cpu / self.wall > 0.9
        return busy or (self.open_loop and self.late > 0.01 * self.sent)


class Sender:
    """Delivers the events of `mine` and notes each attempt."""

    def __init__(self, scenario: Scenario, mine: range, writer: Writer) -> None:
        self._scenario = scenario
        self._mine = mine
        self._writer = writer
        self._start = 0.0
        self._clock = time.monotonic
        self._events = Events(scenario.seed, scenario.population())
        self._due = scenario.plan.due()
        self._schedule = Schedule(scenario.seed, scenario.time_scale)
        self._fate = Fate(scenario.seed, scenario.chaos) if scenario.chaos.any else None
        self._render = Renderer(self._events, scenario.endpoint)
        self._next = 0  # how many of mine have left
        self._next_due = 0.0
        self._retries: list[int] = []
        self._under_way = 0
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._waited = False
        self._done = asyncio.Event()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.effort = Effort(open_loop=not scenario.closed)

    async def run(self, start: float) -> None:
        """Deliver until every event is accepted or given up, or patience has run out after the plan's end.

        start: time zero of the plan, on the monotonic clock.
        """
        self._start = start
        loop = self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context() if self._scenario.endpoint.tls else None
        first = min(self._scenario.closed or 16, self._scenario.connections)
        await asyncio.gather(*(self._open_idle() for _ in range(first)))
        await asyncio.sleep(max(0.0, self._start - self._clock()))
        self._plan_next()
        self._cpu, began = time.process_time(), self._clock()
        self._began = began
        sweeper = loop.create_task(self._sweep())
        self._pump()
        try:
            async with asyncio.timeout(self._scenario.longest):
                await self._done.wait()
        except TimeoutError:
            self._stop_counting()
        finally:
            sweeper.cancel()
            self._close()

    # -- deciding what leaves --

    def _plan_next(self) -> None:
        """Work out when the next new event leaves; never, when there is none."""
        if self._next >= len(self._mine):
            self._next_due = math.inf
            self._stop_counting()
        elif not self._scenario.closed:
            self._next_due = self._start + self._due(self._mine[self._next])
        elif self._clock() - self._start >= self._scenario.closed_seconds:
            self._next, self._next_due = len(self._mine), math.inf
            self._stop_counting()
        else:
            self._next_due = 0.0

    def _pump(self) -> None:
        """Send what is due while there are connections, then say when to look again."""
        self._timer = None
        retries = self._retries
        for _ in range(BURST):
            now = self._clock()
            retry_due = (retries[0] >> (_INDEX_BITS + _ATTEMPT_BITS)) / 1e6 if retries else math.inf
            due = min(self._next_due, retry_due)
            if due > now:
                if due < math.inf:
                    self._timer = self._loop.call_later(max(SHORTEST_SLEEP, due - now), self._pump)
                else:
                    self._check_done()
                return
            if not self._idle and len(self._busy) >= self._scenario.connections:
                self._waited = True
                return  # the next answer pumps again
            if retry_due <= self._next_due:
                packed = heapq.heappop(retries)
                index = packed & ((1 << _INDEX_BITS) - 1)
                self._start_attempt(index, (packed >> _INDEX_BITS) & ((1 << _ATTEMPT_BITS) - 1), due, now)
            else:
                self._start_new(due, now)
        self._timer = self._loop.call_soon(self._pump)

    def _start_new(self, due: float, now: float) -> None:
        index = self._mine[self._next]
        self._next += 1
        effort = self.effort
        effort.sent += 1
        if due == 0.0:
            due = now
        elif now - due > LATE:
            if self._waited:
                effort.starved += 1
            else:
                effort.late += 1
        else:
            self._waited = False
        self._start_attempt(index, 1, due, now)
        self._plan_next()

    def _start_attempt(self, index: int, attempt: int, due: float, now: float) -> None:
        self._under_way += 1
        trouble = Trouble.NONE
        if self._fate is not None and attempt == 1:
            trouble = self._fate.of(index)
            if trouble is Trouble.GARBAGE:
                self._throw_garbage(index)
                trouble = Trouble.NONE
        if self._idle:
            connection = self._idle.pop()
            self._fill(connection, index, attempt, due, trouble)
            connection.sent = now
            self._send(connection)
        else:
            self._spawn(index, attempt, due, trouble)

    # -- connections --

    def _fill(self, connection: Connection, index: int, attempt: int, due: float, trouble: Trouble) -> None:
        connection.index, connection.attempt, connection.due = index, attempt, due
        connection.trouble = trouble
        self._busy.add(connection)

    def _send(self, connection: Connection) -> None:
        index, attempt, trouble = connection.index, connection.attempt, connection.trouble
        head, body = self._render.event(index, attempt, wrong_token=trouble == Trouble.TOKEN)
        if trouble == Trouble.SLOW:
            connection.send_slowly(head + body, self._loop)
            return
        connection.send(head, body)
        if trouble == Trouble.CUT:
            connection.cut_later(0.02 * chance(self._scenario.seed, index), self._loop)

    def _spawn(self, index: int, attempt: int, due: float, trouble: Trouble) -> None:
        connection = Connection(self._ended, self._lost)
        self._fill(connection, index, attempt, due, trouble)
        task = self._loop.create_task(self._connect_and_send(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect_and_send(self, connection: Connection) -> None:
        connection.sent = self._clock()
        try:
            await self._connect(connection)
        except (OSError, TimeoutError):
            self._ended(connection, NOT_SENT)
            return
        connection.sent = self._clock()
        if connection.open:
            self._send(connection)
        else:
            self._ended(connection, NOT_SENT)

    async def _connect(self, connection: Connection) -> None:
        endpoint = self._scenario.endpoint
        async with asyncio.timeout(self._scenario.timeout):
            await self._loop.create_connection(lambda: connection, endpoint.host, endpoint.port, ssl=self._tls)

    async def _open_idle(self) -> None:
        connection = Connection(self._ended, self._lost)
        try:
            await self._connect(connection)
        except (OSError, TimeoutError):
            return
        if connection.open:
            self._idle.append(connection)

    def _lost(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    # -- answers --

    def _ended(self, connection: Connection, status: int) -> None:
        now = self._clock()
        index, attempt = connection.index, connection.attempt
        self._writer.add(
            connection.due,
            connection.sent,
            now,
            index,
            status,
            min(attempt, MOST_ATTEMPTS),
            connection.trouble,
        )
        self._busy.discard(connection)
        if connection.open:
            self._idle.append(connection)
        if index == NO_EVENT:
            return
        self._under_way -= 1
        if not 200 <= status < 300:
            gap = self._schedule.gap(index, attempt)
            if gap is not None:
                micros = int((now + gap) * 1e6)
                packed = ((micros << _ATTEMPT_BITS | attempt + 1) << _INDEX_BITS) | index
                heapq.heappush(self._retries, packed)
                if self._retries[0] == packed and self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
        if self._timer is None:
            self._pump()

    def _throw_garbage(self, index: int) -> None:
        for number in range(GARBAGE_BURST):
            connection = Connection(self._ended, self._lost)
            task = self._loop.create_task(self._throw(connection, index * GARBAGE_BURST + number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _throw(self, connection: Connection, number: int) -> None:
        self._fill(connection, NO_EVENT, 1, self._clock(), Trouble.GARBAGE)
        connection.sent = connection.due
        try:
            await self._connect(connection)
        except (OSError, TimeoutError):
            self._busy.discard(connection)
            return
        connection.send(self._render.garbage(number))

    # -- the end --

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._writer.flush()
            before = self._clock() - self._scenario.timeout
            for connection in [one for one in self._busy if one.open and one.sent < before]:
                connection.cut()

    def _check_done(self) -> None:
        if self._next >= len(self._mine) and not self._retries and not self._under_way:
            self._done.set()

    def _stop_counting(self) -> None:
        if not self.effort.wall:
            self.effort.cpu = time.process_time() - self._cpu
            self.effort.wall = self._clock() - self._began

    def _close(self) -> None:
        """Leave; what is still under way ends without an answer, and is noted."""
        self._next, self._next_due = len(self._mine), math.inf
        for task in list(self._tasks):
            task.cancel()
        self._retries.clear()
        for connection in [*self._busy, *self._idle]:
            if connection.busy:
                self._note_unfinished(connection)
            connection.cut()
        self._writer.flush()

    def _note_unfinished(self, connection: Connection) -> None:
        connection.busy = False
        self._writer.add(
            *(connection.due, connection.sent, self._clock(), connection.index, NO_ANSWER),
            *(min(connection.attempt, MOST_ATTEMPTS), connection.trouble),
        )
