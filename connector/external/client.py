"""The client for one external system that this connector changes.

A call passes, in this order: the breaker and the concurrency limit (a permit), the rate limit (a turn), the
authorization (a header), the wire. What comes back is judged by the table in ``failures``; whatever the table says, the
breaker is told whether the target as a whole seems to be there.

What a call that cannot be made now does to its event:

===================================================  ==============================  ==============================
                                                     the first call of its attempt   a later one
===================================================  ==============================  ==============================
the target is held (breaker, Retry-After)            given back, no attempt spent    waits in place, then retry
its turn has not come (rate, concurrency)            given back, no attempt spent    waits in place, then retry
this machine lacks something (descriptors, names)    given back, no attempt spent    retry
===================================================  ==============================  ==============================

An attempt that has made a call spends itself, since the call would be made again without bound.

Who waits in place holds a worker. For its turn a first call does that for ``BRIEF`` only, or where it finds a seat:
one for eight workers, so that a call can follow the one before at once. The others rest in the journal, and each call
that ends, or turn that comes, lets the next one in.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from threading import get_ident
from typing import Final, NamedTuple, Unpack
from urllib.parse import urlencode

import msgspec
from aiohttp import hdrs
from yarl import URL

from connector import log
from connector.events.event import Event
from connector.external.attempt import Calls, calls_of
from connector.external.breaker import CANDIDATES, Breaker, Permit, Rules, Subject, Timer
from connector.external.credentials import Authorization, NoToken, authorization, secrets_of
from connector.external.failures import counts, judge
from connector.external.hooks import Verdict, has_hook, verdict_on
from connector.external.limits import RateLimit
from connector.external.mapping import MappingFile
from connector.external.mistakes import mistake
from connector.external.options import GET_OPTIONS, GetOptions, Options
from connector.external.request import Request, check_names, request_of
from connector.external.response import (
    Kind,
    TargetBusy,
    TargetDead,
    TargetFailed,
    TargetIgnored,
    TargetMistake,
    TargetResponse,
    TargetRetry,
    TargetUnavailable,
)
from connector.external.said import Masks
from connector.external.tls import Trust
from connector.external.urls import Value
from connector.external.wire import NoAnswer, OwnLack, Sender, Wire
from connector.facts import facts
from connector.setting_values import StatusOutcome
from connector.settings import Settings

MAX_WAIT: Final = 5.0
"""Seconds that a call waits in place for a permit and for its turn, each. It keeps an event that waits from being cut
off by HANDLER_TIMEOUT, which would spend an attempt."""

BRIEF: Final = 0.05
"""Seconds that a first call waits in place for its turn, seat or not."""

WORKERS_A_SEAT: Final = 8
"""Of so many workers one may wait in place for a permit or a turn, before its attempt's first call."""

SWEEP: Final = 1.0
"""Seconds, spread by a half, after which events that were given back are let in again, as far as calls may be made.

For those that met a lack of this machine, or whose turn was too far away; and for those that were still on their way
back when the target was released."""

SPREAD: Final = 0.2
"""The part of a Retry-After over which those who waited for it come back."""

_OUTCOMES: Final = frozenset({"done", "retry", "dead", "ignored"})


_log = log.get_logger()


class Held(NamedTuple):
    """Calls are held: why, what kind of failure that is, and for how many seconds still."""

    reason: str
    kind: str
    seconds: float


class TargetState(msgspec.Struct, frozen=True):
    """The client at a moment: ``breaker`` closed, open or half_open, and why; calls allowed, under way and waiting.

    ``scope``  the one event type that is held; None for all
    """

    breaker: str
    reason: str
    allowed: int
    running: int
    waiting: int
    calls: int
    failures: int
    scope: str | None = None


class Target:
    """One external system, as its settings (TARGET_*, BREAKER_*) describe it.

    ``name``     "target" for the one of TARGET_URL
    ``clock``    seconds, steady
    ``hold``     is called with the reason and the seconds when calls are held
    ``release``  is called when those who were given back for the target may come again: how many, None for all; it
                 returns how many there were
    ``free``     is called when calls go on without limit
    ``mapping``  what FORWARD_MAPPING says, for the forwarder
    ``wire``     what sends requests in place of sockets, in tests
    Raises StartError where a certificate or key cannot be read. To be opened before the first call and closed after
    the last, within the event loop.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        name: str = "target",
        chance: Callable[[], float] = random.random,
        hold: Callable[[str, float], None] = lambda _, __: None,
        release: Callable[[int | None], int] = lambda _: 0,
        free: Callable[[], None] = lambda: None,
        mapping: MappingFile | None = None,
        wire: Sender | None = None,
    ) -> None:
        self.name = name
        self.mapping = mapping
        self.settings = settings
        self._who = "the target" if name == "target" else name
        self._url = URL(settings.target_url, encoded=True)
        self._clock, self._chance = clock, chance
        self._hold, self._release = hold, release
        self._gives_back = settings.response != "outcome"
        self._masks = Masks(secrets_of(settings))
        self._wire: Sender = wire or _wire(settings, name)
        self._rate = RateLimit(
            settings.target_rate, settings.target_burst or round(settings.target_rate), clock, asyncio.sleep
        )
        self._breaker = Breaker(
            _rules(settings),
            settings.target_concurrency or settings.workers,
            name=name,
            later=self._later,
            chance=chance,
            opened=self._opened,
            released=self._released,
            closed=free,
        )
        self._authorization: Authorization = authorization(settings, self._post_form, clock, self._who)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._seats = settings.workers // WORKERS_A_SEAT
        self._turned_away = 0  # who rests for a permit or a turn, as far as is known
        self._turns: Timer | None = None
        self._held_for = self._held_until = 0.0
        self._spreads = False
        self._free = free
        self._lack = ""
        self._sweeping: Timer | None = None
        self._calls = self._failures = 0

    async def open(self) -> None:
        """Get ready for calls; nothing is sent yet."""
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        await self._wire.open()
        self._sweep()

    async def close(self) -> None:
        """Close all connections."""
        self._breaker.stop()
        for timer in (self._sweeping, self._turns):
            if timer is not None:
                timer.cancel()
        await self._authorization.close()
        await self._wire.close()

    def watch(self, between: Callable[[Sender], Sender]) -> None:
        """Put something between this client and its sockets, before it is opened: it sees each request and answer."""
        self._wire = between(self._wire)

    def take_secrets(self, settings: Settings) -> bool:
        """Log in with the credentials of these settings from now on; whether they are others than before.

        What a call that is under way was given stays as it is.
        """
        before, after = [*secrets_of(self.settings)], [*secrets_of(settings)]
        if before == after:
            return False
        self._masks = Masks([*before, *after])
        self._authorization = self._authorization.renewed(
            authorization(settings, self._post_form, self._clock, self._who)
        )
        self.settings = settings
        return True

    def state(self) -> TargetState:
        """How things stand now."""
        breaker, limit = self._breaker, self._breaker.limit
        return TargetState(
            breaker.state,
            breaker.reason,
            limit.limit,
            limit.in_use,
            limit.waiting,
            self._calls,
            self._failures,
            breaker.scope,
        )

    def held(self, event_type: str | None = None) -> Held | None:
        """That calls for events of this type are held, while they are and no probe is due; else None."""
        if not self._breaker.holds(event_type):
            return None
        return Held(self._breaker.reason, str(self._breaker.kind), max(self._held_until - self._clock(), 0.0))

    async def get(
        self, path: str = "", values: Mapping[str, Value] | None = None, **options: Unpack[GetOptions]
    ) -> TargetResponse:
        """``request`` with GET, which has no body."""
        check_names(options, GET_OPTIONS)
        return await self.request(hdrs.METH_GET, path, values, **options)

    async def post(
        self, path: str = "", values: Mapping[str, Value] | None = None, **options: Unpack[Options]
    ) -> TargetResponse:
        """``request`` with POST."""
        return await self.request(hdrs.METH_POST, path, values, **options)

    async def put(
        self, path: str = "", values: Mapping[str, Value] | None = None, **options: Unpack[Options]
    ) -> TargetResponse:
        """``request`` with PUT."""
        return await self.request(hdrs.METH_PUT, path, values, **options)

    async def patch(
        self, path: str = "", values: Mapping[str, Value] | None = None, **options: Unpack[Options]
    ) -> TargetResponse:
        """``request`` with PATCH."""
        return await self.request(hdrs.METH_PATCH, path, values, **options)

    async def delete(
        self, path: str = "", values: Mapping[str, Value] | None = None, **options: Unpack[Options]
    ) -> TargetResponse:
        """``request`` with DELETE."""
        return await self.request(hdrs.METH_DELETE, path, values, **options)

    async def request(
        self, method: str, path: str = "", values: Mapping[str, Value] | None = None, **options: Unpack[Options]
    ) -> TargetResponse:
        """One call; the answer where all went well.

        ``path``     put after TARGET_URL; ``{name}`` in it stands for ``values["name"]``, percent-encoded
        ``options``  see ``connector.external.options``

        Raises TargetFailed (see ``response``): a handler lets it pass, or catches what it knows better.
        """
        outcomes = _checked(options.get("outcomes"), self.settings.target_status)
        if self._loop is not None and get_ident() != self._thread:
            raise mistake("a call of another event loop's: in a thread, use from_thread(target().get(...))")
        event = options.get("event")
        if event is not None and not isinstance(event, Event):
            raise mistake(f"event= expects the event, not {type(event).__name__}")
        calls = calls_of(event)
        request = await request_of(method, self._url, path, values, options, calls.handler)
        return await self._call(request, calls, calls.event or event, outcomes)

    async def _call(
        self, request: Request, calls: Calls, event: Event | None, outcomes: Mapping[int, StatusOutcome]
    ) -> TargetResponse:
        subject = Subject() if event is None else Subject(_subscriber(event), event.event_type)
        permit = self._breaker.enter_at_once(subject) or await self._permit(subject, calls)
        answered, failure, everybody = False, None, False
        started = time.monotonic()
        try:
            if self._rate.is_on:
                await self._take_turn(permit, calls)
            self._calls += 1
            calls.begun += 1
            response = await self._authorized(request)
            answered = True
            calls.made += 1
            if self._lack:
                self._lacks_nothing()
            failed, failure = self._judged(response, outcomes, event)
            self._say(request, event, started, response.status)
            if failed is not None and self._is_held_by(failed, permit):
                raise self._given_back(failed, calls)
        except NoAnswer as error:
            failure, everybody = f"{self._who} {error}", error.everybody
            self._say(request, event, started, None, failure)
            failed = TargetRetry(self._masks.line(failure, event), Kind.DOWN)
        except NoToken as error:
            self._breaker.hold(permit, error.at_least, str(error), error.kind, everybody=True)
            raise self._given_back(TargetRetry(str(error), error.kind, after=error.at_least), calls) from None
        except OwnLack as error:
            self._lacks(str(error))
            raise self._given_back(TargetRetry(str(error), Kind.DOWN), calls) from None
        finally:
            self._failures += failure is not None
            stood = self._breaker.stands(permit)
            self._breaker.leave(permit, answered=answered, failure=failure, everybody=everybody)
            if self._turned_away:
                self._let_in(1)
        if failed is None:
            return response
        if failure is not None and not stood and isinstance(failed, TargetRetry):
            raise self._given_back(failed, calls)
        raise failed

    async def _permit(self, subject: Subject, calls: Calls) -> Permit:
        in_place = calls.begun > 0 or not self._gives_back
        waits = in_place or not calls.handler
        seated = not waits and self._seats > 0
        self._seats -= seated
        try:
            return await self._breaker.enter(MAX_WAIT if waits or seated else 0.0, subject, in_place=in_place)
        except TargetUnavailable as unavailable:
            raise self._given_back(TargetRetry(str(unavailable), unavailable.kind), calls, type(unavailable)) from None
        finally:
            self._seats += seated

    async def _take_turn(self, permit: Permit, calls: Calls) -> None:
        waits = calls.begun > 0 or not self._gives_back or not calls.handler
        seated = not waits and self._seats > 0 and self._rate.wait > BRIEF
        self._seats -= seated
        try:
            if not await self._rate.turn(MAX_WAIT if waits or seated else BRIEF):
                wait = self._rate.wait
                if not waits and self._turns is None:
                    self._turns = self._later(wait, self._let_in_turns)
                busy = TargetRetry(f"TARGET_RATE allows the next call in {wait:.3g} s", Kind.RATE_LIMITED)
                raise self._given_back(busy, calls, TargetBusy)
        finally:
            self._seats += seated
        if not self._breaker.stands(permit):
            raise self._given_back(TargetRetry(self._breaker.reason, self._breaker.kind), calls)

    def _let_in(self, most: int) -> int:
        """Let in so many of those who rest for a permit or a turn; how many there were."""
        woken = self._release(most)
        self._turned_away = max(self._turned_away - woken, 0)  # who is still on the way back is met by the sweep
        return woken

    def _let_in_turns(self) -> None:
        """Let in as many of those who rest as turns come soon, and come again."""
        self._turns = None
        if self._turned_away:
            interval = self._rate.interval
            self._let_in(1 if interval >= BRIEF else round(BRIEF / max(interval, BRIEF / CANDIDATES)))
            self._turns = self._later(max(self._rate.wait, interval, BRIEF), self._let_in_turns)

    def _given_back(
        self, failed: TargetFailed, calls: Calls, kind: type[TargetUnavailable] = TargetUnavailable
    ) -> TargetFailed:
        """What to raise for a call that could not be made, or was refused for now; see the head of this file."""
        if calls.made > (failed.response is not None) or not self._gives_back:
            return failed
        if kind is TargetBusy:
            if calls.begun:
                return failed
            self._turned_away += bool(calls.handler)
            return TargetBusy(str(failed), waits_for=self.name)
        return TargetUnavailable(str(failed), failed.kind, waits_for=self.name)

    def _judged(
        self, response: TargetResponse, outcomes: Mapping[int, StatusOutcome], event: Event | None
    ) -> tuple[TargetFailed | None, str | None]:
        """What to raise for an answer, if anything, and what it says about the target as a whole."""
        status = response.status
        if 200 <= status < 300 and status not in outcomes and not has_hook(self.name):
            return None, None
        said = ""
        if not 200 <= status < 300:
            location = response.headers.get(hdrs.LOCATION, "") if 300 <= status < 400 else ""
            said = f"to {self._masks.address(location)}" if location else self._masks.reason(response.body, event)
        failed = judge(response, outcomes, datetime.now(UTC), self._who, said)
        failure = f"{self._who} answered {status}" if counts(status) else None
        if failed is None and (verdict := self._verdict(response)) is not None:
            reason = f"{self._who} answered {status}: {self._masks.line(verdict.reason, event)}".removesuffix(": ")
            failure = reason if verdict.counts else failure
            match verdict.outcome:
                case "retry":
                    failed = TargetRetry(reason, Kind.FAILED, response)
                case "dead":
                    failed = TargetDead(reason, Kind.REFUSED, response)
                case "ignored":
                    failed = TargetIgnored(reason, Kind.REFUSED, response)
        return failed, failure

    def _verdict(self, response: TargetResponse) -> Verdict | None:
        verdict = verdict_on(self.name, response)
        if verdict is not None and not isinstance(verdict, Verdict):
            raise TargetMistake(f"@on_response of {self._who} gave {type(verdict).__name__} and not a Verdict or None")
        return verdict

    def _is_held_by(self, failed: TargetFailed, permit: Permit) -> bool:
        """Whether the answer said, by a 429 or 503 with Retry-After, how long the target takes no calls at all."""
        if not isinstance(failed, TargetRetry) or failed.status not in (429, 503) or failed.after is None:
            return False
        held = self._breaker.hold(permit, failed.after, str(failed), failed.kind)
        self._spreads = self._spreads or held
        return held

    def _opened(self, reason: str, seconds: float) -> None:
        self._held_for, self._held_until = seconds, self._clock() + seconds
        self._hold(reason, seconds)

    def _released(self, most: int | None) -> None:
        if self._held_for and self._breaker.turned_away:
            spread = self._held_for * SPREAD
            self._rate.space(spread / self._breaker.turned_away, spread)
        self._held_for = self._held_until = 0.0
        self._spreads = False
        if most is None:
            self._turned_away = 0
        self._release(most)

    def _sweep(self) -> None:
        """Let in again who was given back, and come again."""
        self._sweeping = self._later(SWEEP * (0.5 + self._chance()), self._sweep)
        breaker = self._breaker
        if self._turned_away and breaker.state == "closed":
            if self._let_in(CANDIDATES) < CANDIDATES:
                self._turned_away = 0
        elif breaker.state == "closed" and not self._lack:
            self._release(None)
        elif breaker.state != "open" or breaker.scope is not None:
            self._release(CANDIDATES)

    def _lacks(self, lack: str) -> None:
        """Say what this machine lacks, once until a call is answered again."""
        if not self._lack:
            _log.warning(f"Calls to {self._who} wait: {lack}", action="target.lack", target=self.name, reason=lack)
            self._hold(lack, SWEEP)
        self._lack = lack

    def _lacks_nothing(self) -> None:
        self._lack = ""
        if self._breaker.state == "closed":
            self._free()

    def _later(self, wait: float, call: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(wait, call)

    async def _authorized(self, request: Request) -> TargetResponse:
        """The answer; a 401 is tried once more where there is another token to be had."""
        name, token = self._authorization.name, await self._authorization.value()
        if token is None:
            return await self._send(request, request.fields)
        response = await self._send(request, {**request.fields, name: token})
        if response.status == 401:
            other = await self._authorization.value(refused=token)
            if other is not None and other != token:
                return await self._send(request, {**request.fields, name: other})
        return response

    async def _send(self, request: Request, fields: Mapping[str, str]) -> TargetResponse:
        return await self._wire.send(request.method, request.url, request.data, fields, timeout=request.timeout)

    async def _post_form(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> TargetResponse:
        """The authorization's way to the token server. Raises NoAnswer and OwnLack."""
        fields = {**headers, hdrs.CONTENT_TYPE: "application/x-www-form-urlencoded"}
        return await self._wire.send(hdrs.METH_POST, URL(url, encoded=True), urlencode(form).encode(), fields)

    def _say(
        self, request: Request, event: Event | None, started: float, status: int | None, failure: str | None = None
    ) -> None:
        if not self.settings.log_calls:
            return
        message = f"{request.method} {request.shown or '/'}: {status or failure}"
        more = {
            "target": self.name,
            "method": request.method,
            "host": self._url.host,
            "path": request.shown or "/",
            "status": status,
        }
        facts.called(event, message, time.monotonic() - started, more)


def _wire(settings: Settings, name: str) -> Wire:
    files = settings.target_ca_file, settings.target_cert_file, settings.target_key_file
    return Wire(Trust(*files, prefix=name.upper()), settings.target_timeout, settings.target_connect_timeout)


def _rules(settings: Settings) -> Rules:
    return Rules(
        settings.breaker_failures,
        settings.breaker_share,
        settings.breaker_calls,
        settings.breaker_cool_down,
        settings.breaker_cool_down_max,
        settings.retry_max,
    )


def _checked(
    outcomes: Mapping[int, StatusOutcome] | None, usual: Mapping[int, StatusOutcome]
) -> Mapping[int, StatusOutcome]:
    """What each status means in a call: as usual, but for those that the call names."""
    if not outcomes:
        return usual
    for status, outcome in outcomes.items():
        if outcome not in _OUTCOMES or not isinstance(status, int) or not 100 <= status <= 999:
            raise mistake(f"outcomes={{{status!r}: {outcome!r}}}: a status and one of {', '.join(sorted(_OUTCOMES))}")
    return {**usual, **outcomes}


def _subscriber(event: Event) -> str:
    return event.resources[0] if event.resources else event.event_id
