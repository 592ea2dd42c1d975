"""The client for the one external system that this connector changes.

A call passes, in this order: the breaker and the concurrency limit (a permit), the rate limit (a turn), the
authorization (a header), the wire. What comes back is judged by the table in ``failures``; whatever the table says,
the breaker is told whether the target as a whole seems to be there.
"""

import asyncio
import os
import random
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import hdrs
from multidict import CIMultiDictProxy
from yarl import URL

from connector.errors import StartError
from connector.events.event import Event
from connector.external import headers as headers_of
from connector.external.breaker import Breaker, Gate, Permit, Rules
from connector.external.credentials import Authorization, authorization
from connector.external.failures import Kind, TargetAway, TargetBusy, TargetRetry, counts, judge
from connector.external.limits import RateLimit
from connector.external.mapping import MappingFile
from connector.settings import Settings, StatusOutcome

MAX_WAIT: Final = 5.0
"""Seconds that a call waits for a permit and for its turn, each; then its event goes back. It keeps an event that
waits from being cut off by HANDLER_TIMEOUT, which would spend an attempt."""

MAX_PAUSE: Final = 60.0
"""Seconds for which a 429 with ``Retry-After`` stops all calls at most; its own event waits as long as it says."""

MAX_ANSWER: Final = 1 << 20
"""Bytes of an answer that are read."""

KEEPALIVE: Final = 15.0
"""Seconds an idle connection is kept; few servers close one sooner."""

_JSON: Final = "application/json"


class Answer(msgspec.Struct, frozen=True):
    """What the target answered: ``status``, ``headers`` and the whole ``body``."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """The body's JSON. Raises TargetRetry where it is none: what the target did is not known."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise TargetRetry(
                f"the target answered {self.status} with a body that is no JSON", Kind.FAILED, self.status
            ) from None


class TargetState(msgspec.Struct, frozen=True):
    """The client at a moment: ``breaker`` closed, open or half_open, and why; calls allowed, under way and waiting."""

    breaker: str
    reason: str
    allowed: int
    running: int
    waiting: int
    calls: int
    failures: int


class Target:
    """One external system, as the TARGET_* and BREAKER_* settings describe it.

    ``gate``   held while the target is away: the lanes
    ``clock``  seconds, steady
    ``mapping``  what FORWARD_MAPPING says, for the forwarder
    Raises StartError where a certificate or key cannot be read. To be opened before the first call and closed after
    the last, within the event loop.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        gate: Gate,
        clock: Callable[[], float],
        chance: Callable[[], float] = random.random,
        note: Callable[[str], None] = lambda _: None,
        mapping: MappingFile | None = None,
    ) -> None:
        self.settings = settings
        self.mapping = mapping
        self._base = settings.target_url.rstrip("/")
        self._url = URL(settings.target_url)
        self._ssl = _ssl_context(settings)
        self._timeout = aiohttp.ClientTimeout(
            total=settings.target_timeout, sock_connect=settings.target_connect_timeout
        )
        self._rate = RateLimit(
            settings.target_rate, settings.target_burst or round(settings.target_rate), clock, asyncio.sleep
        )
        self._breaker = Breaker(
            Rules(
                settings.breaker_failures,
                settings.breaker_share,
                settings.breaker_calls,
                settings.breaker_cool_down,
                settings.breaker_cool_down_max,
            ),
            settings.target_concurrency or settings.workers,
            gate,
            later=lambda wait, call: asyncio.get_running_loop().call_later(wait, call),
            chance=chance,
            note=note,
        )
        self._authorization: Authorization = authorization(settings, self._post_form, clock)
        self._session: aiohttp.ClientSession | None = None
        self._calls = self._failures = 0

    async def open(self) -> None:
        """Get ready for calls; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl, keepalive_timeout=KEEPALIVE),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            headers={hdrs.USER_AGENT: "nsps-connector"},
        )

    async def close(self) -> None:
        """Close all connections."""
        self._breaker.stop()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def state(self) -> TargetState:
        """How things stand now."""
        limit = self._breaker.limit
        return TargetState(
            self._breaker.state,
            self._breaker.reason,
            limit.limit,
            limit.in_use,
            limit.waiting,
            self._calls,
            self._failures,
        )

    def away(self) -> str | None:
        """Why the target counts as away, while it does and no probe is due; else None."""
        return self._breaker.reason if self._breaker.state == "open" else None

    async def get(self, path: str = "", **options: Any) -> Answer:
        """``request`` with GET."""
        return await self.request(hdrs.METH_GET, path, **options)

    async def post(self, path: str = "", **options: Any) -> Answer:
        """``request`` with POST."""
        return await self.request(hdrs.METH_POST, path, **options)

    async def put(self, path: str = "", **options: Any) -> Answer:
        """``request`` with PUT."""
        return await self.request(hdrs.METH_PUT, path, **options)

    async def patch(self, path: str = "", **options: Any) -> Answer:
        """``request`` with PATCH."""
        return await self.request(hdrs.METH_PATCH, path, **options)

    async def delete(self, path: str = "", **options: Any) -> Answer:
        """``request`` with DELETE."""
        return await self.request(hdrs.METH_DELETE, path, **options)

    async def request(
        self,
        method: str,
        path: str = "",
        *,
        event: Event | None = None,
        step: str = "",
        json: Any = None,
        data: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        outcomes: Mapping[int, StatusOutcome] | None = None,
    ) -> Answer:
        """One call; the answer where all went well.

        ``path``      put after TARGET_URL; a part that comes from data must be quoted
        ``event``     what the call is for: its id goes along as Idempotency-Key, its trace as trace headers
        ``step``      a name for this call, where a handler makes several that change something for one event
        ``json``      the body, anything that has a JSON form; ``data`` a body that is JSON already, or with a
                      Content-Type among ``headers`` anything else
        ``outcomes``  what a status means in this call, over TARGET_STATUS and the table

        Raises TargetFailed: TargetRetry, TargetDead, TargetIgnored, or TargetAway and TargetBusy, which put the event
        back and spend no attempt. A handler lets them pass.
        """
        url = self._url_of(path)
        fields: dict[str, str] = headers_of.of_event(event, step) if event is not None else {}
        if json is not None:
            data = msgspec.json.encode(json)
        if data is not None:
            fields[hdrs.CONTENT_TYPE] = _JSON
        if headers:
            fields.update(headers)
        permit = await self._breaker.enter(MAX_WAIT)
        answered, failure = False, None
        try:
            await self._take_turn(permit)
            self._calls += 1
            answer = await self._authorized(method, url, params, data, fields)
            answered = True
            if counts(answer.status):
                failure = f"the target answered {answer.status}"
        except TargetRetry as fault:
            failure = str(fault)
            if not self._breaker.stands(permit):
                raise TargetAway(failure) from None
            raise
        finally:
            self._failures += failure is not None
            stood = self._breaker.stands(permit)
            self._breaker.leave(permit, answered=answered, failure=failure)
        return self._judged(answer, {**self.settings.target_status, **(outcomes or {})}, failure, stood)

    async def _take_turn(self, permit: Permit) -> None:
        if not await self._rate.turn(MAX_WAIT):
            raise TargetBusy(f"TARGET_RATE allows no call within {MAX_WAIT:g} s")
        if not self._breaker.stands(permit):
            raise TargetAway(self._breaker.reason)

    def _judged(
        self, answer: Answer, outcomes: Mapping[int, StatusOutcome], failure: str | None, stood: bool
    ) -> Answer:
        fault = judge(answer.status, answer.body, answer.headers.get(hdrs.RETRY_AFTER), outcomes, datetime.now(UTC))
        if fault is None:
            return answer
        if isinstance(fault, TargetRetry):
            if failure is not None and not stood:
                raise TargetAway(str(fault))
            if fault.kind is Kind.RATE_LIMITED and fault.after:
                self._rate.pause(min(fault.after, MAX_PAUSE))
        raise fault

    async def _authorized(
        self, method: str, url: URL, params: Mapping[str, str | int] | None, data: bytes | None, fields: dict[str, str]
    ) -> Answer:
        """The answer; a 401 is tried once more where there is another token to be had."""
        token = await self._authorization.header()
        if token is None:
            return await self._send(method, url, params, data, fields)
        answer = await self._send(method, url, params, data, {**fields, hdrs.AUTHORIZATION: token})
        if answer.status == 401:
            other = await self._authorization.header(refused=token)
            if other is not None and other != token:
                return await self._send(method, url, params, data, {**fields, hdrs.AUTHORIZATION: other})
        return answer

    async def _post_form(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The authorization's way to the token server. Raises TargetRetry when there was no answer."""
        data = aiohttp.FormData(form)()
        answer = await self._send(hdrs.METH_POST, URL(url), None, data, dict(headers), whose="the token server")
        return answer.status, answer.body

    async def _send(
        self,
        method: str,
        url: URL,
        params: Mapping[str, str | int] | None,
        data: Any,
        fields: dict[str, str],
        whose: str = "the target",
    ) -> Answer:
        if self._session is None:
            raise TargetAway("the client is closed")
        try:
            async with self._session.request(
                method, url, params=params, data=data, headers=fields, allow_redirects=False
            ) as response:
                body = await _read(response)
                return Answer(response.status, response.headers, body)
        except (TimeoutError, aiohttp.ClientError, OSError) as fault:
            raise TargetRetry(f"{whose} {self._what_happened(fault)}", Kind.DOWN) from None

    def _what_happened(self, fault: Exception) -> str:
        match fault:
            case aiohttp.ConnectionTimeoutError():
                return f"took no connection within {self.settings.target_connect_timeout:g} s"
            case TimeoutError():
                return f"did not answer within {self.settings.target_timeout:g} s"
            case aiohttp.ClientConnectorDNSError():
                return "has a host name that cannot be found"
            case aiohttp.ClientConnectorCertificateError():
                return f"has a certificate that is not trusted: {fault.certificate_error}"
            case aiohttp.ClientConnectorSSLError():
                return f"cannot be reached: {fault.os_error}"
            case aiohttp.ClientConnectorError():
                return f"cannot be reached: {os.strerror(fault.errno) if fault.errno else fault.os_error}"
            case aiohttp.ServerDisconnectedError():
                return "closed the connection instead of answering"
            case aiohttp.ClientPayloadError():
                return "broke off in the middle of its answer"
            case aiohttp.ClientResponseError() | aiohttp.TooManyRedirects():
                return "answered what is no HTTP"
            case _:
                return f"could not be talked to: {type(fault).__name__}"

    def _url_of(self, path: str) -> URL:
        if not path:
            return self._url
        if not path.startswith(("/", "?")):
            raise ValueError(f"a path is put after TARGET_URL and begins with / or ?: {path[:50]!r}")
        return URL(self._base + path)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(MAX_ANSWER)
    while not response.content.at_eof():
        more = await response.content.readany()
        body += more
        if len(body) > MAX_ANSWER:
            response.close()
            raise aiohttp.ClientPayloadError("the answer is too long")
    return body


def _ssl_context(settings: Settings) -> ssl.SSLContext | bool:
    if not (settings.target_ca_file or settings.target_cert_file):
        return True
    try:
        context = ssl.create_default_context(cafile=settings.target_ca_file or None)
    except OSError as fault:  # ssl.SSLError is one
        raise StartError(f"TARGET_CA_FILE: {settings.target_ca_file} cannot be used: {fault}") from None
    if settings.target_cert_file:
        try:
            context.load_cert_chain(settings.target_cert_file, settings.target_key_file or None, password=lambda: b"")
        except OSError as fault:
            raise StartError(f"TARGET_CERT_FILE, TARGET_KEY_FILE: cannot be used: {fault}") from None
    return context
