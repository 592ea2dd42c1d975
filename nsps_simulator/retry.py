"""When NSPS tries again: about 100 attempts in 24 hours, 1 to 10 minutes apart, then ever rarer for a month.

From NSPS's documents: after the first day the gaps are 1, 2, 4, 8, 16 and 24 hours, and then a day each;
after about a month the event waits for a person. `scale` makes this time pass faster: at 1440 a day takes
a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

from nsps_simulator.draw import chance

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR

DENSE = 100  # attempts of the first day
MONTH = 30 * DAY
JITTER = 0.1  # of each gap, to either side


def _gaps() -> tuple[float, ...]:
    """List the gaps before the 2nd, 3rd, ... attempt, in seconds."""
    # A day's 100 gaps within the 1 to 10 minutes that the documents give would end after some 16 hours at the
    # most, so the ten-minute gaps go on until the day is over.
    gaps = [min(10.0, 1 + attempt / 2) * MINUTE for attempt in range(DENSE)]
    while sum(gaps) < DAY:
        gaps.append(10 * MINUTE)
    gaps += [hours * HOUR for hours in (1, 2, 4, 8, 16)]
    while sum(gaps) + DAY <= MONTH:
        gaps.append(DAY)
    return tuple(gaps)


GAPS = _gaps()


@dataclass(frozen=True)
class Schedule:
    """The retry schedule, `scale` times faster than life.

    Raises ValueError when the scale is not above nought.
    """

    seed: int
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError("the time scale must be above 0")

    def gap(self, index: int, attempt: int) -> float | None:
        """Give the seconds from the end of `attempt` (1, 2, ...) to the next; None when NSPS gives up.

        The jitter of a tenth is drawn from the seed, so that a run repeats itself.
        """
        if attempt > len(GAPS):
            return None
        sway = 1 + JITTER * (2 * chance(self.seed + attempt, index) - 1)
        return GAPS[attempt - 1] * sway / self.scale
