"""Requests over real sockets: one request, one ``TargetResponse``, or the reason why there is none.

1. As soon as the status of an answer is known there is a response, however the rest of it comes: too long, broken off,
   too slow, in an unknown encoding, followed by bytes that belong to nothing. What was not read is said in its note.
2. A request of which the target took nothing, over a kept connection that the target had closed, is repeated once over
   a fresh connection; also a POST. One that may have been taken is repeated once if its method may be repeated
   (RFC 9110, 9.2.2). Neither is a failure of the target.
3. What this machine lacks (descriptors, memory, name resolution) is ``OwnLack``, not ``NoAnswer``.
"""

import asyncio
import errno
import io
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Final, Protocol

import aiohttp
from aiohttp import hdrs
from yarl import URL

from connector.external.aiohttp_inside import Exchange, Pool, SmallFirst, exchange
from connector.external.response import TargetResponse, salvage
from connector.external.tls import Trust

MAX_ANSWER: Final = 1 << 20
"""Bytes of an answer that are read."""

MAX_HEADER: Final = 65536
"""Bytes of one line of an answer's head."""

LARGE_BODY: Final = 1 << 20
"""Bytes from which a body is written piece by piece, so that it does not hold up the event loop."""

MAX_HEADERS: Final = 1000

_LACKS: Final = {
    errno.EMFILE: "no file descriptor is left to this process (see ulimit -n)",
    errno.ENFILE: "no file descriptor is left on this machine",
    errno.ENOMEM: "no memory is left on this machine",
    errno.ENOBUFS: "no memory is left for sockets on this machine",
    errno.EADDRNOTAVAIL: "no local port is left on this machine",
}

_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class NoAnswer(Exception):
    """The target gave no answer.

    ``everybody``  whether it would have given none to any request: no connection could be made
    """

    def __init__(self, reason: str, *, everybody: bool = False) -> None:
        super().__init__(reason)
        self.everybody = everybody


class OwnLack(Exception):
    """This machine could not make the request; it says nothing about the target."""


class Sender(Protocol):
    """What sends requests: ``Wire``, or a stand-in for tests."""

    async def open(self) -> None:
        """Get ready; nothing is sent yet."""

    async def close(self) -> None:
        """Close all connections."""

    async def send(
        self,
        method: str,
        url: URL,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> TargetResponse:
        """The response. Raises NoAnswer, or OwnLack where the request could not be made."""
        raise NotImplementedError


class Wire:
    """Sends requests, within ``timeout`` seconds in all and ``connect_timeout`` for connecting, unless told otherwise.

    To be opened before the first request and closed after the last, within the event loop.
    """

    def __init__(self, trust: Trust, timeout: float, connect_timeout: float) -> None:
        self._trust = trust
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._usual = self._within(timeout)
        self._session: aiohttp.ClientSession | None = None
        self._pool: Pool | None = None

    async def open(self) -> None:
        """Get ready; nothing is sent yet."""
        self._pool = Pool()
        self._session = aiohttp.ClientSession(
            connector=self._pool,
            request_class=SmallFirst,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            headers={hdrs.USER_AGENT: "nsps-connector"},
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
        )
        self._session._retry_connection = False  # which requests are repeated is decided here

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        method: str,
        url: URL,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> TargetResponse:
        """The response. Raises NoAnswer, or OwnLack where the request could not be made."""
        limit = self._timeout if timeout is None else timeout
        for fresh in (False, True):
            mine = Exchange(fresh=fresh)
            token = exchange.set(mine)
            try:
                return await self._once(method, url, data, headers, limit)
            except (TimeoutError, aiohttp.ClientError, OSError, MemoryError, UnicodeError) as error:
                if not fresh and _may_be_repeated(method, mine, error):
                    continue
                if mine.link is not None and mine.link.tls:
                    await asyncio.sleep(0)  # the end of a connection may be told after a write to it has failed
                    error = error if _tls_error(error) is not None else _tls_error(mine.link.lost) or error
                return self._ended_badly(error, mine, limit)
            finally:
                exchange.reset(token)
        raise AssertionError("the second request either gives an answer or raises")

    async def _once(
        self, method: str, url: URL, data: bytes | None, headers: Mapping[str, str] | None, limit: float
    ) -> TargetResponse:
        if self._session is None or self._pool is None:
            raise NoAnswer("cannot be called: the client is closed")
        async with self._session.request(
            method,
            url,
            data=io.BytesIO(data) if data is not None and len(data) >= LARGE_BODY else data,
            headers=headers,
            allow_redirects=False,
            ssl=self._trust.context(),
            timeout=self._usual if limit == self._timeout else self._within(limit),
        ) as response:
            said = response.headers.get("Keep-Alive")
            if said is not None and (keep := _kept_for(said)) is not None:
                self._pool.said(f"{url.raw_host}:{url.port}", keep)
            body, note = await _read(response, limit)
            return TargetResponse(response.status, response.headers, body, note)

    def _within(self, limit: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=limit, sock_connect=min(self._connect_timeout, limit))

    def _ended_badly(self, error: Exception, mine: Exchange, limit: float) -> TargetResponse:
        if mine.raw and (found := salvage(mine.raw, f"could not be read: {self._what_happened(error, limit)}")):
            return found
        if (lack := _own_lack(error)) is not None:
            raise OwnLack(lack) from None
        if mine.unasked:
            raise NoAnswer("sends bytes before it was asked: it speaks no HTTP") from None
        raise NoAnswer(self._what_happened(error, limit) + _hint(error, mine), everybody=mine.link is None) from None

    def _what_happened(self, error: Exception, limit: float) -> str:
        match error:
            case aiohttp.ConnectionTimeoutError():
                return f"took no connection within {min(self._connect_timeout, limit):g} s"
            case TimeoutError():
                return f"did not answer within {limit:g} s"
            case aiohttp.ClientConnectorError():
                return _no_connection(error)
            case aiohttp.ServerDisconnectedError():
                return "closed the connection instead of answering"
            case aiohttp.ClientPayloadError():
                return "broke off in the middle of its answer"
            case aiohttp.ClientResponseError():
                return "answered what is no HTTP"
            case ssl.SSLError() | aiohttp.ClientOSError() if (tls := _tls_error(error)) is not None:
                return f"ended the TLS connection: {_tls(tls)}"
            case OSError():
                return f"broke the connection off{f': {os.strerror(error.errno)}' if error.errno else ''}"
            case _:
                return f"could not be talked to: {type(error).__name__}"


def _no_connection(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"has a certificate that is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"cannot be reached by TLS: {_tls(error.os_error)}"
    return f"cannot be reached: {os.strerror(error.errno) if error.errno else error.os_error}"


def _hint(error: Exception, mine: Exchange) -> str:
    """Where a target that asks for a client certificate closes the connection without a word."""
    lost = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) and _tls_error(error) is None
    if lost and mine.link is not None and mine.link.tls and not mine.reused:
        return " (right after the TLS handshake: it may not accept our certificate, or ask for one)"
    return ""


def _may_be_repeated(method: str, mine: Exchange, error: Exception) -> bool:
    """Whether a request that got no answer is sent again, over a fresh connection."""
    if mine.unasked:
        return True
    if not mine.reused or mine.raw or (isinstance(error, TimeoutError) and mine.taken):
        return False
    return not mine.taken or method in _REPEATABLE


async def _read(response: aiohttp.ClientResponse, limit: float) -> tuple[bytes | None, str]:
    """The body as far as it can be read, and what could not be read."""
    if response.content.is_eof():
        try:
            whole = response.content.read_nowait()
        except (aiohttp.ClientError, OSError):
            return None, "it was broken off or cannot be decompressed"
        if len(whole) <= MAX_ANSWER:
            return whole, ""
        return whole[:MAX_ANSWER], f"only its first {MAX_ANSWER} bytes were read"
    body = bytearray()
    try:
        while not response.content.at_eof():
            body += await response.content.readany()
            if len(body) > MAX_ANSWER:
                response.close()
                return bytes(body[:MAX_ANSWER]), f"only its first {MAX_ANSWER} bytes were read"
    except TimeoutError:
        note = f"it did not end within {limit:g} s"
    except (aiohttp.ClientError, OSError):
        note = "it was broken off or cannot be decompressed"
    else:
        return bytes(body), ""
    response.close()
    return bytes(body) or None, note


def _kept_for(header: str) -> float | None:
    """Seconds in a ``Keep-Alive: timeout=5, max=100`` header."""
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "timeout" and value.strip().isdecimal() and len(value) < 10:
            return float(value)
    return None


def _own_lack(error: Exception) -> str | None:
    """What this machine lacks, None where the error is the target's."""
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror | UnicodeError):
        host = error.host if isinstance(error, aiohttp.ClientConnectorDNSError) else "the host"
        return f"the host name {host} cannot be resolved here: {getattr(error, 'strerror', None) or error}"
    if isinstance(error, MemoryError):
        return _LACKS[errno.ENOMEM]
    number = error.errno if isinstance(error, OSError) else None
    return None if number is None else _LACKS.get(number)


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS error that this one is, or was caused by."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__
    return error


def _tls(error: BaseException) -> str:
    """A TLS error in words."""
    reason = (getattr(error, "reason", None) or "").replace("_", " ").lower()
    if reason == "wrong version number" or reason == "record layer failure" or "http request" in reason:
        return f"{reason} (the port may speak plain http)"
    if "certificate required" in reason:
        return "certificate required (TARGET_CERT_FILE)"
    return reason or str(error) or type(error).__name__
