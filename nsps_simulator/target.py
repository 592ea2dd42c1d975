"""A stand-in external system: slow, flaky, down by schedule; and it notes whatever it is told.

A connector under test POSTs each event here, with the event's id in `Idempotency-Key`. An event is
applied when its request has fully arrived; the answer comes after the latency. So a connector that dies
in between has told the external system without knowing it, as in life.
"""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import orjson

from nsps_simulator.records import APPLIED, NO_EVENT, REFUSED, UNANSWERED, Writer
from nsps_simulator.wire.draw import branch, chance
from nsps_simulator.wire.events import Events

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 8 * 1024 * 1024
FLUSH = 0.1  # seconds
BACKLOG = 1024


@dataclass(frozen=True)
class Mood:
    """How the external system behaves.

    latency: seconds to an answer, on average; a single one takes half of it to half again as much. rate:
    answers per second at the most, 0 for no limit. flaky: share (0 to 1) of calls that are refused with
    503. down: stretches, as (from, to) in seconds of the run, in which nobody listens.
    """

    latency: float = 0.0
    rate: float = 0.0
    flaky: float = 0.0
    down: tuple[tuple[float, float], ...] = ()


CHEERFUL = Mood()


class Target:
    """The external system on one listening socket.

    since: gives the seconds since the start of the run, below nought before it.
    """

    def __init__(self, seed: int, mood: Mood, events: Events, writer: Writer, since: Callable[[], float]) -> None:
        self._mood = mood
        self._events = events
        self._writer = writer
        self._since = since
        self._seed = branch(seed, "target")
        self._calls = 0
        self._free_at = 0.0
        self.connections: set[_Call] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Answer until cancelled, but for the stretches in which the system is down."""
        address = listener.getsockname()
        try:
            for begin, end in sorted(self._mood.down):
                await self._serve_until(listener, begin)
                await self._wait_until(end)
                listener = socket.create_server(address[:2], family=listener.family, backlog=BACKLOG)
            await self._serve_until(listener, math.inf)
        finally:
            self._hang_up()
            self._writer.close()

    async def _serve_until(self, listener: socket.socket, moment: float) -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Call(self), sock=listener)
        try:
            await self._wait_until(moment)
        finally:
            server.close()
        self._hang_up()

    async def _wait_until(self, moment: float) -> None:
        """Wait for a moment of the run, and let others see the records meanwhile."""
        while (left := moment - self._since()) > 0:
            await asyncio.sleep(min(FLUSH, left))
            self._writer.flush()

    def _hang_up(self) -> None:
        for call in list(self.connections):
            call.hang_up()
        self._writer.flush()

    def told(self, key: bytes, body: bytes) -> tuple[int, int, bool, float]:
        """Take one call, and say (outcome, index, whether the body was another event's, seconds until the
        answer).
        """
        self._calls += 1
        luck = chance(self._seed, self._calls)
        refused = chance(self._seed + 1, self._calls) < self._mood.flaky
        delay = self._mood.latency * (0.5 + luck)
        if self._mood.rate:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + 1 / self._mood.rate
            delay += self._free_at - now
        index, mangled = _recognise(self._events, key, body)
        return (REFUSED if refused else APPLIED), index, mangled, delay

    def note(self, arrived: float, index: int, outcome: int, mangled: bool) -> None:
        """Write a call down when it is over."""
        self._writer.add(arrived, time.monotonic(), index, outcome, mangled)


def _recognise(events: Events, key: bytes, body: bytes) -> tuple[int, bool]:
    """Find the event of a call, by key or else by body; and whether the two disagree."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        document = {}
    event_id = key.strip(b'"') or str(document.get("event_id", "")).encode()
    index = events.index_of(event_id.lower())
    if index is None:
        return NO_EVENT, False
    data = document.get("data")
    variables = data.get("variables") if isinstance(data, dict) else None
    if not isinstance(variables, dict):
        return index, False  # the connector sends something of its own; there is nothing to compare
    same = str(variables.get("i_event")) == str(events.i_event(index))
    return index, not same


JSON = b"\r\nContent-Type: application/json\r\nContent-Length: "
ANSWERS = {
    APPLIED: b"HTTP/1.1 200 OK" + JSON + b'20\r\n\r\n{"result":"applied"}',
    REFUSED: b"HTTP/1.1 503 Service Unavailable" + JSON + b'16\r\n\r\n{"error":"busy"}',
}
NOT_UNDERSTOOD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ALIVE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Call(asyncio.Protocol):
    """One connection of the connector; one call at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._open: tuple[float, int, int, bool] | None = None  # arrived, index, outcome, mangled
        self._continued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._target.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._open is None:
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._target.connections.discard(self)
        self._note_unanswered()

    def hang_up(self) -> None:
        """Break off, with or without an answer under way."""
        self._note_unanswered()
        self._transport.abort()

    def _note_unanswered(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._open is not None:
            arrived, index, outcome, mangled = self._open
            self._open = None
            self._target.note(arrived, index, UNANSWERED if outcome == APPLIED else outcome, mangled)

    def _read(self) -> None:
        """Take the next whole request out of the buffer, if there is one."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT:
                self._reject()
            return
        headers = _headers(bytes(self._buffer[:end]))
        try:
            taken = _body(self._buffer, end + 4, headers)
        except ValueError:
            self._reject()
            return
        if taken is None:
            if headers.get(b"expect", b"").lower() == b"100-continue" and not self._continued:
                self._continued = True
                self._transport.write(CONTINUE)
            return
        body, stop = taken
        posted = self._buffer.startswith((b"POST ", b"PUT ", b"PATCH "))
        del self._buffer[:stop]
        self._continued = False
        if not posted:
            self._transport.write(ALIVE)
            return
        arrived = time.monotonic()
        outcome, index, mangled, delay = self._target.told(headers.get(b"idempotency-key", b""), body)
        self._open = (arrived, index, outcome, mangled)
        if delay > 0:
            self._timer = asyncio.get_running_loop().call_later(delay, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        self._timer = None
        if self._open is not None:
            arrived, index, outcome, mangled = self._open
            self._open = None
            self._target.note(arrived, index, outcome, mangled)
            self._transport.write(ANSWERS[outcome])
        if self._buffer:
            self._read()

    def _reject(self) -> None:
        self._transport.write(NOT_UNDERSTOOD)
        self._transport.close()


def _headers(head: bytes) -> dict[bytes, bytes]:
    """Read the headers of a request."""
    headers = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    return headers


def _body(buffer: bytearray, at: int, headers: dict[bytes, bytes]) -> tuple[bytes, int] | None:
    """Take the body that begins at `at`, as (body, where the request ends); None while it is incomplete.

    Raises ValueError for a length that is none, or too much.
    """
    if b"chunked" not in headers.get(b"transfer-encoding", b"").lower():
        stop = at + int(headers.get(b"content-length", b"0"))
        if stop - at > BODY_LIMIT or stop < at:
            raise ValueError("no such length")
        return (bytes(buffer[at:stop]), stop) if len(buffer) >= stop else None
    parts: list[bytes] = []
    while True:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(bytes(buffer[at:line]).split(b";")[0], 16)
        if size == 0:
            stop = buffer.find(b"\r\n\r\n", line)
            return (b"".join(parts), stop + 4) if stop >= 0 else None
        if size > BODY_LIMIT or len(buffer) > BODY_LIMIT * 2:
            raise ValueError("too much")
        parts.append(bytes(buffer[line + 2 : line + 2 + size]))
        at = line + 2 + size + 2
