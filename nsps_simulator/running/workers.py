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
from collections.abc import Coroutine
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

import msgspec

from nsps_simulator.records import ATTEMPT, DELIVERY, Writer
from nsps_simulator.sending.profile import shares
from nsps_simulator.sending.scenario import Scenario
from nsps_simulator.sending.sender import Sender
from nsps_simulator.target import Mood, Target
from nsps_simulator.wire.events import Events

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
        """Seconds since the start; below nought before it."""
        return time.monotonic() - self.start

    async def started(self) -> float:
        """Wait until the start is set, and give it."""
        while math.isinf(self.start):  # noqa: ASYNC110  # another process sets it
            await asyncio.sleep(0.005)
        return self.start


def generator(scenario: Scenario, number: int, folder: Path, clock: Clock) -> None:
    """Be one of the generators: send my share of the plan, note each attempt, and at the end my effort.

    folder: where `attempts-N` (records) and `effort-N` (JSON) go.
    """
    _raise_file_limit(scenario.connections + 64)
    gc.set_threshold(GC_THRESHOLD)
    _run_loop(_generate(scenario, number, folder, clock))


def target(scenario: Scenario, mood: Mood, listener: socket.socket, folder: Path, clock: Clock) -> None:
    """Be the external system: `deliveries` in the folder takes the records."""
    _raise_file_limit(8192)
    gc.set_threshold(GC_THRESHOLD)
    _run_loop(_serve(scenario, mood, listener, folder, clock))


async def _generate(scenario: Scenario, number: int, folder: Path, clock: Clock) -> None:
    writer = Writer(folder / f"attempts-{number}", ATTEMPT)
    mine = shares(scenario.plan.events, scenario.processes)[number]
    sender = Sender(scenario, mine, writer)
    try:
        await _until_stopped(_send(sender, clock))
    finally:
        writer.close()
        (folder / f"effort-{number}").write_bytes(msgspec.json.encode(sender.effort))


async def _send(sender: Sender, clock: Clock) -> None:
    clock.ready()
    await sender.run(await clock.started())


async def _serve(scenario: Scenario, mood: Mood, listener: socket.socket, folder: Path, clock: Clock) -> None:
    writer = Writer(folder / "deliveries", DELIVERY)
    events = Events(scenario.seed, scenario.population())
    target = Target(scenario.seed, mood, events, writer, clock.since)
    clock.ready()
    await _until_stopped(target.serve(listener))


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Work until it is done, SIGTERM says to stop, or the conductor is gone."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    conductor = os.getppid()
    while not task.done():
        await asyncio.wait([task], timeout=1)
        if os.getppid() != conductor:
            task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the conductor decides when to stop, and sends SIGTERM
    _run(main)


def _raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
