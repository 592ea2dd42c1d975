"""POST of an event: read, validate, keep, answer 202.

A 202 is written only after the journal has kept the event.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from connector.delivery.waiting import Answers
from connector.errors import ConnectorError, Stopping
from connector.events.event import Event
from connector.events.schema import Schema
from connector.facts import facts
from connector.journal import Journal
from connector.web.accepted import accepted
from connector.web.outcomes import refusal
from connector.web.responses import BadEncoding, BodyTimeout, BodyTooLarge, TargetDown
from connector.web.trace import TRACE


class Accept:
    """The handler of EVENT_PATH.

    ``max_body``      bytes, after inflating
    ``body_timeout``  seconds for the body to arrive
    ``clock``         seconds since the epoch
    ``answers``       with RESPONSE=outcome, who waits for an outcome
    ``away``          why calls for events of this type are held now, None where they are not
    """

    def __init__(
        self,
        schema: Schema,
        journal: Journal,
        *,
        max_body: int,
        body_timeout: float,
        clock: Callable[[], float],
        answers: Answers | None = None,
        away: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._schema = schema
        self._journal = journal
        self._max_body = max_body
        self._body_timeout = body_timeout
        self._clock = clock
        self._answers = answers
        self._away = away
        self.stopping = False
        self._waiting: set[asyncio.Timeout] = set()

    def stop(self) -> None:
        """Refuse events from now on, those too whose body is still on its way: nobody may be left to process them."""
        self.stopping = True
        for waiting in self._waiting:
            if not waiting.expired():
                waiting.reschedule(0)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """202 once the event is kept, also for a duplicate. Raises ConnectorError for every other answer."""
        if self.stopping:
            raise Stopping
        raw = await self._read(request)
        request_id, unique_id = request[TRACE]
        event = self._schema.parse(raw, request_id, unique_id, self._clock())
        if self._answers is not None:
            await self._keep_and_wait(event, self._answers)
        elif await self._journal.append(event):
            facts.accepted(event)
        else:
            facts.duplicate(event)
        return accepted(request)

    async def _keep_and_wait(self, event: Event, answers: Answers) -> None:
        """Raises the ConnectorError that the outcome stands for."""
        if away := self._away(event.event_type):
            raise TargetDown(away)
        joined = answers.is_expected(event.event_id)
        future = answers.expect(event.event_id)
        try:
            new = await self._journal.append(event)
        except ConnectorError:
            if not joined:
                answers.withdraw(event.event_id)
            raise
        if new:
            facts.accepted(event)
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

    async def _read(self, request: web.Request) -> bytes:
        content = request.content
        try:
            if content.is_eof():
                raw = content.read_nowait()
            elif (request.content_length or 0) > self._max_body:
                raise self._too_large()
            else:
                raw = await self._wait(request)
        except TimeoutError:
            if self.stopping:
                raise Stopping from None
            raise BodyTimeout(f"The body did not arrive within {self._body_timeout:g} s") from None
        except web.HTTPRequestEntityTooLarge:
            raise self._too_large() from None
        except (web.RequestPayloadError, HttpProcessingError):
            raise BadEncoding from None
        if len(raw) > self._max_body:
            raise self._too_large()
        return raw

    async def _wait(self, request: web.Request) -> bytes:
        async with asyncio.timeout(self._body_timeout) as waiting:
            self._waiting.add(waiting)
            try:
                return await request.read()
            finally:
                self._waiting.discard(waiting)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is over {self._max_body} bytes")
