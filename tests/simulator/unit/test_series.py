"""Curves and percentiles."""

from __future__ import annotations

import math
from array import array

import pytest

from nsps_simulator.judging.course import BINS, Course, quantile, quantiles
from nsps_simulator.judging.ledger import Ledger
from nsps_simulator.records import APPLIED, NO_EVENT, REFUSED, Attempt, Delivery
from nsps_simulator.wire.chaos import Trouble


def test_percentiles_are_values_that_occurred() -> None:
    values = quantiles(array("f", [float(value) for value in range(1, 101)]))
    assert values == {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99.9": 100, "max": 100}
    assert quantile([3.0], 0.01) == 3.0
    assert math.isnan(quantile([], 0.5))


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0, 24.0, 25.0, 3600.0, 90_000.0, 1e7])
def test_a_run_of_any_length_makes_curves_of_modest_length(seconds: float) -> None:
    series = Course(100.0, seconds).series()
    assert 1 <= len(series.times) <= 4 * BINS
    assert {len(series.offered), len(series.accepted), len(series.latency["p99"])} == {len(series.times)}


def test_each_count_lands_in_its_stretch_of_time() -> None:
    course, ledger = Course(100.0, 1.0), Ledger(2)
    records = [
        Attempt(100.0, 100.05, 100.15, 0, 503, 1, 0),
        Attempt(100.5, 100.5, 100.55, 0, 202, 2, 0),
        Attempt(100.2, 100.2, 100.25, 1, 202, 1, 0),
    ]
    calls = [Delivery(100.65, 100.7, 0, APPLIED, 0), Delivery(100.85, 100.9, 1, REFUSED, 0)]
    for attempt in records:
        ledger.attempt(attempt)
    for call in calls:
        ledger.delivery(call)
    course.add_attempts(records)
    course.add_deliveries(calls)
    course.add_entries(ledger.entries(), lambda index: 0.2 * index)
    series = course.series()
    assert series.width == 0.1
    assert [round(value) for value in series.offered] == [10, 0, 10, 0, 0, 0, 0, 0, 0, 0]
    assert [round(value) for value in series.accepted] == [0, 0, 10, 0, 0, 10, 0, 0, 0, 0]
    assert [round(value) for value in series.refused] == [0, 10, 0, 0, 0, 0, 0, 0, 0, 0]
    assert [round(value) for value in series.retries] == [0, 0, 0, 0, 0, 10, 0, 0, 0, 0]
    assert [round(value) for value in series.delivered] == [0, 0, 0, 0, 0, 0, 10, 0, 0, 0]
    assert [round(value) for value in series.target_refused] == [0, 0, 0, 0, 0, 0, 0, 0, 10, 0]
    assert series.waiting_at_nsps == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert series.waiting_in_connector == [0, 0, 1, 1, 1, 2, 1, 1, 1, 1]
    assert series.latency["p50"][1] == pytest.approx(0.15)


def test_latency_counts_from_the_planned_time_not_from_the_sending() -> None:
    course = Course(0.0, 10.0)
    course.add_attempts([Attempt(1.0, 5.0, 6.0, 0, 202, 1, 0)])
    assert quantiles(course.spans.answer)["p50"] == pytest.approx(5.0)


def test_the_pauses_of_a_slow_upload_and_garbage_are_no_latency_of_the_connector() -> None:
    course = Course(0.0, 10.0)
    course.add_attempts(
        [
            Attempt(1.0, 1.0, 1.1, 0, 202, 1, Trouble.NONE),
            Attempt(1.0, 1.0, 6.0, 1, 202, 1, Trouble.SLOW),
            Attempt(1.0, 1.0, 7.0, NO_EVENT, 400, 1, Trouble.GARBAGE),
        ]
    )
    assert quantiles(course.spans.answer)["max"] == pytest.approx(0.1)
    assert sum(course.series().refused) == 0


def test_in_a_closed_loop_events_that_never_left_are_left_out() -> None:
    course, ledger = Course(0.0, 1.0), Ledger(1000)
    ledger.attempt(Attempt(0.0, 0.5, 0.6, 0, 202, 1, 0))
    course.add_entries(ledger.entries(), None)
    assert sum(course.series().offered) == pytest.approx(10)
