"""Worker tasks: take an event from the lanes, run its handler, settle what became of it."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from math import inf
from typing import Final

from connector import log
from connector.delivery.waiting import Answers
from connector.errors import Unavailable
from connector.events.event import Event
from connector.events.snapshot import Snapshot, after, is_older, snapshot_of
from connector.external import attempting
from connector.facts import facts
from connector.handlers import Handler, Handlers
from connector.journal import Journal
from connector.journal.lanes import Lanes
from connector.outcome import Outcome, Postponed, RetryPolicy, decide, done

YIELD_AFTER: Final = 8
"""Events that a worker handles before it lets the event loop turn, where nothing else makes it."""

JOURNAL_PAUSE: Final = 0.5
"""Seconds that a worker waits when the journal cannot be asked which snapshot is the newest."""

WATCH_INTERVAL: Final = 0.05
"""Seconds between looks for handlers that run too long; a handler is cut off that much late at most."""


CUT_OFF_AGAIN: Final = 10.0
"""Seconds after which a handler that went on although it was cut off is cut off again."""


class Workers:
    """``count`` tasks that drain the lanes.

    ``timeout``  seconds until a handler is cut off, unless the handler says otherwise
    ``hold_dead``  whether the events behind a dead one wait for an operator
    ``clock``    seconds since the epoch
    ``answers``  with RESPONSE=outcome, who waits for an outcome
    """

    def __init__(
        self,
        lanes: Lanes,
        journal: Journal,
        handlers: Handlers,
        policy: RetryPolicy,
        *,
        count: int,
        timeout: float,
        hold_dead: bool,
        clock: Callable[[], float],
        answers: Answers | None = None,
    ) -> None:
        self._answers = answers
        self._lanes = lanes
        self._journal = journal
        self._handlers = handlers
        self._policy = policy
        self._timeout = timeout
        self._hold_dead = hold_dead
        self._clock = clock
        self._workers = [_Worker() for _ in range(count)]
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False
        self.stuck = False
        """Whether a handler went on after the drain: the event loop would wait for it for ever."""

    def start(self) -> None:
        """Begin to take events."""
        for number, worker in enumerate(self._workers):
            worker.task = asyncio.create_task(self._work(worker), name=f"worker-{number}")
        self._watch = asyncio.create_task(self._cut_off_late(), name="worker-watch")

    @property
    def started(self) -> bool:
        """Whether events are being taken: after ``start``, until ``drain`` has ended."""
        return self._watch is not None

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What runs until ``drain``; one that ends before has a fault of its own."""
        tasks = [worker.task for worker in self._workers]
        return [task for task in (self._watch, *tasks) if task is not None]

    @property
    def running(self) -> int:
        """How many events are being handled now."""
        return sum(worker.event is not None for worker in self._workers)

    async def drain(self, timeout: float, *, everything: bool) -> int:
        """Take no new event, let the running ones end, cut off what runs after ``timeout`` seconds.

        ``everything``: first handle all that could be run, within the same time. Returns how many events were cut
        off; they stay open in the journal and the attempt does not count.
        """
        deadline = time.monotonic() + timeout
        if everything:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lanes.join(), timeout)
        self._stopping = True
        tasks = {worker.task for worker in self._workers if worker.task is not None}
        for worker in self._workers:
            if worker.task is not None and worker.event is None:
                worker.task.cancel()
        late: set[asyncio.Task[None]] = set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=max(0.0, deadline - time.monotonic()))
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        for task in late:
            task.cancel()
        if late:
            _, stuck = await asyncio.wait(late, timeout=1.0)  # a handler that will not end does not hold up the stop
            self.stuck = bool(stuck)
        return len(late)

    async def _work(self, worker: "_Worker") -> None:
        handled = 0
        while not self._stopping:
            event = await self._lanes.take()
            try:
                outcome = await self._handle(worker, event)
            except (Postponed, Unavailable) as reason:
                self._lanes.put_back(event)
                await asyncio.sleep(0 if isinstance(reason, Postponed) else JOURNAL_PAUSE)
                continue
            if outcome is None:
                self._lanes.rest(event)
                continue
            if self._answers is not None:
                outcome = self._answers.ended(event, outcome)
            facts.outcome(event, outcome.state, outcome.reason, event.attempt, outcome.ms, outcome.due)
            self._journal.settle(event, outcome)
            handled += 1
            if handled % YIELD_AFTER == 0:
                await asyncio.sleep(0)

    async def _handle(self, worker: "_Worker", event: Event) -> Outcome | None:
        """The outcome of the event's next attempt; None where it is not due yet."""
        handler = next(iter(self._handlers.find(event.event_type)), None)
        if handler is not None and not handler.latest_only and event.due is None:
            return await self._run(worker, event, handler, None)
        applied = None
        mine = snapshot_of(event) if handler is not None and handler.latest_only and event.due != inf else None
        if handler is not None and mine is not None:
            by = self._lanes.newer(event, handler.name)
            if by is None:
                before = await self._journal.newest(event.lane, handler.name)
                by = before.event_id if before is not None and is_older(mine, before) else None
                applied = after(mine, before)
            if by is not None:
                return Outcome("superseded", by)
        if event.due is not None and event.due > self._clock():
            return None
        if handler is None:
            return Outcome("ignored", f"no handler takes {event.event_type}")
        return await self._run(worker, event, handler, applied)

    async def _run(self, worker: "_Worker", event: Event, handler: Handler, applied: Snapshot | None) -> Outcome:
        started = time.monotonic()
        fault: BaseException | None = None
        note: object = None
        timeout = handler.timeout or self._timeout
        worker.event, worker.deadline = event, started + timeout
        try:
            with attempting(event):
                note = await handler.call(event)
        except Postponed:
            raise
        except asyncio.CancelledError as raised:
            if worker.cut_off:
                fault = TimeoutError(f"cut off after {timeout:g} s")
            elif self._stopping and worker.task.cancelling():  # type: ignore[union-attr]
                raise
            else:
                fault = raised  # by the handler itself, or something that it waited for: the worker goes on
        except KeyboardInterrupt:
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever a handler raises is its event's outcome
            fault = raised
        finally:
            worker.event = None
            worker.cut_off = 0
            if worker.task.cancelling() and not self._stopping:  # type: ignore[union-attr]
                await worker.go_on()
        seconds = time.monotonic() - started
        outcome = self._decide(event, handler, fault, note, round(seconds * 1000), applied)
        facts.attempt(event, handler.name, outcome.state, seconds)
        return outcome

    def _decide(
        self,
        event: Event,
        handler: Handler,
        fault: BaseException | None,
        note: object,
        ms: int,
        applied: Snapshot | None,
    ) -> Outcome:
        if fault is None:
            return done(note, ms, handler.name, applied)
        now = self._clock()
        return decide(
            fault,
            attempt=event.attempt,
            age=now - event.accepted_at,
            now=now,
            chance=random.random(),  # noqa: S311 - jitter is no secret
            ms=ms,
            policy=self._policy,
            max_attempts=handler.max_attempts,
            hold_dead=self._hold_dead,
        )

    async def _cut_off_late(self) -> None:
        """One look at all workers now and then costs less than a timer for each event."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            now = time.monotonic()
            for worker in self._workers:
                if worker.event is not None and now >= worker.deadline:
                    if worker.cut_off:
                        log.event_line(
                            "handler.stuck", "Handler goes on although it was cut off", worker.event, "error"
                        )
                    worker.cut_off_again_at(now + CUT_OFF_AGAIN)


class _Worker:
    """A worker task, what it is at, and how often that was cut off."""

    __slots__ = ("cut_off", "deadline", "event", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.event: Event | None = None
        self.deadline = 0.0
        self.cut_off = 0

    def cut_off_again_at(self, deadline: float) -> None:
        """Cancel what is run, and once more at ``deadline`` (``time.monotonic``) if it has not ended by then."""
        self.cut_off += 1
        self.deadline = deadline
        self.task.cancel()  # type: ignore[union-attr]

    async def go_on(self) -> None:
        """Forget that the task was cancelled, by the watch or by its handler, whatever the handler made of it."""
        while self.task.uncancel():  # type: ignore[union-attr]
            pass
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # where a cancellation that is still to come arrives
