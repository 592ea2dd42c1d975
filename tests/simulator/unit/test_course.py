"""Curves and percentiles."""

from __future__ import annotations

import math
import tracemalloc

import pytest

from nsps_simulator.judging.course import BINS, Course, Histogram, quantile
from nsps_simulator.judging.ledger import Ledger
from nsps_simulator.records import APPLIED, NO_ANSWER, NO_EVENT, REFUSED, Attempt, Delivery
from nsps_simulator.wire.chaos import Trouble


def of(*values: float) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def test_percentiles_are_right_to_a_thousandth() -> None:
    values = of(*(number / 100 for number in range(1, 10_001))).quantiles()
    assert values == pytest.approx({"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99.9": 99.9, "max": 100}, rel=2e-3)
    assert quantile([3.0], 0.01) == 3.0
    assert math.isnan(quantile([], 0.5))
    assert math.isnan(Histogram().quantiles()["p50"])


def test_a_histogram_takes_no_more_memory_for_more_values() -> None:
    histogram = of(0.001)
    tracemalloc.start()
    for number in range(20_000):
        histogram.add(number / 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0, 24.0, 25.0, 3600.0, 90_000.0, 1e7])
def test_a_run_of_any_length_makes_curves_of_modest_length(seconds: float) -> None:
    series = Course(100.0, seconds, (0.0, seconds)).series()
    assert 1 <= len(series.times) <= 4 * BINS
    assert {len(series.offered), len(series.accepted), len(series.latency["p99"])} == {len(series.times)}


def test_each_count_lands_in_its_stretch_of_time() -> None:
    course, ledger = Course(100.0, 1.0, (0.0, 1.0)), Ledger(2)
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
    for attempt in records:
        course.add_attempt(attempt)
    for call in calls:
        course.add_delivery(call)
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
    assert series.latency["p50"][1] == pytest.approx(0.15, rel=0.02)


def test_latency_counts_from_the_planned_time_not_from_the_sending() -> None:
    course = Course(0.0, 10.0, (0.0, 10.0))
    course.add_attempt(Attempt(1.0, 5.0, 6.0, 0, 202, 1, 0))
    assert course.spans.of["answer"].quantiles()["p50"] == pytest.approx(5.0, rel=0.01)


def test_the_pauses_of_a_slow_upload_and_garbage_are_no_latency_of_the_connector() -> None:
    course = Course(0.0, 10.0, (0.0, 10.0))
    for attempt in (
        Attempt(1.0, 1.0, 1.1, 0, 202, 1, Trouble.NONE),
        Attempt(1.0, 1.0, 6.0, 1, 202, 1, Trouble.SLOW),
        Attempt(1.0, 1.0, 7.0, NO_EVENT, 400, 1, Trouble.GARBAGE),
    ):
        course.add_attempt(attempt)
    assert course.spans.of["answer"].quantiles()["max"] == pytest.approx(0.1, rel=0.01)
    assert sum(course.series().refused) == 0


def test_in_a_closed_loop_events_that_never_left_are_left_out() -> None:
    course, ledger = Course(0.0, 1.0, (0.0, 1.0)), Ledger(1000)
    ledger.attempt(Attempt(0.0, 0.5, 0.6, 0, 202, 1, 0))
    course.add_entries(ledger.entries(), None)
    assert sum(course.series().offered) == pytest.approx(10)


def test_timeouts_count_in_the_latency_of_answers_and_refusals_stand_beside_it() -> None:
    course = Course(0.0, 100.0, (0.0, 100.0))
    for status, took in ((202, 0.1), (503, 0.001), (NO_ANSWER, 30.0)):
        course.add_attempt(Attempt(1.0, 1.0, 1.0 + took, 0, status, 1, 0))
    of = course.spans.of
    assert of["answer"].quantiles()["max"] == pytest.approx(30.0, rel=0.01)
    assert [of[name].count for name in ("answer", "ok", "refused", "unanswered")] == [3, 1, 1, 1]
    assert of["ok"].quantiles()["p50"] == pytest.approx(0.1, rel=0.01)


def test_the_rate_is_a_mean_over_the_plateau_and_not_the_luckiest_stretch() -> None:
    course, ledger = Course(0.0, 20.0, (0.0, 10.0)), Ledger(1000)
    for index in range(1000):  # 100/s are due; half of them are only accepted in the last second, all at once
        due = index / 100
        accepted = due if index % 2 == 0 else 9.5
        ledger.attempt(Attempt(due, due, accepted, index, 202, 1, 0))
    course.add_entries(ledger.entries(), lambda index: index / 100)
    rates = course.rates()
    assert rates.offered == pytest.approx(100)
    assert rates.accepted == pytest.approx(100)
    assert rates.median == pytest.approx(50)
    assert rates.lowest == pytest.approx(50)
    assert rates.highest == pytest.approx(550)


def test_a_long_run_is_drawn_in_seconds_at_least() -> None:
    assert Course(0.0, 30.0, (0.0, 30.0)).series().width == 1.0
    assert Course(0.0, 5.0, (0.0, 5.0)).series().width == 0.1
