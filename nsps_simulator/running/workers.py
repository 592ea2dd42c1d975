"""The processes of a run: generators and the target, each with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

import msgspec

from nsps_simulator.records import ATTEMPT, DELIVERY, Writer
from nsps_simulator.running.orphans import die_with_parent
from nsps_simulator.running.proxy import Link, Proxy
from nsps_simulator.sending.scenario import Scenario
from nsps_simulator.sending.sender import Effort, Sender
from nsps_simulator.target import Mood, Recorder, Target
from nsps_simulator.wire.bodies import Bodies, read_mapping

try:
    from uvloop import run as _run
except ImportError:  # there is none for PyPy
    from asyncio import run as _run  # type: ignore[assignment]  # it takes fewer arguments, and gets none


# Nothing here is cyclic but the connections, and a sweep per 700 objects would cost a twentieth of the rate.
GC_THRESHOLD = 100_000


class Clock:
    """The common start of all processes: set once, by the conductor, when everyone is ready.

    Its two numbers are shared memory, made by `multiprocessing`.
    """

    def __init__(self, context: SpawnContext) -> None:
        self._start = context.Value("d", math.inf)
        self._ready = context.Value("i", 0)

    def ready(self) -> None:
        """Say that one process is ready."""
        with self._ready.get_lock():
            self._ready.value += 1

    @property
    def ready_count(self) -> int:
        """How many are ready."""
        return int(self._ready.value)

    @property
    def start(self) -> float:
        """Time zero of the run on the monotonic clock; infinite until it is set."""
        return float(self._start.value)

    @start.setter
    def start(self, moment: float) -> None:
        self._start.value = moment

    def since(self) -> float:
        """Seconds since the start; below 0 before it."""
        return time.monotonic() - self.start

    async def started(self) -> float:
        """Wait until the start is set, and give it."""
        while math.isinf(self.start):  # noqa: ASYNC110  # another process sets it
            await asyncio.sleep(0.005)
        return self.start


class Report(msgspec.Struct):
    """What a process says at its end. error: why what it noted is not complete; None when all went well."""

    error: str | None = None
    effort: Effort | None = None


@dataclass(frozen=True)
class Desk:
    """What a process of a run works with: where records go, the common clock, and where it hands in its report."""

    folder: Path
    clock: Clock
    out: Connection
    conductor: int


def generator(scenario: Scenario, number: int, desk: Desk) -> None:
    """Be one of the generators: send my share of the plan, note each attempt in `attempts-N`, report my effort."""
    _raise_file_limit(scenario.connections * len(scenario.endpoints) + 64)
    writer = Writer(desk.folder / f"attempts-{number}", ATTEMPT)
    sender = Sender(scenario, scenario.mine(number), writer)

    async def send() -> None:
        desk.clock.ready()
        await sender.run(await desk.clock.started())

    _run_to_the_end(send, writer, desk, lambda error: Report(error, sender.effort))


def target(
    scenario: Scenario, mood: Mood, mapping: Path | None, compared: bool, listener: socket.socket, desk: Desk
) -> None:
    """Be the external system: `deliveries` takes the records, `differences` says where bodies differ."""
    _raise_file_limit(8192)
    writer = Writer(desk.folder / "deliveries", DELIVERY)
    events = scenario.events()
    bodies = Bodies(events, None if mapping is None else read_mapping(mapping), compared=compared)
    clock = desk.clock
    recorder = Recorder(events, bodies, writer, desk.folder / "differences")
    stand_in = Target(scenario.seed, mood, recorder, clock.since)

    async def serve() -> None:
        clock.ready()
        await stand_in.serve(listener)

    _run_to_the_end(serve, writer, desk, Report)


def proxies(links: list[Link], listeners: list[socket.socket], desk: Desk) -> None:
    """Be the network between others: a relay for each listener."""
    _raise_file_limit(8192)

    async def relay() -> None:
        desk.clock.ready()
        await asyncio.gather(
            *(Proxy(link, desk.clock.since).serve(listener) for link, listener in zip(links, listeners, strict=True))
        )

    _run_to_the_end(relay, None, desk, Report)


def _run_to_the_end(
    work: Callable[[], Coroutine[Any, Any, None]],
    writer: Writer | None,
    desk: Desk,
    report: Callable[[str | None], Report],
) -> None:
    """Work until it is done, SIGTERM says to stop, or the conductor is gone; then hand in the report."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the conductor decides when to stop, and sends SIGTERM
    die_with_parent(desk.conductor)
    gc.set_threshold(GC_THRESHOLD)
    error: str | None = None
    try:
        _run(_until_stopped(work()))
    except Exception as failure:  # noqa: BLE001  # whatever it is, it must not become a verdict on the connector
        error = f"{type(failure).__name__}: {failure}"
    if writer is not None:
        writer.close()
        error = error or (writer.error if writer.lost else None)
    desk.out.send_bytes(msgspec.json.encode(report(error)))


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    conductor = os.getppid()
    while not task.done():
        await asyncio.wait([task], timeout=1)
        if os.getppid() != conductor:
            task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
