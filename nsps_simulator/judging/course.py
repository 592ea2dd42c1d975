"""The course of a run as curves: what happened in each short stretch of time. Pure."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from nsps_simulator.judging.ledger import Entry
from nsps_simulator.records import NO_EVENT, REFUSED, Attempt, Delivery
from nsps_simulator.wire.chaos import Trouble

BINS = 240  # stretches in a curve, at the most
WIDTHS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def quantile(ordered: Sequence[float], share: float) -> float:
    """Give the value that `share` of the values do not exceed (nearest rank); NaN when there are none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def quantiles(values: array[float]) -> dict[str, float]:
    """Give the usual percentiles of some seconds."""
    ordered = sorted(values)
    return {name: quantile(ordered, share) for name, share in QUANTILES.items()}


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


@dataclass
class Spans:
    """How long things took, in seconds.

    answer: from the planned time of an attempt to its answer. acceptance: from the planned time of an
    event to its 2xx, retries included. forwarding: from the 2xx to the external system.
    """

    answer: array[float] = field(default_factory=lambda: array("f"))
    acceptance: array[float] = field(default_factory=lambda: array("f"))
    forwarding: array[float] = field(default_factory=lambda: array("f"))


class Course:
    """Collects a run of `seconds` from its start (on the monotonic clock)."""

    def __init__(self, start: float, seconds: float) -> None:
        self._start = start
        self._width = next((width for width in WIDTHS if seconds / width <= BINS), WIDTHS[-1])
        self._bins = max(1, min(4 * BINS, math.ceil(seconds / self._width - 1e-9)))
        self.spans = Spans()
        names = ("offered", "accepted", "delivered", "refused", "retries", "target_refused")
        self._counts = {name: [0] * self._bins for name in names}
        self._latency = [array("f") for _ in range(self._bins)]

    def _count(self, name: str, moment: float) -> None:
        at = int((moment - self._start) / self._width)
        self._counts[name][min(max(at, 0), self._bins - 1)] += 1

    def add_attempts(self, attempts: Iterable[Attempt]) -> None:
        """Add requests and answers, but for garbage; a slow upload has no latency, since the pauses are its own."""
        for attempt in attempts:
            if attempt.event == NO_EVENT:
                continue
            if attempt.status >= 100 and attempt.trouble != Trouble.SLOW:
                latency = attempt.ended - attempt.due
                self.spans.answer.append(latency)
                at = int((attempt.ended - self._start) / self._width)
                self._latency[min(max(at, 0), self._bins - 1)].append(latency)
            if not 200 <= attempt.status < 300:
                self._count("refused", attempt.ended)
            if attempt.attempt > 1:
                self._count("retries", attempt.sent)

    def add_deliveries(self, deliveries: Iterable[Delivery]) -> None:
        """Add what the external system refused."""
        for delivery in deliveries:
            if delivery.outcome == REFUSED:
                self._count("target_refused", delivery.arrived)

    def add_entries(self, entries: Iterable[Entry], due: Callable[[int], float] | None) -> None:
        """Add the events; `due` gives the planned time from the start, None (a closed loop) means when it
        was sent.
        """
        for entry in entries:
            planned = entry.sent if due is None else self._start + due(entry.event)
            if due is None and not entry.attempts:
                continue
            if not math.isnan(planned):
                self._count("offered", planned)
            if not math.isnan(entry.accepted):
                self._count("accepted", entry.accepted)
                if not math.isnan(planned):
                    self.spans.acceptance.append(entry.accepted - planned)
            if entry.times:
                self._count("delivered", entry.seen)
                if not math.isnan(entry.accepted):
                    self.spans.forwarding.append(max(0.0, entry.seen - entry.accepted))

    def series(self) -> Series:
        """Give the curves."""
        rates = {name: [count / self._width for count in counts] for name, counts in self._counts.items()}
        ordered = [sorted(values) for values in self._latency]
        return Series(
            width=self._width,
            times=[round((number + 0.5) * self._width, 3) for number in range(self._bins)],
            **rates,
            waiting_at_nsps=self._waiting("offered", "accepted"),
            waiting_in_connector=self._waiting("accepted", "delivered"),
            latency={
                name: [quantile(values, QUANTILES[name]) for values in ordered] for name in ("p50", "p95", "p99", "max")
            },
        )

    def _waiting(self, came: str, went: str) -> list[float]:
        """Give how many had come and not gone at the end of each stretch."""
        waiting, curve = 0, []
        for arrived, left in zip(self._counts[came], self._counts[went], strict=True):
            waiting += arrived - left
            curve.append(float(max(0, waiting)))
        return curve
