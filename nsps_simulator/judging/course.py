"""The course of a run as curves and figures: what happened in each short stretch of time, and how long it took. Pure.

Latencies are kept in HdrHistograms, so a run of 50 million events needs no more memory for them than one of a
thousand; a value is right to a thousandth (in curves to a hundredth).
"""

from __future__ import annotations

import math
import statistics
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # the library has no types

from nsps_simulator.judging.ledger import Entry
from nsps_simulator.records import NO_EVENT, NOT_SENT, REFUSED, Attempt, Delivery
from nsps_simulator.wire.chaos import Trouble

BINS = 240  # stretches in a curve, at the most
WIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
LONG = 20.0  # seconds from which a run has stretches of a second at least, so that one late answer is no mountain
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
MICROSECOND = 1e6
LONGEST = 3 * 24 * 3600 * 10**6  # microseconds that a histogram can tell apart
PLATEAU = 0.9  # share of the peak from which the planned rate counts as its plateau


def quantile(ordered: Sequence[float], share: float) -> float:
    """Give the value that `share` of the values do not exceed (nearest rank); NaN when there are none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Histogram:
    """How long something took, in seconds. digits: of a value that are kept."""

    def __init__(self, digits: int = 3) -> None:
        self._digits = digits
        self._counts: HdrHistogram | None = None  # made when needed: most stretches of a quiet run hold nothing
        self.count = 0

    def add(self, seconds: float) -> None:
        """Add one value."""
        if self._counts is None:
            self._counts = HdrHistogram(1, LONGEST, self._digits)
        self._counts.record_value(min(LONGEST, max(1, round(seconds * MICROSECOND))))
        self.count += 1

    def quantile(self, share: float) -> float:
        """Give the value that `share` of the values do not exceed; NaN when there are none."""
        if self._counts is None:
            return math.nan
        if share >= 1:
            return float(self._counts.get_max_value()) / MICROSECOND
        return float(self._counts.get_value_at_percentile(share * 100)) / MICROSECOND

    def quantiles(self) -> dict[str, float]:
        """Give the usual percentiles."""
        return {name: self.quantile(share) for name, share in QUANTILES.items()}

    def steps(self) -> list[tuple[float, float]]:
        """Give the distribution as (seconds, share of the values that do not exceed them)."""
        shares = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1.0]
        return [] if self._counts is None else [(self.quantile(share), share) for share in shares]


class Spans:
    """How long things took.

    answer: from the planned time of an attempt to its end, whatever that was: a timeout counts with the time that
    NSPS waited. Of these: ok (2xx), refused (another answer), unanswered (a timeout or a connection that broke).
    Left out are connections that the simulator cut and uploads that it slowed down. acceptance: from the planned
    time of an event to its 2xx, retries included. forwarding: from the 2xx to the external system.
    """

    NAMES = ("answer", "ok", "refused", "unanswered", "acceptance", "forwarding")

    def __init__(self) -> None:
        self.of = {name: Histogram() for name in self.NAMES}


@dataclass
class Series:
    """Curves of one length; rates are per second, latencies in seconds, backlogs in events.

    width: seconds of a stretch. offered: events whose planned time came. accepted: events that got their
    2xx. delivered: events that the external system saw for the first time. refused: answers that were no
    2xx, or none at all. retries: attempts after the first. waiting_at_nsps: planned and not accepted.
    waiting_in_connector: accepted and not delivered.
    """

    width: float
    times: list[float]
    offered: list[float]
    accepted: list[float]
    delivered: list[float]
    refused: list[float]
    retries: list[float]
    target_refused: list[float]
    waiting_at_nsps: list[float]
    waiting_in_connector: list[float]
    latency: dict[str, list[float]]


@dataclass(frozen=True)
class Rates:
    """Events per second while the planned rate was at its height (in a closed loop: after a tenth of the run).

    begin, end: that stretch, in seconds of the run. offered: what was planned. accepted: what was accepted in it,
    as a mean; median, lowest and highest are of stretches of a second (of a fifth of the time in a short run),
    spread is their standard deviation.
    """

    begin: float
    end: float
    offered: float
    accepted: float
    median: float
    lowest: float
    highest: float
    spread: float


class Course:
    """Collects a run of `seconds` from its start (on the monotonic clock). plateau: from when to when, in seconds of
    the run, its planned rate was at its height.
    """

    def __init__(self, start: float, seconds: float, plateau: tuple[float, float]) -> None:
        self._start = start
        shortest = 1.0 if seconds >= LONG else WIDTHS[0]
        fitting = (width for width in WIDTHS if width >= shortest and seconds / width <= BINS)
        self._width = next(fitting, WIDTHS[-1])
        self._bins = max(1, min(4 * BINS, math.ceil(seconds / self._width - 1e-9)))
        self.spans = Spans()
        names = ("offered", "accepted", "delivered", "refused", "retries", "target_refused")
        self._counts = {name: [0] * self._bins for name in names}
        self._latency = [Histogram(2) for _ in range(self._bins)]
        self._plateau = (plateau[0], max(plateau[0], min(plateau[1], seconds)))
        self._on_plateau = {"offered": array("L", [0]) * self._steps, "accepted": array("L", [0]) * self._steps}

    @property
    def _steps(self) -> int:
        return max(5, math.floor(self._plateau[1] - self._plateau[0]))

    def _bin(self, moment: float) -> int:
        return min(max(int((moment - self._start) / self._width), 0), self._bins - 1)

    def _count(self, name: str, moment: float) -> None:
        self._counts[name][self._bin(moment)] += 1
        if name in self._on_plateau:
            begin, end = self._plateau
            second = moment - self._start
            if begin <= second < end:
                steps = self._on_plateau[name]
                steps[min(len(steps) - 1, int((second - begin) / (end - begin) * len(steps)))] += 1

    def add_attempt(self, attempt: Attempt) -> None:
        """Add a request and its end, unless it was garbage."""
        if attempt.event == NO_EVENT:
            return
        of = self.spans.of
        ok = 200 <= attempt.status < 300
        if attempt.trouble not in {Trouble.SLOW, Trouble.CUT}:
            latency = attempt.ended - attempt.due
            of["answer"].add(latency)
            of["ok" if ok else "refused" if attempt.status >= 100 else "unanswered"].add(latency)
            self._latency[self._bin(attempt.ended)].add(latency)
        if not ok:
            self._count("refused", attempt.ended)
        if attempt.attempt > 1 and attempt.status != NOT_SENT:
            self._count("retries", attempt.sent)

    def add_delivery(self, delivery: Delivery) -> None:
        """Add a call that the external system refused."""
        if delivery.outcome == REFUSED:
            self._count("target_refused", delivery.arrived)

    def add_entries(self, entries: Iterable[Entry], due: Callable[[int], float] | None) -> None:
        """Add the events; `due` gives the planned time from the start, None (a closed loop) means when it
        was sent.
        """
        of = self.spans.of
        for entry in entries:
            if not entry.attempts:
                continue
            planned = entry.sent if due is None else self._start + due(entry.event)
            if not math.isnan(planned):
                self._count("offered", planned)
            if not math.isnan(entry.accepted):
                self._count("accepted", entry.accepted)
                if not math.isnan(planned):
                    of["acceptance"].add(entry.accepted - planned)
            if entry.times:
                self._count("delivered", entry.seen)
                if not math.isnan(entry.accepted):
                    of["forwarding"].add(entry.seen - entry.accepted)

    def rates(self) -> Rates:
        """Give the rates over the plateau."""
        begin, end = self._plateau
        if end <= begin:
            return Rates(begin, end, *(0.0,) * 6)
        per_step = self._steps / (end - begin)
        steps = [count * per_step for count in self._on_plateau["accepted"]]
        return Rates(
            begin=begin,
            end=end,
            offered=sum(self._on_plateau["offered"]) / (end - begin),
            accepted=statistics.fmean(steps),
            median=statistics.median(steps),
            lowest=min(steps),
            highest=max(steps),
            spread=statistics.stdev(steps),
        )

    def series(self) -> Series:
        """Give the curves."""
        rates = {name: [count / self._width for count in counts] for name, counts in self._counts.items()}
        return Series(
            width=self._width,
            times=[round((number + 0.5) * self._width, 3) for number in range(self._bins)],
            **rates,
            waiting_at_nsps=self._waiting("offered", "accepted"),
            waiting_in_connector=self._waiting("accepted", "delivered"),
            latency={
                name: [values.quantile(QUANTILES[name]) for values in self._latency]
                for name in ("p50", "p95", "p99", "max")
            },
        )

    def _waiting(self, came: str, went: str) -> list[float]:
        """Give how many had come and not gone at the end of each stretch."""
        waiting, curve = 0, []
        for arrived, left in zip(self._counts[came], self._counts[went], strict=True):
            waiting += arrived - left
            curve.append(float(max(0, waiting)))
        return curve
