"""What the client of the external system changes in aiohttp's insides, each with its reason, in this one file.

``tests/integration/external/test_aiohttp_inside.py`` fails when an upgrade of aiohttp takes one of them away.

A kept connection is used again only while all of this holds:

1. Nothing waits to be read on it. Bytes that arrive while no request is under way are the answer to nothing
   (RFC 9112, 9.2): the connection is closed. aiohttp would take them for the answer to the next request. The socket
   itself is asked, since its last bytes may not have been read yet; so an end that the target has sent is seen, too.
   What arrives while the next request is already under way cannot be told from its answer; so a host that was seen to
   do this once gets no second request on a connection for ten minutes.
2. The target still keeps it: it is idle no longer than the ``Keep-Alive`` header of the last answer allows, or, where
   the target has closed an idle connection without saying so, than four fifths of the time that this one was idle.
3. It is not older than ``MAX_CONNECTION_AGE``, so that a changed DNS name is seen.

And of each call this is known, whatever aiohttp makes of it:

4. ``written``: whether anything of the request was given to the socket. Bytes that arrive before are no answer.
5. ``taken``: whether the target may have taken it. Where the kernel tells how many bytes the other side has confirmed
   (TCP_INFO on Linux, 4.1 and later), a request of which none was confirmed was not taken. What was written before it
   is counted here, but below TLS, where the kernel is asked before each request.
6. ``raw``: the first bytes of the answer as they came, for when aiohttp cannot read it.

7. A small body is written with its head. Below Python 3.12 aiohttp makes a task for it: a turn of the event loop, and a
   tenth of what a call costs.
"""

import asyncio
import functools
import random
import select
import socket
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest, ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

KEEPALIVE: Final = 15.0
"""Seconds an idle connection is kept when the target says nothing; few servers close one sooner."""

MAX_CONNECTION_AGE: Final = 60.0
"""Seconds after which a connection is not used again; spread by a quarter, so that not all are renewed together."""

LEARNED_FOR: Final = 60.0
"""Seconds for which the time after which a target closed an idle connection is remembered."""

DISTRUSTED_FOR: Final = 600.0
"""Seconds for which each request to a host that sent what nobody asked for gets a connection of its own."""

SMALL_BODY: Final = 65536
"""Bytes of a body that is written with its head."""

KEPT_RAW: Final = 65536
"""Bytes of an answer that are kept as they came."""

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_BYTES_ACKED_AT: Final = 120
"""Where ``tcpi_bytes_acked``, 8 bytes, stands in Linux's ``struct tcp_info``."""


class Exchange:
    """One request on one connection, and what became of it.

    ``fresh``  ask for a new connection rather than a kept one
    ``link``   the connection, once there is one
    """

    __slots__ = ("fresh", "link")

    def __init__(self, *, fresh: bool) -> None:
        self.fresh = fresh
        self.link: Link | None = None

    @property
    def reused(self) -> bool:
        """Whether it went over a connection that had been used before."""
        return self.link is not None and self.link.uses > 1

    @property
    def taken(self) -> bool:
        """Whether the target may have taken some of the request."""
        return self.link is not None and self.link.taken

    @property
    def unasked(self) -> bool:
        """Whether the target sent something before the request was written."""
        return self.link is not None and self.link.unasked

    @property
    def raw(self) -> bytes:
        """The first bytes of the answer."""
        return b"" if self.link is None else self.link.raw


exchange: Final[ContextVar[Exchange | None]] = ContextVar("exchange", default=None)
"""The exchange that the session's call in this task belongs to: aiohttp has no other way to hand it down."""


class _WatchedTransport:
    """A transport that tells its link what is written; what else there is, is the transport's."""

    def __init__(self, transport: asyncio.Transport, link: "Link") -> None:
        self._transport = transport
        self._write = transport.write
        self._link = link
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: Any) -> None:
        """Write, and say so."""
        link = self._link
        link.written = True
        if link.body:
            data, link.body = data + link.body, b""
        link.sent += len(data)
        self._write(data)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Write, and say so."""
        self.write(b"".join(list_of_data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Link(ResponseHandler):
    """A connection to the target that knows whether it was asked, and what came.

    ``idle_since`` is None while it is in use; times are ``time.monotonic``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: "Pool") -> None:
        super().__init__(loop)
        self._pool = pool
        self._fd = -1
        self.tls = False
        self.lost: BaseException | None = None
        self._poll = select.poll()
        self._acked_first: int | None = None
        self._acked_before: int | None = None
        self._acked_at_end: int | None = None
        self.made_at = monotonic()
        self.most_age = MAX_CONNECTION_AGE * random.uniform(0.75, 1.0)  # noqa: S311 - jitter is no secret
        self.host = ""
        self.idle_since: float | None = None
        self.uses = 0
        self.sent = 0
        self.body = b""  # what is to be written with the next head
        self.written = False
        self.unasked = False
        self.raw = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Watch what is written."""
        of_the_socket = transport.get_extra_info("socket")
        self._fd = -1 if of_the_socket is None else of_the_socket.fileno()
        self.tls = transport.get_extra_info("sslcontext") is not None
        if self._fd >= 0:
            self._poll.register(self._fd, select.POLLIN)
        self._acked_first = self._acked()
        super().connection_made(cast("asyncio.Transport", _WatchedTransport(transport, self)))  # type: ignore[arg-type]

    def begin(self, mine: Exchange | None = None) -> None:
        """A request is about to be written, that of ``mine``."""
        if mine is not None:
            mine.link = self
        self.uses += 1
        self.idle_since = None
        self.raw = self.body = b""
        self.written = self.unasked = False
        first = self._acked_first
        self._acked_before = self._acked() if self.tls or first is None else first + self.sent
        self._acked_at_end = None

    def rest(self) -> None:
        """No request is under way until the next ``begin``."""
        self.idle_since = monotonic()

    @property
    def taken(self) -> bool:
        """Whether the target may have taken some of the request."""
        if not self.written:
            return False
        if self.raw or self._acked_before is None or self._acked_at_end is None:
            return True
        return self._acked_at_end > self._acked_before

    def usable(self) -> bool:
        """Whether another request may go over it; see the head of this file."""
        now = monotonic()
        if self.idle_since is None or not self.is_connected():
            return False
        if now - self.idle_since > self._pool.keeps(self.host) or now - self.made_at > self.most_age:
            return False
        return not (self.should_close or self._something_waits())

    def data_received(self, data: bytes) -> None:
        """Keep the first bytes of an answer; close on bytes that nobody asked for."""
        if data and (self.idle_since is not None or not self.written):
            self.unasked = True
            self._pool.distrust(self.host)
            under_way = self.idle_since is None
            self.abort()
            if under_way:
                self.set_exception(aiohttp.ServerDisconnectedError("bytes came before the request was written"))
            return
        if not self.raw:
            self.raw = data
        elif len(self.raw) < KEPT_RAW:
            self.raw += data[: KEPT_RAW - len(self.raw)]
        super().data_received(data)

    def eof_received(self) -> None:
        """Note how much the target has confirmed."""
        self._acked_at_end = self._acked()
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note why it ended, how much the target has confirmed, and after how long it closed an idle connection."""
        self.lost = exc
        if self._acked_at_end is None and not self.tls:  # below TLS the descriptor is closed by now
            self._acked_at_end = self._acked()
        if self.idle_since is not None:
            self._pool.closed_by_target(self.host, monotonic() - self.idle_since)
        self._fd = -1
        super().connection_lost(exc)

    def close(self) -> None:
        """Close it ourselves: nothing is learnt from its end."""
        self.idle_since = None
        super().close()

    def abort(self) -> None:
        """Close it ourselves, at once."""
        self.idle_since = None
        super().abort()

    def _something_waits(self) -> bool:
        return self._fd < 0 or bool(self._poll.poll(0))

    def _acked(self) -> int | None:
        if self._fd < 0 or _TCP_INFO is None:
            return None
        try:
            seen = socket.SocketType(socket.AF_INET, socket.SOCK_STREAM, 0, self._fd)  # costs a third of socket.socket
            try:
                info = seen.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _BYTES_ACKED_AT + 8)
            finally:
                seen.detach()
        except OSError:  # another system
            return None
        return int.from_bytes(info[_BYTES_ACKED_AT:], sys.byteorder) if len(info) > _BYTES_ACKED_AT else None


class SmallFirst(aiohttp.ClientRequest):
    """A request that hands a body of up to ``SMALL_BODY`` bytes to its link, to be written with the head."""

    _small = b""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """Keep a small body out of what aiohttp writes."""
        framed = hdrs.CONTENT_LENGTH in self.headers or hdrs.TRANSFER_ENCODING in self.headers
        if type(body) is bytes and 0 < len(body) <= SMALL_BODY and not framed:
            self._small = body
            self.headers[hdrs.CONTENT_LENGTH] = str(len(body))
        else:
            super().update_body_from_data(body, _stacklevel)

    async def send(self, conn: "Connection") -> aiohttp.ClientResponse:
        """Write it, and begin to read the answer."""
        if self._small:
            link: Link = conn.protocol  # type: ignore[assignment]  # those of our pool are; a cast costs at each call
            link.body = self._small
        return await super().send(conn)


class Pool(aiohttp.TCPConnector):
    """aiohttp's pool of connections, with ``Link`` for each and a look at it before it is used again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(keepalive_timeout=KEEPALIVE, limit=0, **options)
        self._factory = functools.partial(Link, self._loop, self)  # type: ignore[assignment]  # a kind of it
        self._learned: dict[str, tuple[float, float]] = {}

    def keeps(self, host: str) -> float:
        """Seconds for which an idle connection to this host is used again."""
        keep, until = self._learned.get(host, (KEEPALIVE, 0.0))
        return keep if monotonic() < until else KEEPALIVE

    def closed_by_target(self, host: str, idle: float) -> None:
        """The host has closed a connection that was idle for so many seconds."""
        self._learn(host, idle * 0.8)

    def distrust(self, host: str) -> None:
        """The host sent what nobody asked for: what comes next on a kept connection may be anything."""
        self._learned[host] = (0.0, monotonic() + DISTRUSTED_FOR)

    def said(self, host: str, seconds: float) -> None:
        """The host said, in a ``Keep-Alive`` header, how long it keeps an idle connection."""
        self._learn(host, max(seconds - 1.0, seconds / 2, 0.0))

    def _learn(self, host: str, keep: float) -> None:
        now = monotonic()
        before, until = self._learned.get(host, (KEEPALIVE, 0.0))
        if now >= until or keep <= before:
            self._learned[host] = (min(keep, KEEPALIVE), max(until, now + LEARNED_FOR))

    async def _create_connection(
        self, req: "ClientRequest", traces: "list[Trace]", timeout: "ClientTimeout"
    ) -> ResponseHandler:
        """A new connection."""
        link = cast("Link", await super()._create_connection(req, traces, timeout))
        link.host = f"{req.connection_key.host}:{req.connection_key.port}"
        link.begin(exchange.get())
        return link

    async def _get(self, key: "ConnectionKey", traces: "list[Trace]") -> "Connection | None":
        """A kept connection that may be used again; None for none."""
        mine = exchange.get()
        if mine is not None and mine.fresh:
            return None
        while (connection := await super()._get(key, traces)) is not None:
            link: Link = connection.protocol  # type: ignore[assignment]
            if link.usable():
                link.begin(mine)
                return connection
            connection.close()
        return None

    def _release(self, key: "ConnectionKey", protocol: ResponseHandler, *, should_close: bool = False) -> None:
        protocol.rest()  # type: ignore[attr-defined]
        super()._release(key, protocol, should_close=should_close)
