"""Worker tasks: take an event from the lanes, run its handler, settle what became of it."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from math import inf
from typing import Final

from connector.delivery.attempt import Attempt, Attempts
from connector.delivery.mistakes import Mistakes
from connector.delivery.waiting import Answers
from connector.errors import Unavailable
from connector.events.event import Event
from connector.events.snapshot import Snapshot, after, is_older, snapshot_of
from connector.facts import facts
from connector.handlers import Handler, Handlers
from connector.handlers.places import place_of_error
from connector.journal import Journal
from connector.journal.lanes import Lanes
from connector.outcome import (
    DeadLetter,
    Ignored,
    Later,
    Outcome,
    Postponed,
    Retry,
    RetryPolicy,
    decide,
    decisive,
    done,
)

YIELD_AFTER: Final = 8
"""Events that a worker handles before it lets the event loop turn, where nothing else makes it."""

JOURNAL_PAUSE: Final = 0.5
"""Seconds that a worker waits when the journal cannot be asked which snapshot is the newest."""


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
        self._attempts: Attempts | None = None
        self._mistakes = Mistakes()
        self._stopping = False
        self.stuck = False
        """Whether a handler went on after the drain: the event loop would wait for it for ever."""

    def start(self) -> None:
        """Begin to take events."""
        self._attempts = Attempts()
        for number, worker in enumerate(self._workers):
            worker.task = asyncio.create_task(self._work(worker), name=f"worker-{number}")

    @property
    def started(self) -> bool:
        """Whether events are being taken: after ``start``, until ``drain`` has ended."""
        return self._attempts is not None

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What runs until ``drain``; one that ends before has a fault of its own."""
        return [worker.task for worker in self._workers if worker.task is not None]

    @property
    def running(self) -> int:
        """How many events are being handled now."""
        return sum(worker.attempt is not None for worker in self._workers)

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
        for worker in self._workers:
            if worker.task is not None and worker.attempt is None:
                worker.task.cancel()
        late = await self._late(max(0.0, deadline - time.monotonic()))
        for worker in late:
            if worker.attempt is not None:
                worker.attempt.stop()
        self.stuck = bool(await self._late(1.0))  # a handler that will not end does not hold up the stop
        if self._attempts is not None:
            self._attempts.close()
            self._attempts = None
        return len(late)

    async def _late(self, timeout: float) -> "list[_Worker]":
        """The workers that have not ended within ``timeout`` seconds."""
        tasks = {worker.task for worker in self._workers if worker.task is not None}
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        return [worker for worker in self._workers if worker.task is not None and not worker.task.done()]

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
        assert self._attempts is not None  # noqa: S101 - for the type checker: workers run between start and drain
        attempt = worker.attempt = self._attempts.begin(handler, event, handler.timeout or self._timeout)
        try:
            ended = await attempt.ended()
        finally:
            worker.attempt = None
            attempt.stop()
        if ended.stopped:
            raise asyncio.CancelledError
        error = None if ended.error is None else decisive(ended.error)
        if isinstance(error, Postponed):
            raise error
        outcome = self._decide(event, handler, error, ended.note, round(ended.seconds * 1000), applied)
        facts.attempt(event, handler.name, outcome.state, ended.seconds)
        return outcome

    def _decide(
        self,
        event: Event,
        handler: Handler,
        error: BaseException | None,
        note: object,
        ms: int,
        applied: Snapshot | None,
    ) -> Outcome:
        if error is None:
            return done(note, ms, handler.name, applied)
        place = ""
        if not isinstance(error, (Retry, Later, Ignored, DeadLetter)):
            place = place_of_error(error, handler.function) or handler.place
            if not isinstance(error, TimeoutError):
                self._mistakes.count(event, handler, error, place)
        now = self._clock()
        return decide(
            error,
            attempt=event.attempt,
            age=now - event.accepted_at,
            now=now,
            chance=random.random(),  # noqa: S311 - jitter is no secret
            ms=ms,
            policy=self._policy,
            max_attempts=handler.max_attempts,
            hold_dead=self._hold_dead,
            place=place,
        )


class _Worker:
    """A worker task, and the attempt that it waits for."""

    __slots__ = ("attempt", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.attempt: Attempt | None = None
