"""For tests of handlers: an event without a server, and what would become of it.

::

    from connector.testing import example, run

    async def test_a_blocked_account_is_barred() -> None:
        outcome = await run(provision, example("SIM/Updated", {"pb_data.account_info.blocked": True}))
        assert outcome.state == "done"

    async def test_an_hlr_that_is_down_is_tried_again() -> None:
        with using(StandIn(503)):
            assert (await run(provision, example("SIM/Updated"))).state == "waiting"
"""

import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any, Final, cast

import orjson
from msgspec import structs

from connector.delivery.attempt import Attempts
from connector.delivery.workers import Workers, place_of
from connector.events.event import Event
from connector.events.examples import body_of, put
from connector.events.paths import is_absent
from connector.events.patterns import matches
from connector.events.schema import Schema
from connector.events.snapshot import Snapshot
from connector.external import stand_ins, taking_calls_of_threads, using
from connector.external.stand_in import Call, Reply, StandIn, no_answer, reply
from connector.handlers import Handlers, Hook, handler_of, running
from connector.handlers.declare import declared
from connector.journal import Entry, Journal, Newest, Step
from connector.outcome import Mark, Outcome, Postponed, RetryPolicy, decide, decisive, done

__all__ = [
    "Call",
    "Reply",
    "StandIn",
    "Trial",
    "event_of",
    "example",
    "no_answer",
    "reply",
    "run",
    "started",
    "using",
]

HANDLER_TIMEOUT: Final = 60.0
"""Seconds after which a handler without a ``timeout=`` is cut off: the default of the setting of this name."""


def example(event_type: str = "SIM/Updated", changes: Mapping[str, Any] | None = None, *, attempt: int = 1) -> Event:
    """A made-up event of this type as it really comes: SIM/Created without account, Account/Blocked with a block, ...

    ``changes`` sets fields by their dotted path; the value ``...`` takes a field away.
    """
    body = body_of(event_type)
    for path, value in (changes or {}).items():
        put(body, path, value)
    return event_of(orjson.dumps(body), attempt=attempt)


def event_of(body: bytes, *, attempt: int = 1) -> Event:
    """The event in a body as NSPS sends it. Raises ConnectorError where it would be refused."""
    schema = Schema(())
    return structs.replace(schema.parse(body, "test-request-id", "test-unique-id", time.time()), attempt=attempt)


async def run(function: Callable[[Event], Any], event: Event, *, policy: RetryPolicy | None = None) -> Outcome:
    """What becomes of ``event`` when the handler ``function`` is called with it once, as the connector would.

    The jitter of a retry's ``due`` is left out, so that a test can expect it. Raises ValueError for a function without
    ``@on``, one that does not take this type of event, or one whose ``require=`` the event does not meet.
    """
    handler = handler_of(function)
    if not any(matches(name, event.event_type) for name in handler.types):
        raise ValueError(f"{handler.name} takes {', '.join(handler.types)} and not {event.event_type}")
    missing = [path for path in handler.require if is_absent(event.field(path))]
    if missing:
        raise ValueError(f"the event would be refused: {', '.join(missing)} missing")
    started = time.time()
    attempts = Attempts()
    try:
        with taking_calls_of_threads():
            ended = await attempts.begin(handler, event, handler.timeout or HANDLER_TIMEOUT).ended()
    finally:
        attempts.close()
    if ended.error is None:
        return done(ended.note, 0)
    if isinstance(given_back := decisive(ended.error), Postponed):
        return _given_back(given_back, started)
    return decide(
        ended.error,
        attempt=event.attempt,
        age=started - event.accepted_at,
        now=started,
        chance=0.5,
        ms=0,
        policy=policy or RetryPolicy(),
        max_attempts=handler.max_attempts,
        place=place_of(ended.error, handler),
    )


class Trial:
    """Handlers as the connector runs them, one event after the other: no journal, no socket, no sleep.

    Several handlers of one type run in order, a retry goes on with the one that failed, what is the newest snapshot is
    remembered from event to event, and a clock of its own, which is that of the stand-ins too, jumps to the next
    attempt. ``attempts`` has the outcome of each attempt, also of one that spends none since the target has said when
    to come again (``Retry-After``). It may be used in several ``asyncio.run``.
    """

    def __init__(
        self, *functions: Callable[[Event], Any], policy: RetryPolicy | None = None, timeout: float = HANDLER_TIMEOUT
    ) -> None:
        """``timeout`` in seconds, for handlers without one. Raises ValueError for a function without ``@on``."""
        self.attempts: list[Outcome] = []
        self._handlers = Handlers([handler_of(function) for function in functions])
        self._policy = policy or RetryPolicy()
        self._timeout = timeout
        self._applied: dict[Mark, Snapshot] = {}
        self._now = time.time()
        self._seq = 0

    async def deliver(self, event: Event, *, most: int = 10_000) -> Outcome:
        """What becomes of ``event`` in the end, or after ``most`` attempts."""
        self._seq += 1
        entry = Entry(event, self._seq)
        workers = Workers(
            cast("Journal", self),
            self._handlers,
            self._policy,
            count=1,
            timeout=self._timeout,
            hold_dead=False,
            clock=lambda: self._now,
        )
        attempt = 1
        for _ in range(most):
            entry.event, entry.attempt = structs.replace(event, attempt=attempt), attempt
            calls = _calls()
            try:
                with taking_calls_of_threads():
                    outcome = await workers.try_once(entry)
                attempt, tried = attempt + 1, True
            except Postponed as given_back:
                outcome = _given_back(given_back, self._now)
                tried = _calls() > calls or not _in_place()
            for step in outcome.steps:
                self.note(entry, step)
            if tried:
                self.attempts.append(outcome)
            self._applied.update(outcome.applied)
            if outcome.due is None:
                break
            self._wait_until(outcome.due)
        return outcome

    def _wait_until(self, due: float) -> None:
        for each in _in_place():
            each.elapse(max(due - self._now, 0.0))
        self._now = max(self._now, due)

    async def newest(self, _: Entry, mark: Mark) -> Newest:
        """The newest snapshot that was applied; no event waits behind the one that is delivered."""
        return Newest(self._applied.get(mark))

    def age(self, moment: float, now: float) -> float:
        """As ``Journal.age``."""
        return now - moment

    def note(self, entry: Entry, step: Step, applied: Sequence[tuple[Mark, Snapshot]] = ()) -> None:
        """Keep what a handler has done."""
        self._applied.update(applied)
        entry.progress = {**entry.progress, step.handler: step}


def _given_back(error: Postponed, now: float) -> Outcome:
    """An attempt that a target gave back: it is held, or its turn is too far away. The wait is in whole seconds."""
    waits = [each.held_for for each in _in_place() if each.name == error.waits_for]
    return Outcome("waiting", str(error), due=now + math.ceil(max(waits, default=1.0)), kind=getattr(error, "kind", ""))


def _in_place() -> list[StandIn]:
    return [each for each in stand_ins() if isinstance(each, StandIn)]


def _calls() -> int:
    return sum(len(each.calls) for each in _in_place())


@asynccontextmanager
async def started(module: ModuleType) -> AsyncIterator[None]:
    """Within it the set-ups of ``module`` (``@on_start``) have been run; behind it its clean-ups."""
    hooks = [each for each in declared if isinstance(each, Hook) and each.function.__globals__ is vars(module)]
    async with running(hooks):
        yield
