"""A lean HTTP/1.1 client connection: one request at a time, kept alive, answers read just far enough.

A general client spends more on a request than the server it measures. This one writes bytes that are ready
and reads the status and the length of the answer (Content-Length, chunked, or up to the close), nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from nsps_simulator.records import NO_ANSWER

HEAD_LIMIT = 64 * 1024
ANSWER_LIMIT = 4 << 20  # bytes; a longer answer counts as none
SLOW_PIECES = 8
SLOW_PAUSE = 0.05  # seconds between the pieces of a slow upload


class Connection(asyncio.Protocol):
    """One connection to the connector.

    ended: called with the connection and the status (or NO_ANSWER) when a request is over; the connection is
    then `open` and may be used again, or it is not and is to be forgotten.
    lost: called when the connection closes while no request is under way.
    `answer` is the last answer as it came, head and body, while `ended` is called.
    """

    __slots__ = (
        *("_buffer", "_ended", "_lost", "_timers", "_transport", "_until_close"),
        *("answer", "attempt", "busy", "due", "endpoint", "index", "open", "sent", "trouble"),
    )

    def __init__(
        self, ended: Callable[[Connection, int], None], lost: Callable[[Connection], None], endpoint: int = 0
    ) -> None:
        self._ended = ended
        self._lost = lost
        self._buffer = b""
        self._until_close = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._transport: asyncio.Transport | None = None
        self.open = False
        self.busy = False
        # The request under way, for its owner to note: see records.Attempt.
        self.index = self.attempt = self.trouble = 0
        self.due = self.sent = 0.0
        self.endpoint = endpoint  # which of the connectors' addresses it leads to
        self.answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin (called by the event loop)."""
        self._transport = cast("asyncio.Transport", transport)
        self.open = True

    def send(self, *parts: bytes) -> None:
        """Send a whole request."""
        self.busy = True
        if self._transport is not None:
            self._transport.write(b"".join(parts))

    def send_slowly(self, request: bytes, loop: asyncio.AbstractEventLoop) -> None:
        """Send a request in pieces with pauses between them."""
        self.busy = True
        size = len(request) // SLOW_PIECES + 1
        self._write_pieces([request[at : at + size] for at in range(0, len(request), size)], loop)

    def cut(self) -> None:
        """Break the connection off; a request under way ends without an answer."""
        if self._transport is not None:
            self._transport.abort()

    def cut_later(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        """Break the connection off in a moment, whatever has been answered by then is not read."""
        self._buffer = b"cut"
        self._timers.append(loop.call_later(seconds, self.cut))

    def data_received(self, data: bytes) -> None:
        """Read the answer (called by the event loop)."""
        if self._buffer:
            if self._buffer == b"cut":
                return
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0 or not self.busy:
            self._buffer = data
            if not self.busy or len(data) > HEAD_LIMIT:
                self.cut()
            return
        try:
            status = int(data[9:12])
            complete, keep = _complete(data, end, status)
        except ValueError:
            self.cut()
            return
        if complete is None:
            self._buffer = data
            self._until_close = status if keep is None else 0
            if len(data) > ANSWER_LIMIT:
                self._until_close = 0
                self.cut()
            return
        if status < 200:  # an interim answer, such as 100 Continue
            self._buffer = b""
            if len(data) > complete:
                self.data_received(data[complete:])
            return
        self.answer = data
        self._finish(status, bool(keep) and len(data) == complete)

    def connection_lost(self, exc: Exception | None) -> None:
        """End (called by the event loop)."""
        self.open = False
        if self.busy:
            self.answer = self._buffer if self._until_close else b""
            self._finish(self._until_close if exc is None and self._until_close else NO_ANSWER, False)
        else:
            self._lost(self)

    def _write_pieces(self, pieces: list[bytes], loop: asyncio.AbstractEventLoop) -> None:
        """Write the first piece and set a timer for the rest: timers set together may fire in any order when the
        loop is late.
        """
        if self._transport is None or not self.open:
            return
        self._transport.write(pieces[0])
        if len(pieces) > 1:
            self._timers = [loop.call_later(SLOW_PAUSE, self._write_pieces, pieces[1:], loop)]

    def _finish(self, status: int, keep: bool) -> None:
        self.busy = False
        self._buffer = b""
        if self._timers:
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
        if not keep and self.open:
            self.open = False
            self.cut()
        self._ended(self, status)


def _complete(data: bytes, end: int, status: int) -> tuple[int | None, bool | None]:
    """Find where an answer ends, as (length or None while it is incomplete, whether the connection stays).

    The second is None when the answer ends with the connection. Raises ValueError for what is no HTTP/1, and
    for a length that is no number.
    """
    head = data[:end].lower()
    if not head.startswith(b"http/1."):
        raise ValueError("not HTTP/1")
    keep = b"connection: close" not in head and head.startswith(b"http/1.1")
    if status < 200 or status in {204, 304}:
        return end + 4, keep
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        stop = head.find(b"\r\n", at + 2)
        total = end + 4 + int(head[at + 17 : stop if stop >= 0 else end])
        return (total if len(data) >= total else None), keep
    if b"\r\ntransfer-encoding: chunked" in head:
        return _chunks_end(data, end + 4), keep
    return None, None


def _chunks_end(data: bytes, at: int) -> int | None:
    """Find the end of a chunked body that begins at `at`; None while it is incomplete."""
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line].split(b";")[0], 16)
        if size == 0:
            stop = data.find(b"\r\n\r\n", line)  # trailers, if any, end there too
            return stop + 4 if stop >= 0 else None
        at = line + 2 + size + 2
