"""The processes of a run: generators and the target, each with an event loop of its own."""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from connector.simulator.delivery import Sender
from connector.simulator.plan import shares
from connector.simulator.records import ATTEMPT, Writer
from connector.simulator.scenario import Scenario

if sys.platform == "win32":
    from asyncio import run as _run
else:
    from uvloop import run as _run


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the fastest loop there is; an interrupt ends it quietly."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the conductor decides when to stop, and sends SIGTERM
    _run(main)


def generator(scenario: Scenario, number: int, folder: Path, start: float) -> None:
    """Be one of the generators: send my share of the plan, note each attempt, and at the end my effort.

    folder: where `attempts-N` (records) and `effort-N` (JSON) go. start: time zero, on the monotonic clock.
    """
    _raise_file_limit(scenario.connections + 64)
    run_loop(_generate(scenario, number, folder, start))


async def _generate(scenario: Scenario, number: int, folder: Path, start: float) -> None:
    writer = Writer(folder / f"attempts-{number}", ATTEMPT)
    mine = shares(scenario.plan.events, scenario.processes)[number]
    sender = Sender(scenario, mine, writer, start)
    running = asyncio.ensure_future(sender.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        sender.effort.wall = sender.effort.wall or 1e-9
    finally:
        writer.close()
        (folder / f"effort-{number}").write_bytes(msgspec.json.encode(sender.effort))


def _raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
