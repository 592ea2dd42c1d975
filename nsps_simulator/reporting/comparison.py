"""Two runs side by side. Pure.

What is noise is read off the runs themselves: each has many stretches of time, and each stretch a rate and
percentiles of its own. The noise of a figure is twice the standard error of the median over the stretches of both
runs, so that one difference in twenty is taken for real that is none. A figure without stretches (a count) has no
noise, and is shown without a judgement.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SURE = 2.0  # standard errors
SMALLEST = 0.03  # share below which no difference counts, however quiet the runs were
MEDIAN_ERROR = 1.2533  # of a median, beside the standard error of a mean


@dataclass(frozen=True)
class Difference:
    """One figure in two runs. noise: as a share of the first value; None when it cannot be told. more_is: whether
    a larger value is better (1), worse (-1) or neither (0).
    """

    name: str
    before: float
    after: float
    noise: float | None
    more_is: int
    seconds: bool

    @property
    def change(self) -> float:
        """The change as a share of the first value."""
        return (self.after - self.before) / self.before if self.before else math.copysign(math.inf, self.after)

    @property
    def counts(self) -> bool:
        """Whether it is more than noise."""
        return self.noise is not None and abs(self.change) > max(self.noise, SMALLEST)

    @property
    def worse(self) -> bool:
        """Whether the second run is worse, and it counts."""
        return self.counts and self.change * self.more_is < 0

    @property
    def better(self) -> bool:
        """Whether the second run is better, and it counts."""
        return self.counts and self.change * self.more_is > 0

    @property
    def word(self) -> str:
        """Say it in a word."""
        if self.noise is None:
            return ""
        return "worse" if self.worse else "better" if self.better else "noise"

    def shown(self, value: float) -> str:
        """Write a value for a person."""
        return f"{value * 1000:,.1f} ms" if self.seconds else f"{value:,.0f}"


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """Compare two reports (reporting.report.document)."""
    found = []
    for name, curve, more_is in (
        ("rate", ("accepted",), 1),
        ("p50", ("latency", "p50"), -1),
        ("p95", ("latency", "p95"), -1),
        ("p99", ("latency", "p99"), -1),
        ("forwarding.p50", None, -1),
        ("forwarding.p99", None, -1),
        ("retries", None, -1),
        ("undelivered", None, -1),
        ("connector.cores", None, -1),
        ("connector.memory", None, -1),
    ):
        one, other = (report["figures"].get(name) for report in (before, after))
        if one is None or other is None or not (one or other):
            continue
        noise = None if curve is None else _noise(_stretches(before, curve), _stretches(after, curve))
        found.append(Difference(name, one, other, noise, more_is, name.split(".")[-1].startswith("p")))
    return found


def _stretches(report: dict[str, Any], curve: Sequence[str]) -> list[float]:
    """Give the values of a curve while the load was at its height."""
    values: Any = report["series"]
    for name in curve:
        values = values[name]
    begin, end = report["rates"]["begin"], report["rates"]["end"]
    times = report["series"]["times"]
    return [value for time, value in zip(times, values, strict=True) if value is not None and begin <= time <= end]


def _noise(first: Sequence[float], second: Sequence[float]) -> float | None:
    if min(len(first), len(second)) < 5 or statistics.median(first) <= 0:
        return None
    errors = [statistics.stdev(values) / math.sqrt(len(values)) * MEDIAN_ERROR for values in (first, second)]
    return SURE * math.hypot(*errors) / statistics.median(first)
