"""Faults by schedule: `KIND[#REPLICA]@FROM[-TO][:VALUE]`, in seconds of the run.

kill@30            SIGKILL the connector, and start it again after a pause
term@30            SIGTERM it, wait until it has stopped, and start it again after a pause
stop@30-35         SIGSTOP it, and SIGCONT it after five seconds
target-down@30-40  nobody listens where the external system should
target-slow@30-40:2      it takes two seconds more
target-flaky@30-40:0.5   it refuses half of the calls with 503
target-wrong@30-40:0.1   it applies a tenth of the calls and answers what is no HTTP
cut-nsps@30-32     the network between NSPS and the connector is cut; also cut-target, cut-database
delay-nsps@30-40:0.05    it takes 50 ms longer, each way; also delay-target, delay-database
disk-full@30-35:/mnt/small   a small file system is filled, and emptied again
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nsps_simulator.judging.ledger import Disturbance
from nsps_simulator.running.child import Child
from nsps_simulator.target import DOWN, FLAKY, SLOW, WRONG, Trouble

KILL, TERM, STOP, DISK_FULL = "kill", "term", "stop", "disk-full"
CUT, DELAY = "cut", "delay"
PLACES = ("nsps", "target", "database")
OF_CONNECTOR = frozenset({KILL, TERM, STOP})
OF_TARGET = frozenset({DOWN, SLOW, FLAKY, WRONG})
OF_NETWORK = frozenset(f"{kind}-{place}" for kind in (CUT, DELAY) for place in PLACES)
MOMENTARY = frozenset({KILL, TERM})
DEFAULTS = {SLOW: 1.0, FLAKY: 0.5, WRONG: 0.5} | {f"{DELAY}-{place}": 0.05 for place in PLACES}
LARGEST_DISK = 1 << 30  # bytes; a larger file system is not filled
# An honest connector may repeat a delivery because of these: it cannot know what became of it.
_REPEATS = {KILL, STOP, DISK_FULL, "cut-target", "delay-target", "cut-database", "delay-database"}
# Calls of the connector can fail because of these, and the target sees nothing of it.
_HIDES = {DOWN, DISK_FULL, "cut-target", "delay-target", "cut-database", "delay-database"}

WORDS = {
    KILL: "connector killed",
    TERM: "connector stopped and started",
    STOP: "connector suspended",
    DOWN: "target down",
    SLOW: "target slow",
    FLAKY: "target flaky",
    WRONG: "target answers wrongly",
    DISK_FULL: "disk full",
} | {
    f"{kind}-{place}": f"{place} {words}" for kind, words in ((CUT, "cut off"), (DELAY, "delayed")) for place in PLACES
}

_FORM = re.compile(r"([a-z-]+)(?:#(\d+))?@(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?(?::(.+))?")


@dataclass(frozen=True)
class Fault:
    """One fault: begin and end in seconds of the run; value as the kind has it; replica from 0; folder of a disk."""

    kind: str
    begin: float
    end: float
    value: float = 0.0
    replica: int = 0
    folder: Path | None = None

    def disturbance(self, began: float, ended: float, ready: float | None = None) -> Disturbance:
        """Give what it means for the verdict; times on the run's clock."""
        return Disturbance(
            self.kind,
            began,
            ended,
            ready,
            repeats=self.kind in _REPEATS,
            hides=self.kind in _HIDES,
            replica=self.replica,
            words=WORDS[self.kind],
        )

    @property
    def place(self) -> str:
        """Between whom the network is disturbed."""
        return self.kind.partition("-")[2]


def read_fault(text: str) -> Fault:
    """Read one fault. Raises ValueError that says what is wrong."""
    match = _FORM.fullmatch(text.strip())
    if match is None or match[1] not in WORDS:
        raise ValueError(f"{text!r} is not a fault such as kill@30, stop@30-35 or target-slow@30-40:2")
    kind, begin = match[1], float(match[3])
    if (kind in MOMENTARY) == (match[4] is not None):
        raise ValueError(f"{text!r}: {kind} needs {'one moment' if kind in MOMENTARY else 'FROM-TO'}")
    end = begin if match[4] is None else float(match[4])
    if end < begin or (kind not in MOMENTARY and end == begin):
        raise ValueError(f"{text!r}: it ends before it begins")
    if match[2] is not None and (kind not in OF_CONNECTOR or match[2] == "0"):
        raise ValueError(f"{text!r}: #REPLICA counts from 1, and goes with kill, term and stop")
    replica = int(match[2] or 1) - 1
    if kind == DISK_FULL:
        if match[5] is None:
            raise ValueError(f"{text!r} needs a folder of the file system to fill: disk-full@30-35:/mnt/small")
        return Fault(kind, begin, end, folder=Path(match[5]))
    return Fault(kind, begin, end, _value(text, kind, match[5]), replica)


def _value(text: str, kind: str, written: str | None) -> float:
    if written is None:
        return DEFAULTS.get(kind, 0.0)
    try:
        value = float(written)
    except ValueError:
        value = -1.0
    if kind not in DEFAULTS or value < 0 or (kind in {FLAKY, WRONG} and value > 1):
        raise ValueError(f"{text!r}: {written} is no value for {kind}")
    return value


def target_troubles(faults: Iterable[Fault]) -> tuple[Trouble, ...]:
    """Give those that the target makes itself."""
    return tuple(Trouble(one.kind, one.begin, one.end, one.value) for one in faults if one.kind in OF_TARGET)


class Faults:
    """Carries out what concerns processes and disks, and knows what was done.

    now: the run's clock in seconds since its start. pause: seconds until a connector is started again.
    """

    def __init__(self, children: list[Child], now: Callable[[], float], pause: float) -> None:
        self._children = children
        self._now = now
        self._pause = pause
        self._ballast: set[Path] = set()
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)  # one fault of a connector at a time
        self.done: list[Disturbance] = []

    async def carry_out(self, fault: Fault) -> None:
        """Carry out one fault at its time, or when the fault before it is over.

        Raises ChildFailed when a connector does not come back.
        """
        await asyncio.sleep(max(0.0, fault.begin - self._now()))
        match fault.kind:
            case "kill" | "term" | "stop":
                async with self._turns[fault.replica]:
                    await (self._suspend(fault) if fault.kind == STOP else self._end_and_start(fault))
            case "disk-full":
                await self._fill(fault)
            case _:  # the target and the proxy keep to the schedule by themselves
                began = self._now()
                self.done.append(fault.disturbance(began, fault.end))
                await asyncio.sleep(max(0.0, fault.end - self._now()))

    async def _end_and_start(self, fault: Fault) -> None:
        child = self._children[fault.replica]
        began = self._now()
        place = len(self.done)
        self.done.append(fault.disturbance(began, began))
        await (child.kill() if fault.kind == KILL else child.terminate())
        ended = self._now()
        self.done[place] = fault.disturbance(began, ended)
        await asyncio.sleep(self._pause)
        await child.start()
        self.done[place] = fault.disturbance(began, ended, self._now())

    async def _suspend(self, fault: Fault) -> None:
        child = self._children[fault.replica]
        began = self._now()
        self.done.append(fault.disturbance(began, fault.end))
        place = len(self.done) - 1
        child.suspend()
        try:
            await asyncio.sleep(max(0.0, fault.end - self._now()))
        finally:
            child.resume()
        self.done[place] = fault.disturbance(began, self._now(), self._now())

    async def _fill(self, fault: Fault) -> None:
        """Fill a file system until it takes no more, and give the room back."""
        ballast = (fault.folder or Path()) / f".nsps-simulator-{os.getpid()}"
        began = self._now()
        self._ballast.add(ballast)
        self.done.append(fault.disturbance(began, fault.end))
        place = len(self.done) - 1
        try:
            while self._now() < fault.end:
                await asyncio.to_thread(_take_all_room, ballast)
                await asyncio.sleep(0.05)
        finally:
            self.clean_up()
        self.done[place] = fault.disturbance(began, self._now())

    def clean_up(self) -> None:
        """Give back the room on disks."""
        for ballast in self._ballast:
            with contextlib.suppress(OSError):
                ballast.unlink(missing_ok=True)
        self._ballast.clear()


def check_disk(folder: Path) -> None:
    """Raises ValueError when a folder is not on a small file system: a large one is never filled."""
    try:
        total = shutil.disk_usage(folder).total
    except OSError as error:
        raise ValueError(f"disk-full: {folder}: {error.strerror}") from error
    if total > LARGEST_DISK:
        raise ValueError(
            f"disk-full: the file system of {folder} has {total >> 20:,} MB; only one of {LARGEST_DISK >> 20:,} MB at "
            "the most is filled: mount a small one (mount -t tmpfs -o size=64m tmpfs FOLDER)"
        )


def _take_all_room(ballast: Path) -> None:
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1 << 6, 1):
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass
