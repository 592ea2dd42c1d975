"""When each event leaves: a load profile as a chain of slopes.

A profile is a list of segments; in a segment the rate goes in a straight line from one value to another.
Everything else (steady, ramp, burst, bill run, a file of one's own) is a way of writing such a list.
The time of an event is a pure function of the profile and the event's index, so a plan repeats itself.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

POISSON = "poisson"
EVEN = "even"
BLOCK = 1024  # events: see Plan.due


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from", "end": "to"}):
    """A stretch of time; `start` and `end` (in a file: "from" and "to") are events per second."""

    seconds: float
    start: float
    end: float

    @property
    def events(self) -> float:
        """How many events leave in it."""
        return self.seconds * (self.start + self.end) / 2


@dataclass(frozen=True)
class Plan:
    """The planned time of each event.

    segments: the profile, in order. limit: how many events leave in all; None for as many as the profile
    holds. When the profile holds fewer, its last segment's final rate goes on for the rest. arrivals: POISSON
    (events leave independently of each other, as those of many subscribers do) or EVEN (at equal distances).
    seed: of the Poisson arrivals.

    Raises ValueError for a profile that can never send what it should.
    """

    segments: tuple[Segment, ...]
    limit: int | None = None
    arrivals: str = EVEN
    seed: int = 0

    def __post_init__(self) -> None:
        for segment in self.segments:
            numbers = (segment.seconds, segment.start, segment.end)
            if not all(math.isfinite(number) and number >= 0 for number in numbers):
                raise ValueError(f"seconds and rates must be finite and not negative: {segment}")
        if not self.segments or self._held < 1:
            raise ValueError("the profile holds not a single event")
        if self.limit is not None and self.limit > self._held and self.segments[-1].end <= 0:
            raise ValueError(f"the profile ends at rate 0 after {self._held} events, before {self.limit} have left")

    @property
    def _held(self) -> int:
        return int(sum(segment.events for segment in self.segments) + 1e-6)

    @property
    def events(self) -> int:
        """How many events leave."""
        return self._held if self.limit is None else self.limit

    @property
    def seconds(self) -> float:
        """How long the plan runs, from the start to its last event."""
        return self._clock()(self.events)

    @property
    def peak(self) -> float:
        """The highest rate it reaches, in events per second."""
        return max(max(segment.start, segment.end) for segment in self.segments)

    def due(self) -> Callable[[int], float]:
        """Give the function from an event's index to its planned time, in seconds from the start.

        Poisson arrivals are made in blocks, so that the time of an event can be told without those before it:
        a Poisson process of which it is known that so many events fall into a stretch has them there at
        independent, uniform places. So the distances are exponential, and only the count of a whole block is
        not left to chance.
        """
        at = self._clock()
        if self.arrivals == EVEN:
            return at
        events, seed = self.events, self.seed
        current, places = -1, [0.0]

        def poisson(index: int) -> float:
            nonlocal current, places
            block, place = divmod(index, BLOCK)
            if block != current:
                size = min(BLOCK, events - block * BLOCK)
                chance = random.Random(seed * 1_000_003 + block)  # noqa: S311  # a repeatable load, no secret
                current, places = block, sorted(chance.random() * size for _ in range(size))
            return at(block * BLOCK + places[place])

        return poisson

    def busy_from(self, share: float) -> tuple[float, float]:
        """Give the longest stretch (from, to; in seconds) in which the rate is at least `share` of the peak."""
        least, best, begin, now = share * self.peak, (0.0, 0.0), None, 0.0
        for segment in self.segments:
            inside = _stretch(segment, least)
            if inside is None:
                begin = None
            else:
                begin = now + inside[0] if begin is None or inside[0] > 0 else begin
                if now + inside[1] - begin > best[1] - best[0]:
                    best = (begin, now + inside[1])
                begin = begin if inside[1] == segment.seconds else None
            now += segment.seconds
        return best

    def _clock(self) -> Callable[[float], float]:
        """Give the function from a number of events (also a broken one) to the time when so many have left."""
        starts, counts = [0.0], [0.0]
        for segment in self.segments:
            starts.append(starts[-1] + segment.seconds)
            counts.append(counts[-1] + segment.events)
        segments = self.segments

        def at(index: float) -> float:
            number = min(bisect_right(counts, index) - 1, len(segments))
            left = index - counts[number]
            if number == len(segments):
                return starts[number] + left / segments[-1].end
            segment = segments[number]
            slope = (segment.end - segment.start) / segment.seconds
            # left = start*t + slope*t²/2, solved for t in the form that is stable for a slope of 0.
            root = math.sqrt(max(0.0, segment.start**2 + 2 * slope * left))
            return starts[number] + (2 * left / (segment.start + root) if left else 0.0)

        return at


def _stretch(segment: Segment, least: float) -> tuple[float, float] | None:
    """Give the part of a segment (in seconds from its start) in which the rate is at least `least`."""
    if segment.start >= least and segment.end >= least:
        return 0.0, segment.seconds
    if segment.start < least and segment.end < least:
        return None
    crossing = segment.seconds * (least - segment.start) / (segment.end - segment.start)
    return (crossing, segment.seconds) if segment.end > segment.start else (0.0, crossing)


def steady(rate: float, seconds: float) -> tuple[Segment, ...]:
    """The same rate all the time."""
    return (Segment(seconds, rate, rate),)


def ramp(rate: float, seconds: float) -> tuple[Segment, ...]:
    """From a twentieth of the rate up to it, to see where latency bends."""
    return (Segment(seconds, rate / 20, rate),)


def burst(
    rate: float, seconds: float, *, base: float | None = None, every: float = 10, lasts: float = 2
) -> tuple[Segment, ...]:
    """A quiet base (a tenth, unless given) with a burst at the full rate every so many seconds."""
    quiet = rate / 10 if base is None else base
    cycle = (Segment(every - lasts, quiet, quiet), Segment(lasts, rate, rate))
    if every <= lasts:
        raise ValueError("bursts must last less than the time between them")
    return cycle * max(1, round(seconds / every))


def bill_run(rate: float, events: int) -> tuple[Segment, ...]:
    """A bill run: up within a twentieth of the events, most of it at the full rate, and a long thin tail
    for the last twentieth.
    """
    part = events / 20
    return (
        Segment(2 * part / rate, 0, rate),
        Segment(18 * part / rate, rate, rate),
        Segment(2 * part / (1.1 * rate), rate, rate / 10),
    )


def read(path: Path) -> tuple[Segment, ...]:
    """Read a profile from a JSON file: [{"seconds": 10, "from": 0, "to": 500}, ...].

    Raises ValueError that names the file and what is wrong.
    """
    try:
        return tuple(msgspec.json.decode(path.read_bytes(), type=list[Segment]))
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path} is not a profile: {error}") from error


def shares(total: int, processes: int) -> Sequence[range]:
    """Deal the indices out to several generators, like cards, so that each has the same profile."""
    return [range(first, total, processes) for first in range(processes)]
