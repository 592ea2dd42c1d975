"""POST of an event: read, validate, keep, answer 202.

A 202 is written only after the journal has kept the event.
"""

from collections.abc import Callable
from http import HTTPStatus
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
from connector.journal import Journal, Kept
from connector.outcome import Outcome
from connector.web.accepted import accepted
from connector.web.bodies import Bodies
from connector.web.outcomes import instead_of_accepted, refusal
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
                outcome = await self._keep_and_wait(event, self._answers)
                if outcome is not None and (said := instead_of_accepted(outcome)):
                    return web.json_response({"message": said}, status=HTTPStatus.ACCEPTED)
            else:
                _say(event, await self._journal.keep(event))
        except ConnectorError:
            request[NAMES] = _names_in(raw) if event is None else Names(event.event_id, event.event_type)
            raise
        finally:
            self._bodies.done(raw)
        return accepted(request)

    async def _keep_and_wait(self, event: Event, answers: Answers) -> Outcome | None:
        """The outcome where it is a 202, None where it is not known. Raises the ConnectorError that it stands for."""
        held = self._held(event.event_type)
        error = refusal(Outcome("dead", held.reason, kind=held.kind, asked=held.seconds)) if held else None
        if error is not None:
            raise error
        joined = answers.is_expected(event.key)
        future = answers.expect(event.key)
        try:
            kept = await self._journal.keep(event)
        except ConnectorError:
            if not joined:
                answers.withdraw(event.key)
            raise
        _say(event, kept)
        if kept is Kept.NEW:
            future = answers.expect(event.key)  # an earlier series, joined above, may have ended meanwhile
        elif not (joined or future.done() or answers.is_ending(event.key)):
            answers.withdraw(event.key)
            return None
        outcome = await answers.wait(event.key, future)
        error = refusal(outcome) if outcome is not None else None
        if error is not None:
            raise error
        return outcome


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


def _say(event: Event, kept: Kept) -> None:
    """Say that an event is kept, and what of it cannot be used; or that it is known already."""
    if kept is not Kept.NEW:
        (facts.conflict if kept is Kept.CONFLICT else facts.duplicate)(event)
        return
    facts.accepted(event)
    if not event.resources:
        facts.unordered(event)
    for path, value in event.unreadable.items():
        facts.field_unreadable(event, path, kind_of_value(value))
    for path in unreadable_times(event.body):
        facts.time_unreadable(event, path)
