"""A load client lean enough not to be the limit: raw protocol on uvloop, requests put together from bytes.

``python -m benchmarks.client PORT SECONDS CONNECTIONS [RATE]`` prints ``Answers`` as JSON. Without a rate each
connection sends its next event when the last one is answered. With a rate events fall due at random moments (Poisson,
always the same ones) whether or not the server keeps up, and latency counts from when an event was due.
"""

import asyncio
import random
import sys
import time
from array import array
from collections import deque
from typing import Final, cast

import msgspec
import uvloop

from benchmarks.load import SUBSCRIBERS, TOKEN, Answers, event_id, i_account, template

_ACCEPTED: Final = b"HTTP/1.1 202"
_PATIENCE: Final = 10.0
"""Seconds that the last answers may take."""


class Connection(asyncio.Protocol):
    """One kept-alive connection with at most one request under way."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at ``due`` (``time.perf_counter``)."""
        assert self._transport is not None
        self.due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        _, _, length = head.lower().partition(b"content-length: ")
        if len(body) >= int(length.partition(b"\r\n")[0]):
            self._received = b""
            self._client.answered(self, accepted=head.startswith(_ACCEPTED))

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.lost(exc)

    def close(self) -> None:
        """Close the connection."""
        assert self._transport is not None
        self._transport.close()


class Client:
    """Sends events for ``seconds`` and counts the answers."""

    def __init__(
        self, port: int, seconds: float, connections: int, rate: float | None, subscribers: int = SUBSCRIBERS
    ) -> None:
        self._port = port
        self._seconds = seconds
        self._count = connections
        self._rate = rate
        self._subscribers = subscribers
        self._run = random.SystemRandom().getrandbits(32)
        self._template = template()
        self._head = (
            f"POST /process-event HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nx-b3-traceid: 4bf92f3577b34da6a3ce929d0e0e4736\r\n"
            "x-request-id: 0b6f4a52-7c1d-4d0f-8e55-3f6c1a2b9d77\r\n"
            f"Content-Length: {len(self._template.body(event_id(0, 0), i_account(0)))}\r\n\r\n"
        ).encode()
        self._idle: deque[Connection] = deque()
        self._overdue: deque[float] = deque()
        self._latencies = array("d")
        self._sent = self._accepted = self._refused = 0
        self._until = 0.0
        self._closing = False
        self._over: asyncio.Future[None] | None = None

    async def run(self) -> Answers:
        """Open the connections, send, wait for the last answer."""
        loop = asyncio.get_running_loop()
        self._over = loop.create_future()
        made = [
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port) for _ in range(self._count)
        ]
        connections = [connection for _, connection in made]
        self._idle.extend(connections)
        started, cpu = time.perf_counter(), time.process_time()
        self._until = started + self._seconds
        if self._rate is None:
            while self._idle:
                self._send(time.perf_counter())
        else:
            await self._send_at(self._rate, started)
            self._until = 0.0
            self._end_if_idle()
        await asyncio.wait_for(self._over, self._seconds + _PATIENCE)
        seconds = time.perf_counter() - started
        cpu = time.process_time() - cpu
        self._closing = True
        for connection in connections:
            connection.close()
        ranked = sorted(self._latencies)
        p50, p95, p99 = (round(ranked[int(share * (len(ranked) - 1))] * 1000, 3) for share in (0.5, 0.95, 0.99))
        return Answers(seconds, self._accepted, self._refused, p50, p95, p99, cpu / seconds)

    def answered(self, connection: Connection, *, accepted: bool) -> None:
        """Count an answer; the connection is free again."""
        now = time.perf_counter()
        self._latencies.append(now - connection.due)
        self._accepted += accepted
        self._refused += not accepted
        self._idle.append(connection)
        if self._overdue:
            self._send(self._overdue.popleft())
        elif now < self._until:
            if self._rate is None:
                self._send(now)
        else:
            self._end_if_idle()

    def lost(self, fault: Exception | None) -> None:
        """A connection that ends while the run goes on ends the run."""
        if not self._closing and self._over is not None and not self._over.done():
            self._over.set_exception(fault or ConnectionError("the server closed a connection"))

    def _end_if_idle(self) -> None:
        if len(self._idle) == self._count and self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _send(self, due: float) -> None:
        number = self._sent
        self._sent += 1
        body = self._template.body(event_id(self._run, number), i_account(number, self._subscribers))
        self._idle.popleft().send(self._head + body, due)

    async def _send_at(self, rate: float, due: float) -> None:
        chance = random.Random(1)
        while due < self._until:
            while (now := time.perf_counter()) < due:  # noqa: ASYNC110 - a loop's timer may be late by a millisecond
                await asyncio.sleep(0)
            while due <= now:
                if self._idle:
                    self._send(due)
                else:
                    self._overdue.append(due)
                due += chance.expovariate(rate)


def main() -> None:
    """Run the client that the command line asks for."""
    port, seconds, connections, *rate = sys.argv[1:]
    client = Client(int(port), float(seconds), int(connections), float(rate[0]) if rate else None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(client.run())).decode())


if __name__ == "__main__":
    main()
