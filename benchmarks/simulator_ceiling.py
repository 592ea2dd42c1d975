"""How many events per second one generator process sends, at the most, on one core.

The other side is a server that answers without looking at what it read, on the other core. Run by hand, from the
top of the project: `python -m benchmarks.simulator_ceiling`.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

import uvloop

if not __package__:  # started by its path, the project is not where Python looks for modules
    sys.path.insert(0, str(Path(__file__).parents[1]))

from nsps_simulator.records import attempts
from nsps_simulator.running.workers import Clock, Desk, generator
from nsps_simulator.sending.profile import Plan, steady
from nsps_simulator.sending.scenario import Scenario
from nsps_simulator.wire.endpoint import endpoint

SECONDS = 5.0
ANSWER = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 45\r\n\r\n"
    b'{"message": "Event accepted for processing"} '
)


class Answerer(asyncio.Protocol):
    """Answers each request with the same bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream it is
        self._missing = 0

    def data_received(self, data: bytes) -> None:
        """Answer when a request is complete."""
        if not self._missing:
            end = data.index(b"\r\n\r\n") + 4
            at = data.index(b"Content-Length: ") + 16
            self._missing = end + int(data[at : data.index(b"\r\n", at)])
        self._missing -= len(data)
        if self._missing <= 0:
            self._missing = 0
            self._transport.write(ANSWER)


def serve(listener: socket.socket, core: int) -> None:
    """Be the server."""
    os.sched_setaffinity(0, {core})

    async def forever() -> None:
        server = await asyncio.get_running_loop().create_server(Answerer, sock=listener)
        await server.serve_forever()

    uvloop.run(forever())


def send(port: int, folder: Path, core: int) -> None:
    """Be the generator."""
    os.sched_setaffinity(0, {core})
    scenario = Scenario(
        seed=1,
        endpoints=(endpoint(f"http://127.0.0.1:{port}", "made-up"),),
        plan=Plan(steady(100_000, SECONDS)),
        closed=64,
        closed_seconds=SECONDS,
        patience=2,
    )
    clock = Clock(multiprocessing.get_context("spawn"))
    clock.start = time.monotonic() + 0.5
    inbox, outbox = multiprocessing.Pipe(duplex=False)
    generator(scenario, 0, Desk(folder, clock, outbox, os.getppid()))
    (folder / "effort").write_bytes(inbox.recv_bytes())


def main() -> None:
    """Measure, and print the rate."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    cores = sorted(os.sched_getaffinity(0))
    server = multiprocessing.Process(target=serve, args=(listener, cores[-1]))
    server.start()
    with tempfile.TemporaryDirectory() as name:
        sender = multiprocessing.Process(target=send, args=(port, Path(name), cores[0]))
        sender.start()
        sender.join()
        server.terminate()
        server.join()
        ends = [one.ended for one in attempts([Path(name) / "attempts-0"]) if one.status == 202]
        effort = (Path(name) / "effort").read_text()
    print(f"{len(ends) / (max(ends) - min(ends)):,.0f} events/s on one core; effort: {effort}")


if __name__ == "__main__":
    main()
