"""Worker tasks: take an event from the journal, run its handler, settle what became of it."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import structs

from connector import log
from connector.delivery.attempt import Attempt, Attempts
from connector.delivery.crashes import GUILTY, LONGEST_WAIT, SUSPECT, Crashes
from connector.delivery.crashes import reason as died
from connector.delivery.mistakes import Mistakes
from connector.delivery.waiting import Answers
from connector.delivery.watchdog import Watchdog
from connector.errors import Unavailable
from connector.events.event import Event
from connector.events.paths import is_absent
from connector.events.snapshot import Snapshot, after, is_older, snapshot_of
from connector.facts import facts
from connector.handlers import Handler, Handlers, mark_of
from connector.handlers.places import place_of_error
from connector.handlers.thread import MOST_LEFT_BEHIND
from connector.journal import Entry, Journal
from connector.outcome import (
    MAX_REASON,
    DeadLetter,
    Ignored,
    Later,
    Mark,
    Outcome,
    Postponed,
    Retry,
    RetryPolicy,
    State,
    Step,
    decide,
    decisive,
    done,
    together,
)

YIELD_AFTER: Final = 8
"""Events that a worker handles before it lets the event loop turn, where nothing else makes it."""

PAUSE: Final = 0.5
"""Seconds that a worker waits where the journal cannot be asked, or no call of a plain function may begin."""

ALONE: Final = "an event that may have ended the process runs alone"
"""The reason under which the others are held meanwhile."""

_log = log.get_logger()


class Workers:
    """``count`` tasks that take events from the journal.

    ``timeout``  seconds until a handler is cut off, unless the handler says otherwise
    ``hold_dead``  whether the events behind a dead one wait for an operator
    ``clock``    seconds since the epoch
    ``answers``  with RESPONSE=outcome, who waits for an outcome
    ``crashes``  remembers what ran when the process died
    """

    def __init__(
        self,
        journal: Journal,
        handlers: Handlers,
        policy: RetryPolicy,
        *,
        count: int,
        timeout: float,
        hold_dead: bool,
        clock: Callable[[], float],
        answers: Answers | None = None,
        crashes: Crashes | None = None,
    ) -> None:
        self._answers = answers
        self._crashes = crashes or Crashes(None, count)
        self._journal = journal
        self._handlers = handlers
        self._policy = policy
        self._timeout = timeout
        self._hold_dead = hold_dead
        self._clock = clock
        self._workers = [_Worker(number) for number in range(count)]
        self._watchdog = Watchdog()
        self._alone = asyncio.Lock()
        self._ended = 0
        self._attempts: Attempts | None = None
        self._mistakes = Mistakes()
        self._full: set[str] = set()
        self._stopping = False
        self.stuck = False
        """Whether a handler went on after the drain: the event loop would wait for it for ever."""

    def start(self) -> None:
        """Begin to take events."""
        self._crashes.open()
        self._attempts = Attempts()
        self._watchdog.start()
        for worker in self._workers:
            worker.task = asyncio.create_task(self._work(worker), name=f"worker-{worker.number}")

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
                await asyncio.wait_for(self._journal.join(), timeout)
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
            self._crashes.close()
            self._watchdog.stop()
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
            entry = await self._journal.take()
            event = entry.event
            try:
                deaths = self._crashes.deaths(entry.seq)
                outcome: Outcome | None
                if entry.unreadable:
                    outcome = Outcome("held" if self._hold_dead else "dead", entry.unreadable)
                elif deaths < SUSPECT:
                    outcome = await self._handle(worker, entry)
                elif deaths < GUILTY:
                    outcome = await self._handle_alone(worker, entry)
                else:
                    outcome = Outcome("held" if self._hold_dead else "dead", died(deaths))
                    self._crashes.end(worker.number, entry.seq)
            except (Postponed, Unavailable) as reason:
                self._journal.give_back(entry, reason.waits_for if isinstance(reason, Postponed) else None)
                is_brief = isinstance(reason, Postponed) and not isinstance(reason, Held)
                await asyncio.sleep(0 if is_brief else PAUSE)
                continue
            if outcome is None:
                self._journal.give_back(entry)
                continue
            if self._answers is not None:
                outcome = self._answers.ended(event, outcome)
            facts.outcome(event, outcome.state, outcome.reason, entry.attempt, outcome.ms, outcome.due)
            self._journal.settle(entry, outcome)
            handled += 1
            if handled % YIELD_AFTER == 0:
                await asyncio.sleep(0)

    async def try_once(self, entry: Entry) -> Outcome:
        """One attempt to handle an event that nobody has taken from the journal: for tests of handlers."""
        self._attempts = Attempts()
        try:
            outcome = await self._handle(_Worker(0), entry)
            assert outcome is not None  # noqa: S101 - for the type checker: the event is not due later
            return outcome
        finally:
            self._attempts.close()

    async def _handle_alone(self, worker: "_Worker", entry: Entry) -> Outcome | None:
        """Handle an event while nothing else runs, after all that can run before it."""
        if self._alone.locked():
            raise Held("another event runs alone")
        async with self._alone:
            log.event_line(
                "event.suspect", "Runs alone and last: the process died twice while it ran", entry.event, "warning"
            )
            give_up, ended = time.monotonic() + LONGEST_WAIT, -1
            while (ended != self._ended or self.running) and time.monotonic() < give_up:
                ended = self._ended
                await asyncio.sleep(PAUSE)
            self._journal.hold(ALONE)
            try:
                while self.running:  # noqa: ASYNC110 - a rare case, which is to cost the others nothing
                    await asyncio.sleep(PAUSE / 10)
                return await self._handle(worker, entry)
            finally:
                self._journal.release(ALONE)

    async def _handle(self, worker: "_Worker", entry: Entry) -> Outcome | None:
        """The outcome of the event's next attempt; None where it is not due yet."""
        event_type = entry.event.event_type
        handlers = self._handlers.find(event_type)
        if len(handlers) == 1 and not entry.progress:
            return await self._one(worker, entry, handlers[0], entry.attempt)
        if not handlers:
            return Outcome("ignored", f"no handler takes {event_type}")
        return await self._several(worker, entry, handlers)

    async def _several(self, worker: "_Worker", entry: Entry, handlers: Sequence[Handler]) -> Outcome | None:
        """Run the handlers in their order, those that have ended left out, until one is to be tried again.

        A dead one lets the next begin. What a handler has done, and what it wrote, is noted at once, so that no retry
        repeats it: the outcome of the whole tells of no snapshot any more.
        """
        steps: dict[str, Step] = {}
        ms, kind = 0, ""
        for handler in handlers:
            before = entry.progress.get(handler.name)
            if before is not None and before.state != "waiting":
                steps[handler.name] = before
                continue
            attempt = before.attempts + 1 if before is not None else 1
            outcome = await self._one(worker, entry, handler, attempt)
            if outcome is None:
                return None
            ms, kind = ms + outcome.ms, outcome.kind or kind
            state: State = "dead" if outcome.state == "held" else outcome.state
            step = Step(handler.name, state, attempt, outcome.reason, outcome.ms)
            if outcome.steps:
                step = outcome.steps[0]
            steps[handler.name] = step
            self._journal.note(entry, step, outcome.applied)
            if outcome.state == "waiting":
                reason = f"{handler.name}: {outcome.reason}"[:MAX_REASON] if len(handlers) > 1 else outcome.reason
                return structs.replace(outcome, reason=reason, ms=ms, steps=tuple(steps.values()))
        whole = together(list(steps.values()), ms=ms, kind=kind, hold_dead=self._hold_dead)
        ended = [_released(step) if whole.state == "held" else step for step in steps.values()]
        return structs.replace(whole, steps=tuple(ended))

    async def _one(self, worker: "_Worker", entry: Entry, handler: Handler, attempt: int) -> Outcome | None:
        """What becomes of one handler: superseded, skipped, or run; None where its event is not due yet."""
        applied: tuple[tuple[Mark, Snapshot], ...] = ()
        if handler.latest_only:
            by, applied = await self._superseded(entry, handler)
            if by is not None:
                return Outcome("superseded", by)
        if entry.due is not None and entry.due > self._clock():
            return None
        for path in handler.skip_unless:
            if is_absent(entry.event.field(path)):
                return Outcome("ignored", f"{path} is missing")
        return await self._run(worker, entry, handler, attempt, applied)

    async def _superseded(self, entry: Entry, handler: Handler) -> tuple[str | None, tuple[tuple[Mark, Snapshot], ...]]:
        """The id of the event that makes this one pointless for a ``latest_only`` handler; else what to apply."""
        mark, mine = mark_of(handler, entry.event), snapshot_of(entry.event, entry.seq, entry.origin)
        if mark is None or mine is None:
            return None, ()
        before, behind = await self._journal.newest(entry, mark)
        if behind is not None:
            return behind.event_id, ()
        if before is not None and before.seq != entry.seq and is_older(mine, before):
            return before.event_id, ()
        return None, ((mark, after(mine, before)),)

    async def _run(
        self,
        worker: "_Worker",
        entry: Entry,
        handler: Handler,
        attempt: int,
        applied: tuple[tuple[Mark, Snapshot], ...],
    ) -> Outcome:
        assert self._attempts is not None  # noqa: S101 - for the type checker: workers run between start and drain
        if handler.thread is not None and handler.thread.is_full:
            self._say_full(handler)
            raise Held(_full(handler))
        self._full.discard(handler.name)
        event = entry.event
        given = event if attempt == event.attempt else structs.replace(event, attempt=attempt)
        self._crashes.begin(worker.number, entry.seq)
        running = worker.attempt = self._attempts.begin(handler, given, handler.timeout or self._timeout)
        try:
            ended = await running.ended()
        finally:
            worker.attempt = None
            running.stop()
            self._crashes.end(worker.number, entry.seq)
            self._ended += 1
        if ended.stopped:
            raise asyncio.CancelledError
        error = None if ended.error is None else decisive(ended.error)
        try:
            if isinstance(error, Postponed):
                raise error
            ms = round(ended.seconds * 1000)
            outcome = done(ended.note, ms, applied) if error is None else self._failed(given, handler, error, ms)
            facts.attempt(event, handler.name, outcome.state, ended.seconds)
            if isinstance(error, Later):
                return structs.replace(outcome, steps=(Step(handler.name, "waiting", attempt - 1, outcome.reason, ms),))
            return outcome
        finally:
            del ended, error  # the traceback leads back to this frame: that would be a cycle

    def _failed(self, event: Event, handler: Handler, error: BaseException, ms: int) -> Outcome:
        place = place_of(error, handler)
        if place and not isinstance(error, TimeoutError):
            self._mistakes.count(event, handler, error, place)
        now = self._clock()
        return decide(
            error,
            attempt=event.attempt,
            age=self._journal.age(event.accepted_at, now),
            now=now,
            chance=random.random(),  # noqa: S311 - jitter is no secret
            ms=ms,
            policy=self._policy,
            max_attempts=handler.max_attempts,
            hold_dead=self._hold_dead,
            place=place,
        )

    @property
    def troubles(self) -> list[str]:
        """What keeps events waiting that is no matter of the external system: for ``/ready``."""
        return [
            _full(handler) for handler in self._handlers.all if handler.thread is not None and handler.thread.is_full
        ]

    def _say_full(self, handler: Handler) -> None:
        if handler.name in self._full:
            return
        self._full.add(handler.name)
        _log.error(_full(handler), action="handler.threads", handler=handler.name, place=handler.place)


def _released(step: Step) -> Step:
    """A step of a held event: where an operator releases it, the dead handlers are tried once more."""
    return structs.replace(step, state="waiting") if step.state == "dead" else step


def place_of(error: BaseException, handler: Handler) -> str:
    """The line of the author's code at which ``handler`` failed; an empty text where it said itself how to go on."""
    if isinstance(decisive(error), (Retry, Later, Ignored, DeadLetter, Postponed)):
        return ""
    return place_of_error(error, handler.function) or handler.place


class Held(Postponed):
    """The event cannot run now for a reason of our own, and it would not help to ask again at once."""


def _full(handler: Handler) -> str:
    return (
        f"{MOST_LEFT_BEHIND} calls of {handler.name} ({handler.place}) were cut off and still run: "
        "its events wait until one of them ends"
    )


class _Worker:
    """A worker task, and the attempt that it waits for."""

    __slots__ = ("attempt", "number", "task")

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.attempt: Attempt | None = None
