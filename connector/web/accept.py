"""POST of an event: read, validate, keep, answer 202.

A 202 is written only after the journal has kept the event.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from connector.delivery.waiting import Answers
from connector.errors import ConnectorError, Stopping
from connector.events.event import Event
from connector.events.reading import kind_of_value
from connector.events.schema import Schema
from connector.events.snapshot import unreadable_times
from connector.external.client import Held
from connector.facts import facts
from connector.journal import Journal
from connector.outcome import Outcome
from connector.web.accepted import accepted
from connector.web.bodies import Bodies
from connector.web.outcomes import refusal
from connector.web.refusals import NAMES, Names, shown
from connector.web.trace import TRACE


class Accept:
    """The handler of EVENT_PATH.

    ``bodies``   reads the bodies
    ``clock``    seconds since the epoch
    ``answers``  with RESPONSE=outcome, who waits for an outcome
    ``away``     why calls for events of this type are held now, None where they are not
    """

    def __init__(
        self,
        schema: Schema,
        journal: Journal,
        bodies: Bodies,
        *,
        clock: Callable[[], float],
        answers: Answers | None = None,
        held: Callable[[str], Held | None] = lambda _: None,
    ) -> None:
        self.schema = schema
        self._journal = journal
        self._bodies = bodies
        self._clock = clock
        self._answers = answers
        self._held = held
        self.stopping = False

    def stop(self) -> None:
        """Refuse events from now on, those too whose body is still on its way: nobody may be left to process them."""
        self.stopping = True
        self._bodies.stop()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """202 once the event is kept, also for a duplicate. Raises ConnectorError for every other answer."""
        if self.stopping:
            raise Stopping
        raw = await self._bodies.read(request)
        event = None
        try:
            request_id, unique_id = request[TRACE]
            event = self.schema.parse(raw, request_id, unique_id, self._clock())
            if self._answers is not None:
                await self._keep_and_wait(event, self._answers)
            elif await self._journal.append(event):
                _is_new(event)
            else:
                facts.duplicate(event)
        except ConnectorError:
            request[NAMES] = _names_in(raw) if event is None else Names(event.event_id, event.event_type)
            raise
        finally:
            self._bodies.done(raw)
        return accepted(request)

    async def _keep_and_wait(self, event: Event, answers: Answers) -> None:
        """Raises the ConnectorError that the outcome stands for."""
        held = self._held(event.event_type)
        error = refusal(Outcome("dead", held.reason, kind=held.kind, asked=held.seconds)) if held else None
        if error is not None:
            raise error
        joined = answers.is_expected(event.event_id)
        future = answers.expect(event.event_id)
        try:
            new = await self._journal.append(event)
        except ConnectorError:
            if not joined:
                answers.withdraw(event.event_id)
            raise
        if new:
            _is_new(event)
            future = answers.expect(event.event_id)  # an earlier series, joined above, may have ended meanwhile
        else:
            facts.duplicate(event)
            if not (joined or future.done() or answers.is_ending(event.event_id)):
                answers.withdraw(event.event_id)
                return
        outcome = await answers.wait(event.event_id, future)
        error = refusal(outcome) if outcome is not None else None
        if error is not None:
            raise error


class _Named(msgspec.Struct):
    event_id: Any = None
    data: Any = None


def _names_in(raw: bytes) -> Names:
    """What a body that is no event calls itself, as far as that can be read."""
    try:
        body = msgspec.json.decode(raw, type=_Named)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return Names(None, None)
    event_type = body.data.get("event_type") if isinstance(body.data, dict) else None
    return Names(*(shown(str(each)) if isinstance(each, str | int) else None for each in (body.event_id, event_type)))


def _is_new(event: Event) -> None:
    """Say that an event is kept, and what of it cannot be used."""
    facts.accepted(event)
    if not event.resources:
        facts.unordered(event)
    for path, value in event.unreadable.items():
        facts.field_unreadable(event, path, kind_of_value(value))
    for path in unreadable_times(event.body):
        facts.time_unreadable(event, path)
