"""NSPS's side of the wire: events leave at their planned times, refusals come again by the schedule.

Open loop: the plan alone says when an event leaves. When no connection is free, or this process is late,
the event leaves later, but its latency still counts from the planned time, so that a slow connector
cannot hide its own queue. Closed loop: so many connections send one event after the other, which finds
the connector's ceiling.

States of an event here: not yet due; due and waiting for a connection to its replica (`_overdue`); under way;
waiting for its next attempt (`_retries`); accepted or given up. Events are told apart by index alone, so none of
this holds a body.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nsps_simulator.records import LEAKED, NO_ANSWER, NO_EVENT, NOT_SENT, Writer
from nsps_simulator.sending.scenario import SUBSCRIBER, Scenario
from nsps_simulator.wire.chaos import GARBAGE_BURST, Fate, Trouble
from nsps_simulator.wire.client import Connection
from nsps_simulator.wire.draw import branch, chance, draw
from nsps_simulator.wire.leaks import Leaks
from nsps_simulator.wire.render import Renderer
from nsps_simulator.wire.retry import Schedule

BURST = 64  # requests written before the event loop may read answers again
SWEEP = 0.25  # seconds between two looks for requests whose time ran out, and flushes of the records
SHORTEST_SLEEP = 0.001  # seconds: an event loop of uvloop takes a shorter timer for none, and would spin
LATE = 0.02  # seconds: an event that leaves so late though a connection was free was held up by this process
MOST_ATTEMPTS = 0xFFFF

# A retry is one integer, so that a heap of a million of them is small: microseconds, attempt, index.
_INDEX_BITS = 32
_ATTEMPT_BITS = 12
GARBAGE_PAUSE = 0.2  # seconds until garbage that found no connection is tried again


@dataclass
class Effort:
    """How hard the generator had to work: whether it, and not the connector, was the limit."""

    sent: int = 0  # events whose first attempt left
    late: int = 0  # of them, those that this process held up though a connection was free
    starved: int = 0  # of them, those that waited for a free connection
    cpu: float = 0.0  # seconds of processor time while events left
    held_up: float = 0.0  # seconds in which it could have run, and another process had the core
    wall: float = 0.0  # seconds from the first event to the last
    open_loop: bool = True
    troubles: dict[str, int] = field(default_factory=dict)  # how often each was carried out
    error: str | None = None  # why its records are not complete

    @property
    def limited(self) -> bool:
        """Whether the measured rate is the generator's own."""
        busy = self.wall > 0 and self.cpu / self.wall > 0.9
        return busy or (self.open_loop and self.late > 0.01 * self.sent)

    @property
    def contended(self) -> bool:
        """Whether other processes took the core away from it for more than a twentieth of the time."""
        return self.wall > 0 and self.held_up / self.wall > 0.05


def _held_up() -> float:
    """Seconds that this process has waited for a core (Linux; 0 where the scheduler does not say)."""
    try:
        return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Sender:
    """Delivers the events of `mine` and notes each attempt."""

    def __init__(self, scenario: Scenario, mine: Sequence[int], writer: Writer) -> None:
        self._scenario = scenario
        self._mine = mine
        self._writer = writer
        self._start = 0.0
        self._clock = time.monotonic
        self._events = scenario.events()
        self._leaks = Leaks(self._events)
        self._due = scenario.plan.due()
        self._schedule = Schedule(scenario.seed, scenario.time_scale, scenario.gaps)
        planned = scenario.plan.events
        self._fate = Fate(scenario.seed, scenario.chaos, planned) if scenario.chaos.any else None
        self._again: dict[int, Trouble] = {}  # troubles that found no connection, for the next attempt
        self._renderers = [Renderer(self._events, endpoint) for endpoint in scenario.endpoints]
        self._replicas = len(scenario.endpoints)
        self._replica_seed = branch(scenario.seed, "replica")
        self._room = [scenario.connections] * self._replicas  # connections that may still be made, by replica
        self._idle: list[list[Connection]] = [[] for _ in range(self._replicas)]
        self._overdue: list[deque[tuple[int, int, float]]] = [deque() for _ in range(self._replicas)]
        self._busy: set[Connection] = set()
        self._next = 0  # how many of mine have left
        self._next_due = 0.0
        self._retries: list[int] = []
        self._under_way = 0  # events whose attempt is under way or overdue, and garbage
        self._done = asyncio.Event()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._cpu = self._began = self._waited = 0.0
        self.effort = Effort(open_loop=not scenario.closed)

    async def run(self, start: float) -> None:
        """Deliver until every event is accepted or given up, or patience has run out after the plan's end.

        start: time zero of the plan, on the monotonic clock.
        """
        self._start = start
        loop = self._loop = asyncio.get_running_loop()
        tls = any(endpoint.tls for endpoint in self._scenario.endpoints)
        self._tls = self._scenario.tls.context() if tls else None
        first = min(self._scenario.closed or 16, self._scenario.connections)
        await asyncio.gather(*(self._open_idle(number % self._replicas) for number in range(first)))
        await asyncio.sleep(max(0.0, self._start - self._clock()))
        self._plan_next()
        self._cpu, self._waited, self._began = time.process_time(), _held_up(), self._clock()
        sweeper = loop.create_task(self._sweep())
        self._pump()
        try:
            async with asyncio.timeout(max(0.0, self._start + self._scenario.longest - self._clock())):
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
                if due == math.inf:
                    self._check_done()
                elif self._scenario.precise and due - now < 2 * SHORTEST_SLEEP:
                    self._timer = self._loop.call_soon(self._pump)
                else:
                    self._timer = self._loop.call_later(max(SHORTEST_SLEEP, due - now), self._pump)
                return
            if self._scenario.closed and len(self._busy) >= self._scenario.connections:
                return  # the next answer pumps again
            if retry_due <= self._next_due:
                packed = heapq.heappop(retries)
                index = packed & ((1 << _INDEX_BITS) - 1)
                self._start_attempt(index, (packed >> _INDEX_BITS) & ((1 << _ATTEMPT_BITS) - 1), due)
            else:
                index = self._mine[self._next]
                self._next += 1
                self._start_attempt(index, 1, due or now)
                self._plan_next()
        self._timer = self._loop.call_soon(self._pump)

    def _replica(self, index: int, attempt: int) -> int:
        """Pick the replica that an attempt goes to."""
        if self._replicas == 1:
            return 0
        if self._scenario.spread == SUBSCRIBER:
            return draw(self._replica_seed, self._events.subscriber(index)) % self._replicas
        return draw(self._replica_seed + attempt, index) % self._replicas

    def _start_attempt(self, index: int, attempt: int, due: float) -> None:
        self._under_way += 1
        replica = self._replica(index, attempt)
        if self._idle[replica] or self._room[replica] > 0:
            self._leave(replica, index, attempt, due, starved=False)
        else:
            self._overdue[replica].append((index, attempt, due))

    def _leave(self, replica: int, index: int, attempt: int, due: float, *, starved: bool) -> None:
        """Send an attempt now, on a free connection or a new one."""
        now = self._clock()
        trouble = Trouble.NONE
        if attempt == 1:
            self._count(now - due, starved=starved)
            if self._fate is not None:
                trouble = self._fate.of(index)
                if trouble is Trouble.GARBAGE:
                    self._throw_garbage(replica, index)
                    trouble = Trouble.NONE
        elif self._again:
            trouble = self._again.pop(index, Trouble.NONE)
        if self._idle[replica]:
            connection = self._idle[replica].pop()
            self._fill(connection, index, attempt, due, trouble)
            connection.sent = now
            self._send(connection)
        else:
            connection = Connection(self._ended, self._lost, replica)
            self._room[replica] -= 1
            self._fill(connection, index, attempt, due, trouble)
            self._spawn(self._connect_and_send(connection))

    def _count(self, late: float, *, starved: bool) -> None:
        """Count a new event, and who held it up."""
        effort = self.effort
        effort.sent += 1
        if starved and late > LATE:
            effort.starved += 1
        elif late > LATE:
            effort.late += 1

    # -- connections --

    def _fill(self, connection: Connection, index: int, attempt: int, due: float, trouble: Trouble) -> None:
        connection.index, connection.attempt, connection.due = index, attempt, due
        connection.trouble = trouble
        self._busy.add(connection)

    def _send(self, connection: Connection) -> None:
        index, trouble = connection.index, connection.trouble
        renderer = self._renderers[connection.endpoint]
        head, body = renderer.event(index, connection.attempt, wrong_token=trouble == Trouble.TOKEN)
        if trouble != Trouble.NONE:
            name = Trouble(trouble).name.lower()
            self.effort.troubles[name] = self.effort.troubles.get(name, 0) + 1
        if trouble == Trouble.SLOW:
            connection.send_slowly(head + body, self._loop)
            return
        connection.send(head, body)
        if trouble == Trouble.CUT:
            connection.cut_later(0.02 * chance(self._scenario.seed, index), self._loop)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect_and_send(self, connection: Connection) -> None:
        connection.sent = self._clock()
        try:
            await self._connect(connection)
        except (OSError, TimeoutError):
            self._room[connection.endpoint] += 1
            self._ended(connection, NOT_SENT)
            return
        connection.sent = self._clock()
        if connection.open:
            self._send(connection)
        else:
            self._room[connection.endpoint] += 1
            self._ended(connection, NOT_SENT)

    async def _connect(self, connection: Connection) -> None:
        endpoint = self._scenario.endpoints[connection.endpoint]
        async with asyncio.timeout(self._scenario.timeout):
            await self._loop.create_connection(
                lambda: connection, endpoint.host, endpoint.port, ssl=self._tls if endpoint.tls else None
            )

    async def _open_idle(self, replica: int) -> None:
        connection = Connection(self._ended, self._lost, replica)
        try:
            await self._connect(connection)
        except (OSError, TimeoutError):
            return
        if connection.open:
            self._room[replica] -= 1
            self._idle[replica].append(connection)

    def _lost(self, connection: Connection) -> None:
        """A connection closed while it was not in use."""
        if connection in self._idle[connection.endpoint]:
            self._idle[connection.endpoint].remove(connection)
            self._room[connection.endpoint] += 1

    # -- answers --

    def _ended(self, connection: Connection, status: int) -> None:
        now = self._clock()
        self._note(connection, now, status)
        self._busy.discard(connection)
        replica = connection.endpoint
        if connection.index != NO_EVENT:
            if connection.open:
                self._idle[replica].append(connection)
            elif status != NOT_SENT:
                self._room[replica] += 1
            self._decide_again(connection, now, status)
        elif connection.open:
            connection.cut()
        self._under_way -= 1
        overdue = self._overdue[replica]
        while overdue and (self._idle[replica] or self._room[replica] > 0):
            self._leave(replica, *overdue.popleft(), starved=True)
        if self._timer is None and not self._closed:
            self._pump()

    def _note(self, connection: Connection, now: float, status: int) -> None:
        """Write an attempt down."""
        flags = 0
        if connection.answer:
            flags = LEAKED if self._leaks.found(connection.answer, connection.index) else 0
            connection.answer = b""
        self._writer.add(
            *(connection.due, connection.sent, now, connection.index, status),
            *(min(connection.attempt, MOST_ATTEMPTS), connection.trouble, flags, connection.endpoint),
        )

    def _decide_again(self, connection: Connection, now: float, status: int) -> None:
        """Plan the next attempt of an event that was not accepted."""
        if 200 <= status < 300:
            return
        index, attempt = connection.index, connection.attempt
        if status == NOT_SENT and connection.trouble:
            self._again[index] = Trouble(connection.trouble)
        gap = self._schedule.gap(index, attempt)
        if gap is None:
            return
        micros = int((now + gap) * 1e6)
        packed = ((micros << _ATTEMPT_BITS | attempt + 1) << _INDEX_BITS) | index
        heapq.heappush(self._retries, packed)
        if self._retries[0] == packed and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _throw_garbage(self, replica: int, index: int) -> None:
        for number in range(GARBAGE_BURST):
            self._under_way += 1
            self._spawn(self._throw(replica, index * GARBAGE_BURST + number))

    async def _throw(self, replica: int, number: int) -> None:
        """Send garbage on a connection of its own; a connector that is down is waited for."""
        while True:
            connection = Connection(self._ended, self._lost, replica)
            try:
                await self._connect(connection)
            except (OSError, TimeoutError):
                await asyncio.sleep(GARBAGE_PAUSE)
                continue
            if connection.open:
                break
        now = self._clock()
        self._fill(connection, NO_EVENT, 1, now, Trouble.GARBAGE)
        connection.sent = now
        self.effort.troubles["garbage"] = self.effort.troubles.get("garbage", 0) + 1
        connection.send(self._renderers[replica].garbage(number))

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
        if not self.effort.wall and self._began:
            self.effort.cpu = time.process_time() - self._cpu
            self.effort.held_up = _held_up() - self._waited
            self.effort.wall = self._clock() - self._began

    def _close(self) -> None:
        """Leave; what is still under way ends without an answer, and is noted."""
        self._closed = True
        self._next, self._next_due = len(self._mine), math.inf
        self._stop_counting()
        for task in list(self._tasks):
            task.cancel()
        self._retries.clear()
        for overdue in self._overdue:
            overdue.clear()
        for connection in [*self._busy, *(one for idle in self._idle for one in idle)]:
            if connection.busy:
                connection.busy = False
                self._note(connection, self._clock(), NO_ANSWER)
            connection.cut()
        self._writer.flush()
        self.effort.error = self._writer.error
