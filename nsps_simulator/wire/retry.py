"""When NSPS tries again.

The guide says: about 100 attempts within 24 hours, 1 to 10 minutes apart; then gaps of 1, 2, 4, 8, 16 and 24
hours, and a day each until a month is over; then the event waits for a person. 100 gaps of at most 10 minutes
end after 16 hours at the latest, so the sentence can be read in two ways: go on every 10 minutes until the day is
over (some 150 attempts), or keep to 100 attempts and let the long gaps begin earlier. GUIDE takes the second: 101
attempts 1 to 10 minutes apart within 15.2 hours, three more (1, 2 and 4 hours later) within the day. So the number
of attempts, the shortest and longest gap and the list of long gaps are all as the guide has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nsps_simulator.wire.draw import chance

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR

DENSE = 100  # gaps of 1 to 10 minutes
MONTH = 30 * DAY
JITTER = 0.1  # of each gap, to either side
MOST_GAPS = 4000  # an attempt's number has 12 bits in the sender

Gaps = tuple[float, ...]
"""Seconds before the 2nd, 3rd, ... attempt."""


def _guide() -> Gaps:
    gaps = [min(10.0, 1 + attempt / 2) * MINUTE for attempt in range(DENSE)]
    gaps += [hours * HOUR for hours in (1, 2, 4, 8, 16)]
    while sum(gaps) + DAY <= MONTH:
        gaps.append(DAY)
    return tuple(gaps)


GUIDE = _guide()

_UNITS = {"s": 1.0, "m": MINUTE, "h": HOUR, "d": DAY}
_ITEM = re.compile(r"(\d+(?:\.\d+)?)([smhd])(?:\*(\d+))?")


def read_gaps(text: str) -> Gaps:
    """Read a schedule: `guide`, `none`, or gaps such as `1m,2m,5m*10,1h*3` (five minutes ten times).

    Raises ValueError that names the part that is wrong.
    """
    if text == "guide":
        return GUIDE
    gaps: list[float] = []
    for part in [] if text == "none" else text.split(","):
        match = _ITEM.fullmatch(part.strip())
        if match is None or not float(match[1]) > 0:
            raise ValueError(f"{part!r} is no gap such as 30s, 1m or 10m*90 (units: s, m, h, d)")
        gaps += [float(match[1]) * _UNITS[match[2]]] * min(int(match[3] or 1), MOST_GAPS + 1)
        if len(gaps) > MOST_GAPS:
            raise ValueError(f"a schedule has {MOST_GAPS} gaps at the most")
    return tuple(gaps)


@dataclass(frozen=True)
class Schedule:
    """The retry schedule, `scale` times faster than life.

    Raises ValueError when the scale is not above 0.
    """

    seed: int
    scale: float = 1.0
    gaps: Gaps = GUIDE

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError("the time scale must be above 0")

    def gap(self, index: int, attempt: int) -> float | None:
        """Give the seconds from the end of `attempt` (1, 2, ...) to the next; None when NSPS gives up.

        The jitter of a tenth is drawn from the seed, so that a run repeats itself.
        """
        if attempt > len(self.gaps):
            return None
        sway = 1 + JITTER * (2 * chance(self.seed + attempt, index) - 1)
        return self.gaps[attempt - 1] * sway / self.scale
