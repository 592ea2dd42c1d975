"""The generator as it sends: what it costs the machine it shares with the connector."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import uvloop

from nsps_simulator.records import ATTEMPT, Writer
from nsps_simulator.sending.profile import Plan, steady
from nsps_simulator.sending.scenario import Scenario
from nsps_simulator.sending.sender import Sender
from nsps_simulator.wire.client import Connection
from nsps_simulator.wire.endpoint import endpoint

EVENTS = 1500


class Counting(Sender):
    """A generator that counts how often it looks for what is due."""

    turns = 0

    def _pump(self) -> None:
        self.turns += 1
        super()._pump()


class Accepting(asyncio.Protocol):
    """A server that accepts whatever it reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream it is

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"POST"):
            self._transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")


def test_the_generator_sleeps_between_two_events_that_are_less_than_a_millisecond_apart(tmp_path: Path) -> None:
    async def run() -> Counting:
        server = await asyncio.get_running_loop().create_server(Accepting, "127.0.0.1", 0)
        scenario = Scenario(
            seed=1,
            endpoints=(endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "made-up"),),
            plan=Plan(steady(3000, EVENTS / 3000)),
        )
        writer = Writer(tmp_path / "attempts", ATTEMPT)
        sender = Counting(scenario, range(EVENTS), writer)
        await sender.run(time.monotonic() + 0.1)
        writer.close()
        server.close()
        return sender

    sender = uvloop.run(run())
    assert sender.effort.sent == EVENTS
    # One turn for each answer at the most, and one for each timer; a generator that spins makes a hundred times more.
    assert sender.turns < 4 * EVENTS


def test_a_slow_upload_keeps_the_order_of_its_pieces_when_the_event_loop_is_late() -> None:
    async def run() -> bytes:
        read = bytearray()
        whole = asyncio.Event()

        class Reading(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                read.extend(data)
                if len(read) >= len(request):
                    whole.set()

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Reading, "127.0.0.1", 0)
        connection = Connection(lambda *_: None, lambda *_: None)
        await loop.create_connection(lambda: connection, *server.sockets[0].getsockname())
        connection.send_slowly(request, loop)
        time.sleep(0.3)  # noqa: ASYNC251  # the loop is late: all timers that were set are due at once
        await whole.wait()
        connection.busy = False
        connection.cut()
        server.close()
        return bytes(read)

    request = b"".join(b"%03d," % number for number in range(800))
    assert uvloop.run(run()) == request
