"""Every change to aiohttp's insides, each with its reason.

``tests/integration/web/test_aiohttp_inside.py`` fails where a release of aiohttp does not take one any more. aiohttp
offers no other way to any of them. Nothing else of the project touches what aiohttp does not document.

A connection here is in one of these states; the first four are aiohttp's own::

    idle ──a byte──▶ head ──its end──▶ request ──the answer──▶ idle
                      │                   │
                      └──────┬────────────┴── an answer that ends the connection ──▶ lingering ──▶ closed
                             └── the client goes

1. The last answer of a connection says so (``Connection: close``): where the server is stopping, where the client has
   sent its FIN, and where the body of a refused request was not read.
2. A request that has arrived gets its answer, also where the client's FIN came behind it.
3. What ends a connection never overtakes an answer: a connection on which the client may still be sending is shut in
   one direction first, and what comes is dropped for ``LINGER`` seconds or ``LINGER_BYTES`` (RFC 9112, 9.6); for
   ``LINGER_MOST`` seconds where a good token came over it and bytes go on coming, as of a large body on a slow line.
"""

import asyncio
import fcntl
import termios
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast

import aiohttp.web_response
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from connector.errors import ConnectorError
from connector.web.accepted import ACCEPTED, OnePiece
from connector.web.refusals import refuse_no_request, say_failed
from connector.web.responses import BadRequest, BrokenOff, HeadTimeout, answer_to

LINGER: Final = 2.0
"""Seconds that a client may go on sending after an answer that ends the connection, so that it sees the answer."""

LINGER_MOST: Final = 30.0
"""The same in all, for a client with a good token that goes on sending."""

LINGER_BYTES: Final = 8 * 2**20
"""Bytes that it may go on sending."""


_NO_TARGET: Final = BadRequest("The request names no target")
_NO_TARGET_STATUS: Final = answer_to(_NO_TARGET).status

_VERSIONS: Final = (HttpVersion11, HttpVersion10)

_CANCEL: Final = 0.1
"""Seconds that the task of a connection has to end once it is cancelled; aiohttp takes 0 forever."""


class Connection(RequestHandler):
    """The connection of a client.

    ``trusted``  whether a request with a good token came over it
    """

    __slots__ = (
        "_begun",
        "_begun_at",
        "_body",
        "_broken",
        "_dropped",
        "_gone",
        "_half_closed",
        "_kept_transport",
        "_server",
        "_unsent",
        "_unsent_since",
        "trusted",
    )

    def __init__(self, server: "Server", **options: object) -> None:
        super().__init__(server, **options)  # type: ignore[arg-type]
        self.trusted = False
        self._server = server
        self._body: StreamReader = EMPTY_PAYLOAD  # of the last request
        self._kept_transport: asyncio.Transport | None = None
        self._begun = 0  # bytes of a head that has not ended, and when they began to come
        self._begun_at = 0.0
        self._broken = False  # what came is no HTTP: nothing more of it can be read
        self._half_closed = False  # the client has sent its FIN and may still be reading
        self._gone: asyncio.Future[None] | None = None  # set while lingering
        self._dropped = 0
        self._unsent, self._unsent_since = 0, 0.0

    # --- what comes ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport: aiohttp forgets it when it closes it, though answers may be waiting in it to be read.

        Where the task that answers its requests fails, aiohttp leaves the connection as it is, forever.
        """
        self._kept_transport = cast("asyncio.Transport", transport)
        super().connection_made(transport)
        if self._task_handler is not None:
            self._task_handler.add_done_callback(self._answering_ended)

    def _answering_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            say_failed(error)
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Read on; what comes while lingering is dropped."""
        if self._half_closed:
            return  # aiohttp only looks whether its parser has more; that is at its end
        if self._gone is not None:
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self._end_of_lingering()
            return
        count = self._request_count
        super().data_received(data)
        if self._request_count != count:
            self._begun = 0
            message, self._body = self._messages[-1]
            if getattr(message, "url", message) is None:  # its parser lets "CONNECT  " through
                self._messages[-1] = (_ErrInfo(_NO_TARGET_STATUS, _NO_TARGET, _NO_TARGET.error), EMPTY_PAYLOAD)
        elif data and self._waiter is not None and not self._waiter.done():
            self._begun_at = self._begun_at if self._begun else self._loop.time()
            self._begun += len(data)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume where it was paused. aiohttp parses nothing and asks the transport each time a body is read."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a connection whose client has sent its FIN until its requests have their answers.

        aiohttp closes it at once: the event is kept, the access log says 202, and the client has no answer. A layer-4
        balancer passes such a FIN on. What the FIN cuts off is said and answered too.
        """
        if self._gone is not None:
            self._end_of_lingering()
            return False
        self._half_closed = True
        if not (self._broken or self._upgraded or self._parser is None):
            try:
                begun = self._parser.feed_eof() is not None
            except Exception:  # noqa: BLE001 - whatever it raises, it was in the middle of something
                begun = True
            if not self._body.is_eof():
                self._body.set_exception(ConnectionResetError("the client has ended the connection in the body"))
            elif begun or self._begun:
                self._refuse(BrokenOff(f"The request ends in its head, after {self._begun} bytes", self._begun))
        if not self._messages:
            self._close = True  # nothing follows what is being answered
        return self._answering and self.ssl_context is None  # asyncio's layer of TLS knows no half-closed connection

    def _refuse(self, error: ConnectorError) -> None:
        """Answer ``error`` as what is no request is answered."""
        self._request_count += 1
        self._begun = 0
        self._messages.append((_ErrInfo(answer_to(error).status, error, error.error), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget it, and end the lingering."""
        self._end_of_lingering()
        self._server.ended(self)
        super().connection_lost(exc)

    # --- what is answered ---

    def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Refuse versions of HTTP that are not served. aiohttp takes HTTP/0.9 and HTTP/2.0, and answers in them."""
        if request._version not in _VERSIONS:
            request._version = HttpVersion10
            error = BadRequest("This version of HTTP is not served here; HTTP/1.1 and HTTP/1.0 are")
            request_handler = self._make_error_handler(_ErrInfo(answer_to(error).status, error, error.error))
        return super()._handle_request(request, start_time, request_handler)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer where there is no request to hand on.

        aiohttp answers in plain text, which may quote the request with its token, and logs a stack trace of it.
        """
        self._broken = True
        return refuse_no_request(request, status, exc)

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Send an answer, and end the connection where it has to end.

        aiohttp answers in plain text what its router refuses by itself (CONNECT, a target without a path), and reads
        the body of a refused request to its end, or takes what follows for it.
        """
        if resp is not ACCEPTED and isinstance(resp, web.HTTPException):
            resp = refuse_no_request(request, resp.status, resp)
        if self._broken or not request.content.is_eof():
            return self._answer_and_linger(request, _last(resp), start_time)
        if (self._half_closed or self._server.draining is not None) and not self._messages:
            resp = _last(resp)
        return super().finish_response(request, resp, start_time)

    async def _answer_and_linger(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        ended = await super().finish_response(request, resp, start_time)
        await self._linger()
        return ended

    async def _linger(self) -> None:
        """Say that nothing more is read, and drop what still comes until the client has seen it."""
        transport = self.transport
        if transport is None or self._half_closed or not transport.can_write_eof():
            return
        self._gone = self._loop.create_future()
        transport.write_eof()
        self._resume_transport_reading()
        end, dropped = self._loop.time() + (LINGER_MOST if self.trusted else LINGER), -1
        while dropped < self._dropped and self._loop.time() < end and not self._gone.done():
            dropped = self._dropped
            await asyncio.wait({self._gone}, timeout=LINGER)

    def _end_of_lingering(self) -> None:
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    # --- how long it may be kept ---

    @property
    def answered_at(self) -> float | None:
        """When its last answer was sent, in the loop's time; None where there was none yet."""
        return self._next_keepalive_close_time - self._keepalive_timeout if self._request_count else None

    @property
    def has_unread(self) -> bool:
        """Whether bytes have arrived that are not read yet."""
        if self.transport is None:
            return False
        number = self.transport.get_extra_info("socket").fileno()
        return number >= 0 and fcntl.ioctl(number, termios.FIONREAD, bytes(4)) != bytes(4)

    @property
    def quiet(self) -> bool:
        """Whether it waits for a request, or for the rest of a head."""
        return self.transport is not None and not self._answering

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, other than to a client that does not read."""
        return self.transport is not None and self._answering and not self.writing_paused

    @property
    def _answering(self) -> bool:
        """Whether a request has arrived that has no answer yet."""
        return bool(self._messages) or (self._waiter is None and self._request_count > 0)

    def check(self, now: float, head_timeout: float, write_timeout: float) -> str | None:
        """End what takes too long, and say what it was: the head of a request, or the reading of an answer."""
        if self._begun and now - self._begun_at > head_timeout:
            self._refuse(HeadTimeout(f"The head of the request did not arrive within {head_timeout:g} s"))
            return "slow_head"
        if self._kept_transport is None:
            return None
        unsent = self._kept_transport.get_write_buffer_size()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, now
        elif now - self._unsent_since > write_timeout:
            self.abort()
            return "unread_answers"
        return None

    def abort(self) -> None:
        """End it at once, whatever is on its way."""
        self.force_close()
        if self._kept_transport is not None:
            self._kept_transport.abort()


def _last(answer: web.StreamResponse) -> web.StreamResponse:
    """The answer as the last one of its connection."""
    if isinstance(answer, OnePiece):
        answer = answer.as_response()
    answer.force_close()
    return answer


class Server(web.Server):
    """Makes our connections instead of aiohttp's, and ends them in order.

    aiohttp's own stop closes idle connections at once, with the requests that are just arriving on them.

    ``draining``  since when each answer ends its connection, in the loop's time; None: not yet
    """

    draining: float | None = None

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)

    def leave(self) -> None:
        """From now on each answer ends its connection."""
        if self.draining is None:
            self.draining = self._loop.time()

    def pre_shutdown(self) -> None:
        """Nothing: ``shutdown`` does it all."""

    def ended(self, connection: Connection) -> None:
        """A connection is over. To be replaced by whoever counts them."""

    async def shutdown(self, timeout: float | None = None) -> None:
        """Cancel what is still being answered."""
        left = self.connections
        await asyncio.gather(*(connection.shutdown(_CANCEL) for connection in left))
        self._connections.clear()


class Runner(web.AppRunner):
    """Runs an application with our server, which is ``made`` once it is set up."""

    __slots__ = ("made",)

    made: Server

    async def _make_server(self) -> Server:
        theirs = await super()._make_server()
        self.made = Server(
            theirs.request_handler,
            request_factory=theirs.request_factory,
            handler_cancellation=theirs.handler_cancellation,
            loop=theirs._loop,
            **theirs._kwargs,
        )
        return self.made


def trust(request: web.BaseRequest) -> None:
    """Note that this request came with a good token: its connection is among the last to be ended for want of room."""
    if isinstance(request.protocol, Connection):
        request.protocol.trusted = True


def name_the_server() -> None:
    """Answers say ``Server: connector``: aiohttp names itself and its version to everybody."""
    aiohttp.web_response.SERVER_SOFTWARE = "connector"  # type: ignore[attr-defined]
