"""The way to the external system and back: events accepted, delivered to a slow target by the forwarder, and settled.

``python -m benchmarks.target`` runs the connector on one core, and the load and a stand-in target on another. The
target answers after ``--latency`` ms; it can fail a share of the calls, leave a share without an answer, and be down
for a while. Prints a table in markdown, and whether an event was lost or a subscriber's order broken.
"""

import argparse
import asyncio
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final, NamedTuple, cast

import uvloop

from benchmarks.client import Client
from benchmarks.servers import Kind, Server, running

SUBSCRIBERS: Final = 2_000
"""Few enough that each has several events in a run."""

CALL_TIMEOUT: Final = 1.0
"""TARGET_TIMEOUT in seconds, so that a call without an answer ends within a short run."""

_EVENT: Final = re.compile(rb'"event_id":"[^"]*-([0-9a-f]{12})".*?"i_account":(\d+)', re.DOTALL)
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n" + b'{"result":true}'
_ERROR: Final = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


class Mood(NamedTuple):
    """``latency`` in seconds; ``errors`` and ``hangs`` as shares; ``down`` from and to, in seconds of the run."""

    latency: float
    errors: float
    hangs: float
    down: tuple[float, float] | None


class Target:
    """A stand-in external system that notes when it took which event."""

    def __init__(self, mood: Mood) -> None:
        self.mood = mood
        self.chance = random.Random(1)
        self.taken: list[tuple[float, int, int]] = []
        self.calls = 0
        self.connections: set[Call] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def listen(self) -> None:
        """Take connections; on the same port as the last time."""
        self._server = await asyncio.get_running_loop().create_server(lambda: Call(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def go_away(self) -> None:
        """Take no connections and break those that are open."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()

    def note(self, request: bytes) -> None:
        """An event was taken."""
        if found := _EVENT.search(request):
            self.taken.append((time.perf_counter(), int(found[2]), int(found[1], 16)))

    def out_of_order(self) -> int:
        """Events that were first taken after a later event of their subscriber."""
        newest: dict[int, int] = defaultdict(lambda: -1)
        seen: set[int] = set()
        broken = 0
        for _, subscriber, number in self.taken:
            if number not in seen:
                seen.add(number)
                broken += number < newest[subscriber]
                newest[subscriber] = max(newest[subscriber], number)
        return broken


class Call(asyncio.Protocol):
    """A connection of the connector's, with one call at a time."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._target.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._target.connections.discard(self)

    def abort(self) -> None:
        """Break the connection."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if not end or (length is not None and len(body) < int(length[1])):
            return
        request, self._received = self._received, b""
        target = self._target
        target.calls += 1
        fate = target.chance.random()
        if fate >= target.mood.hangs:
            failed = fate < target.mood.hangs + target.mood.errors
            asyncio.get_running_loop().call_later(target.mood.latency, self._answer, request, failed)

    def _answer(self, request: bytes, failed: bool) -> None:
        if self._transport.is_closing():
            return
        if not failed:
            self._target.note(request)
        self._transport.write(_ERROR if failed else _OK)


async def run(options: argparse.Namespace, mood: Mood, folder: Path) -> str:
    """One run; its line of the table. Raises TimeoutError when not all was delivered within ``--settle`` seconds."""
    target = Target(mood)
    await target.listen()
    kind = Kind(
        "target",
        {
            "JOURNAL_URL": "sqlite:///journal.db" if options.journal == "sqlite" else "memory://",
            "QUEUE_SIZE": "1000" if options.journal == "sqlite" else "1000000",
            "HANDLERS": "connector.handlers.forward",
            "TARGET_URL": f"http://127.0.0.1:{target.port}/events",
            "TARGET_TIMEOUT": f"{CALL_TIMEOUT:g}s",
            "WORKERS": str(options.workers),
        },
    )
    with running(kind, options.server_core, folder) as server:
        return await _measure(server, target, options)


async def _measure(server: Server, target: Target, options: argparse.Namespace) -> str:
    started, cpu = time.perf_counter(), server.cpu()
    client = Client(server.port, options.seconds, 64, options.rate, SUBSCRIBERS)
    outage = asyncio.create_task(_outage(target, started))
    answers = await client.run()
    accepted = answers.accepted
    async with asyncio.timeout(options.settle):
        while len({number for _, _, number in target.taken}) < accepted or not outage.done():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    last = target.taken[-1][0]
    cpu = server.cpu() - cpu
    await asyncio.to_thread(server.wait_processed, accepted, 10.0)
    actions = Counter(re.findall(rb'"action":"([^"]+)"', server.log.read_bytes()))
    after = "-"
    if target.mood.down is not None:
        returned = await outage
        first = next(moment for moment, _, _ in target.taken if moment >= returned) - returned
        after = f"{first:.1f} / {_full_speed(target, returned):.1f} / {last - returned:.1f}"
    figures = (
        f"{answers.accepted / answers.seconds:.0f}",
        str(answers.refused),
        f"{accepted / (last - started):.0f}",
        f"{_busiest(target):.0f}",
        f"{cpu / accepted * 1e6:.0f}",
        f"{answers.p99:.0f}",
        str(target.calls),
        str(actions[b"event.retrying"]),
        str(actions[b"event.dead"]),
        str(actions[b"breaker.opened"]),
        str(target.out_of_order()),
        after,
    )
    return f"| {options.name} | " + " | ".join(figures) + " |"


async def _outage(target: Target, started: float) -> float:
    """Be down when it is time; the moment of the return."""
    if target.mood.down is None:
        return started
    begin, end = target.mood.down
    await asyncio.sleep(started + begin - time.perf_counter())
    target.go_away()
    await asyncio.sleep(started + end - time.perf_counter())
    await target.listen()
    return time.perf_counter()


def _busiest(target: Target) -> int:
    """The most events that were taken within one second."""
    return max(Counter(int(moment - target.taken[0][0]) for moment, _, _ in target.taken).values())


def _full_speed(target: Target, returned: float) -> float:
    """Seconds from the return until as many events were taken in half a second as in the half before the outage."""
    assert target.mood.down is not None
    gone = returned - (target.mood.down[1] - target.mood.down[0])
    before = sum(gone - 0.6 <= moment < gone - 0.1 for moment, _, _ in target.taken)
    moments = [moment for moment, _, _ in target.taken if moment >= returned]
    for number, moment in enumerate(moments):
        if number >= before and moment - moments[number - before] <= 0.5:
            return moment - returned
    return float("inf")


HEAD: Final = (
    "| run | accepted/s | refused | delivered/s | best second | CPU µs/event | p99 ms to 202 | calls | attempts spent "
    "| dead | breaker opened | out of order | s after return: first / full speed / all |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.target", description=__doc__)
    parser.add_argument("--name", default="run", help="what the line of the table is called")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long events are sent")
    parser.add_argument("--rate", type=float, default=1200.0, help="events a second, whether or not they are taken")
    parser.add_argument("--workers", type=int, default=96)
    parser.add_argument("--journal", choices=("sqlite", "memory"), default="sqlite")
    parser.add_argument("--latency", type=float, default=50.0, help="of the target, in ms")
    parser.add_argument("--errors", type=float, default=0.0, help="percentage of calls that are answered with a 500")
    parser.add_argument("--hangs", type=float, default=0.0, help="percentage of calls that are never answered")
    parser.add_argument("--down", metavar="FROM:TO", help="seconds of the run in which the target is down")
    parser.add_argument(
        "--settle", type=float, default=60.0, help="seconds that delivery may take after the last event"
    )
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    options = parser.parse_args()
    begin, _, end = (options.down or "").partition(":")
    down = (float(begin), float(end)) if options.down else None
    mood = Mood(options.latency / 1000, options.errors / 100, options.hangs / 100, down)
    os.sched_setaffinity(0, {options.client_core})
    with (
        tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        line = runner.run(run(options, mood, Path(folder)))
    print(HEAD, line, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
