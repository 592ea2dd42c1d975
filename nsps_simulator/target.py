"""A stand-in external system: slow, flaky, down by schedule; and it notes whatever it is told.

A connector under test POSTs each event here. An event is applied when its request has fully arrived; the answer
comes after the latency. So a connector that dies in between has told the external system without knowing it, as
in life.

Which event a call is about is read from `Idempotency-Key`, from another header, from `event_id` in the body, or
from wherever else in the body the event's id stands, in this order.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import orjson

from nsps_simulator.records import APPLIED, NO_EVENT, REFUSED, UNANSWERED, Body, Writer
from nsps_simulator.wire.bodies import Bodies
from nsps_simulator.wire.draw import branch, chance
from nsps_simulator.wire.events import Events

HEAD_LIMIT = 64 * 1024
BODY_LIMIT = 8 * 1024 * 1024
FLUSH = 0.1  # seconds
BACKLOG = 1024
DIFFERENCES = 1000  # of wrong bodies that are described; more are counted

DOWN, SLOW, FLAKY, WRONG = "target-down", "target-slow", "target-flaky", "target-wrong"


@dataclass(frozen=True)
class Trouble:
    """A stretch of the run (in seconds of it) in which the target misbehaves.

    kind: DOWN (nobody listens), SLOW (`value` seconds more to an answer), FLAKY (a share of `value` is refused with
    503), WRONG (a share of `value` is applied, and answered with what is no HTTP).
    """

    kind: str
    begin: float
    end: float
    value: float = 0.0


@dataclass(frozen=True)
class Mood:
    """How the external system behaves.

    latency: seconds to an answer, on average; a single one takes half of it to half again as much. rate:
    answers per second at the most, 0 for no limit. flaky: share (0 to 1) of calls that are refused with
    503, until `heals` (seconds of the run). troubles: by schedule.
    """

    latency: float = 0.0
    rate: float = 0.0
    flaky: float = 0.0
    heals: float = math.inf
    troubles: tuple[Trouble, ...] = ()

    @property
    def down(self) -> list[Trouble]:
        """The stretches in which nobody listens, in order."""
        return sorted((one for one in self.troubles if one.kind == DOWN), key=lambda one: one.begin)

    def now(self, kind: str, second: float) -> float:
        """Give the value of a kind of trouble at a second of the run, 0 when there is none."""
        return max(
            (one.value for one in self.troubles if one.kind == kind and one.begin <= second < one.end), default=0
        )

    def refuses(self, second: float) -> float:
        """Give the share of calls that are refused at a second of the run."""
        return max(self.flaky if second < self.heals else 0.0, self.now(FLAKY, second))


CHEERFUL = Mood()
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass
class Told:
    """A call that is being answered. delay: seconds until the answer. index, body: which event it is about, and what
    its body was beside the event's own, as far as somebody has looked.
    """

    arrived: float
    outcome: int
    delay: float
    path: bytes
    headers: Mapping[bytes, bytes]
    text: bytes
    index: int = NO_EVENT
    body: Body = Body.NOT_COMPARED


class Observer:
    """Is shown each call when it has arrived, and again when it is over."""

    def look(self, told: Told) -> None:
        """Look at a call that has arrived."""

    def note(self, told: Told) -> None:
        """Note a call that is over."""

    def flush(self) -> None:
        """Let others see what was noted."""


class Recorder(Observer):
    """Finds out which event each call is about, compares its body, and writes it down.

    notes: takes a line of JSON for each wrong body, saying where it differs.
    """

    def __init__(self, events: Events, bodies: Bodies, writer: Writer, notes: Path) -> None:
        self._events = events
        self._bodies = bodies
        self._writer = writer
        self._notes = notes
        self._described = 0

    def look(self, told: Told) -> None:
        """Recognise the event, and compare."""
        told.index, whose = _recognise(self._events, told.headers, told.text)
        where = ""
        if told.index != NO_EVENT:
            told.body, where = self._bodies.compare(told.index, told.text)
        if whose not in {told.index, NO_EVENT}:
            told.body, where = Body.MIXED_UP, "event_id is another event's"
        if where:
            self._describe(told.index, where)

    def _describe(self, index: int, where: str) -> None:
        """Note where a body differs; the verdict does not need it, so a disk that is full is no matter."""
        if self._described < DIFFERENCES:
            self._described += 1
            try:
                with self._notes.open("ab") as file:
                    file.write(orjson.dumps({"event": index, "where": where}, option=orjson.OPT_APPEND_NEWLINE))
            except OSError:
                self._described = DIFFERENCES

    def note(self, told: Told) -> None:
        """Write a call down."""
        self._writer.add(told.arrived, time.monotonic(), told.index, told.outcome, told.body)

    def flush(self) -> None:
        """Write out."""
        self._writer.flush()


class Target:
    """The external system on one listening socket. `mood` may be changed at any time, but for when it is down.

    since: gives the seconds since the start of the run, below 0 before it.
    """

    def __init__(self, seed: int, mood: Mood, observer: Observer, since: Callable[[], float]) -> None:
        self.mood = mood
        self.observer = observer
        self.refusing = False  # whether connections are broken at once, as if nobody listened
        self._since = since
        self._seed = branch(seed, "target")
        self._calls = 0
        self._free_at = 0.0
        self.connections: set[_Call] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Answer until cancelled, but for the stretches in which the system is down."""
        address = listener.getsockname()
        try:
            for trouble in self.mood.down:
                await self._serve_until(listener, trouble.begin)
                await self._wait_until(trouble.end)
                listener = socket.create_server(address[:2], family=listener.family, backlog=BACKLOG)
            await self._serve_until(listener, math.inf)
        finally:
            self._hang_up()

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
            self.observer.flush()

    def _hang_up(self) -> None:
        for call in list(self.connections):
            call.hang_up()
        self.observer.flush()

    def told(self, path: bytes, headers: Mapping[bytes, bytes], text: bytes) -> Told:
        """Take one call, and decide what becomes of it."""
        self._calls += 1
        second, mood = self._since(), self.mood
        delay = mood.latency * (0.5 + chance(self._seed, self._calls)) + mood.now(SLOW, second)
        if mood.rate:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + 1 / mood.rate
            delay += self._free_at - now
        refused = chance(self._seed + 1, self._calls) < mood.refuses(second)
        wrong = chance(self._seed + 2, self._calls) < mood.now(WRONG, second)
        outcome = REFUSED if refused else UNANSWERED if wrong else APPLIED
        told = Told(time.monotonic(), outcome, delay, path, headers, text)
        self.observer.look(told)
        return told


def _recognise(events: Events, headers: Mapping[bytes, bytes], body: bytes) -> tuple[int, int]:
    """Give the event of a call, and the one whose id is `event_id` in the body; NO_EVENT for none of this run."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    written = document.get("event_id") if isinstance(document, dict) else None
    whose = events.index_of(written.lower().encode()) if isinstance(written, str) else None
    key = headers.get(b"idempotency-key", b"").strip(b'"').lower()
    index = events.index_of(key)
    if index is None:
        index = _first(events, b"\n".join(headers.values()))
    if index is None:
        index = whose if whose is not None else _first(events, body)
    return NO_EVENT if index is None else index, NO_EVENT if whose is None else whose


def _first(events: Events, text: bytes) -> int | None:
    """Find the first id of an event of this run in a text."""
    found = (events.index_of(match[0].lower()) for match in _UUID.finditer(text))
    return next((index for index in found if index is not None), None)


JSON = b"\r\nContent-Type: application/json\r\nContent-Length: "
ANSWERS = {
    APPLIED: b"HTTP/1.1 200 OK" + JSON + b'20\r\n\r\n{"result":"applied"}',
    REFUSED: b"HTTP/1.1 503 Service Unavailable" + JSON + b'16\r\n\r\n{"error":"busy"}',
}
ANSWERS[UNANSWERED] = b"HTTP/2.5 2OO Fine\r\nContent-Length: none\r\n\r\n{"  # what WRONG answers
NOT_UNDERSTOOD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ALIVE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Call(asyncio.Protocol):
    """One connection of the connector; one call at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._open: Told | None = None
        self._continued = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._target.connections.add(self)
        if self._target.refusing:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._target.refusing:
            self._transport.abort()
            return
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
            told, self._open = self._open, None
            told.outcome = UNANSWERED if told.outcome == APPLIED else told.outcome
            self._target.observer.note(told)

    def _read(self) -> None:
        """Take the next whole request out of the buffer, if there is one."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT:
                self._reject()
            return
        headers = _headers(bytes(self._buffer[:end]))
        try:
            method, path, _ = bytes(self._buffer[: self._buffer.find(b"\r\n")]).split(b" ", 2)
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
        del self._buffer[:stop]
        self._continued = False
        if method not in {b"POST", b"PUT", b"PATCH"}:
            self._transport.write(ALIVE)
            return
        self._open = self._target.told(path, headers, body)
        if self._open.delay > 0:
            self._timer = asyncio.get_running_loop().call_later(self._open.delay, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        self._timer = None
        if self._open is not None:
            told, self._open = self._open, None
            self._target.observer.note(told)
            self._transport.write(ANSWERS[told.outcome])
            if told.outcome == UNANSWERED:
                self._transport.close()
                return
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
