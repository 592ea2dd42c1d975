"""The body of a request, whole and inflated: bounded in bytes, in time, and in what all of them take together.

Nothing is inflated before the token was checked, and inflating stops at the limit: a body of 2 MB can hold 2 GB.
"""

import asyncio
import zlib
from collections import deque
from typing import Final

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from connector.errors import NoRoom, Stopping
from connector.web.responses import BadEncoding, BodyTimeout, BodyTooLarge, BrokenOff, UnknownEncoding

_GZIP: Final = frozenset({"gzip", "x-gzip"})

MAX_MEMBERS: Final = 100
"""Members of a gzip body (RFC 1952, 2.2). Each costs a decompressor, and one of 20 bytes may hold nothing."""


class Bodies:
    """Reads the bodies of requests.

    ``max_body``  bytes, before inflating and after it
    ``timeout``   seconds for a body to arrive, the wait for room included
    ``budget``    bytes that all bodies under way may take, from their arrival to their answer. A body that has not come
                  yet, or is compressed, waits for its room; meanwhile its connection is not read.
    """

    def __init__(self, max_body: int, timeout: float, budget: int) -> None:
        self._max_body = max_body
        self._timeout = timeout
        self._room = _Room(max(budget, max_body))
        self._inflating = asyncio.Lock()
        self._stopping = False
        self._reading: set[asyncio.Timeout] = set()

    def stop(self) -> None:
        """Refuse what is still on its way: nobody may be left to process it."""
        self._stopping = True
        for timeout in self._reading:
            if not timeout.expired():
                timeout.reschedule(0)

    async def read(self, request: web.Request) -> bytes:
        """The body, to be given to ``done`` at the end. Raises ConnectorError where it cannot be had."""
        content = request.content
        if content.is_eof() and content.exception() is None and hdrs.CONTENT_ENCODING not in request.headers:
            raw = content.read_nowait()
            if len(raw) > self._max_body:
                raise self._too_large()
            self._room.used += len(raw)
            return raw
        return await self._read_in_turn(request, _encoding(request))

    def done(self, body: bytes) -> None:
        """The request of this body has its answer."""
        self._room.leave(len(body))

    async def _read_in_turn(self, request: web.Request, encoding: str | None) -> bytes:
        length = request.content_length
        if (length or 0) > self._max_body:
            raise self._too_large()
        needed = self._max_body if length is None or encoding else length
        received = bytearray()
        raw = b""
        entered = False
        try:
            async with asyncio.timeout(self._timeout) as timeout:
                self._reading.add(timeout)
                await self._room.enter(needed)
                entered = True
                await self._receive(request, received)
            raw = bytes(received) if encoding is None else await self._inflate(bytes(received), encoding)
        except TimeoutError:
            if self._stopping:
                raise Stopping from None
            if not entered:
                raise NoRoom("Too many large bodies are under way; send the event again later") from None
            raise BodyTimeout(f"The body did not arrive within {self._timeout:g} s") from None
        except ConnectionError as error:
            _forget(error)
            raise _broken_off(request.content.total_bytes, length) from None
        except (web.RequestPayloadError, HttpProcessingError) as error:
            _forget(error)
            raise BadEncoding from None
        finally:
            self._reading.discard(timeout)
            received.clear()
            if entered:
                self._room.leave(needed - len(raw))
        return raw

    async def _receive(self, request: web.Request, received: bytearray) -> None:
        content = request.content
        while chunk := await content.readany():
            received += chunk
            if len(received) > self._max_body:
                raise self._too_large()

    async def _inflate(self, raw: bytes, encoding: str) -> bytes:
        async with self._inflating:
            await asyncio.sleep(0)  # one at a time, and everybody else between two
            try:
                return self._inflated(raw, encoding)
            except zlib.error:
                raise BadEncoding(f"The body is not {encoding}, as its Content-Encoding says") from None

    def _inflated(self, raw: bytes, encoding: str) -> bytes:
        if encoding in _GZIP:
            bits = zlib.MAX_WBITS | 16
        else:  # RFC 9110, 8.4.1.2: with the head of zlib; some senders leave that out
            bits = zlib.MAX_WBITS if raw[:1] and raw[0] & 0xF == zlib.DEFLATED else -zlib.MAX_WBITS
        inflated = b""
        for _ in range(MAX_MEMBERS):
            inflater = zlib.decompressobj(bits)
            inflated += inflater.decompress(raw, self._max_body + 1 - len(inflated))
            if len(inflated) > self._max_body:
                raise self._too_large()
            if not inflater.eof:
                raise BadEncoding(f"The {encoding} body is cut short")
            raw = inflater.unused_data
            if not raw:
                return inflated
            if encoding not in _GZIP:
                raise BadEncoding(f"Bytes follow the end of the {encoding} body")
        raise BadEncoding(f"The gzip body has over {MAX_MEMBERS} members")

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is over {self._max_body} bytes")


def _encoding(request: web.Request) -> str | None:
    said = ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, [])).lower().split(",")
    encodings = [each.strip() for each in said if each.strip() not in ("", "identity")]
    if not encodings:
        return None
    if len(encodings) > 1 or encodings[0] not in {*_GZIP, "deflate"}:
        raise UnknownEncoding
    return encodings[0]


class _Room:
    """Bytes that are taken of ``limit``; who finds none waits in line."""

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def enter(self, size: int) -> None:
        """Take ``size`` bytes, once there is room for them and for all who came before."""
        if not self._line and self._fits(size):
            self.used += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(size)
            else:
                self._line.remove((size, turn))
                self.leave(0)
            raise

    def leave(self, size: int) -> None:
        """Give ``size`` bytes back, and let in who waits."""
        self.used -= size
        while self._line and self._fits(self._line[0][0]):
            wanted, turn = self._line.popleft()
            self.used += wanted
            turn.set_result(None)

    def _fits(self, size: int) -> bool:
        return self.used + size <= self._limit or self.used <= 0


def _broken_off(received: int, expected: int | None) -> BrokenOff:
    return BrokenOff(
        f"The body ends after {received} bytes" + ("" if expected is None else f" of {expected}"), received, expected
    )


def _forget(error: BaseException) -> None:
    """Let go of the frames that an error went through.

    The stream of the body keeps its error, the error its traceback, and that the stream: what was read of a body would
    stay in memory until the garbage collector comes.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
