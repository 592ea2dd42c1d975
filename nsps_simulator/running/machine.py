"""What the machine was doing meanwhile: the connectors' use of it, and how much others had to wait for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from nsps_simulator.running.child import Child

PRESSURE = Path("/proc/pressure")  # pressure stall information, of Linux


class Sample(NamedTuple):
    """The connectors at one moment: seconds of the run, seconds of processor time so far, bytes of memory."""

    at: float
    cpu: float
    memory: int

    @classmethod
    def of(cls, at: float, children: Sequence[Child]) -> Self:
        """Look at all connectors that the run started."""
        used = [child.usage() for child in children]
        return cls(at, sum(cpu for cpu, _ in used), sum(memory for _, memory in used))


@dataclass(frozen=True)
class Pressure:
    """For how many of `seconds` some process had to wait for a processor, a disk, or memory; None: not known."""

    seconds: float
    cpu: float | None = None
    io: float | None = None
    memory: float | None = None

    def since(self, earlier: Pressure) -> Pressure:
        """Give what came in between."""
        return Pressure(
            self.seconds - earlier.seconds,
            *(
                None if now is None or then is None else now - then
                for now, then in (
                    (self.cpu, earlier.cpu),
                    (self.io, earlier.io),
                    (self.memory, earlier.memory),
                )
            ),
        )

    def share(self, kind: str) -> float | None:
        """Give the share of the time, 0 to 1."""
        found = getattr(self, kind)
        return None if found is None or self.seconds <= 0 else min(1.0, found / self.seconds)


def read_pressure() -> Pressure:
    """Read the counters of the kernel."""
    return Pressure(time.monotonic(), _waited("cpu"), _waited("io"), _waited("memory"))


def _waited(kind: str) -> float | None:
    try:
        some = (PRESSURE / kind).read_text().splitlines()[0]
        return int(some.rpartition("total=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return None
