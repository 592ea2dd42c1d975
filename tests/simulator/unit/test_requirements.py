"""Thresholds of a run."""

from __future__ import annotations

import math

import pytest

from nsps_simulator.judging.requirements import read
from nsps_simulator.reporting.report import FIGURES


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("p99<200ms", 0.199, True),
        ("p99<200ms", 0.2, False),
        ("p99.9 <= 2s", 2.0, True),
        ("max<1m", 59.0, True),
        ("rate>2000", 2000.0, False),
        ("rate >= 2000", 2000.0, True),
        ("accepted>=99.5%", 0.996, True),
        ("forwarding.p50<500us", 0.0004, True),
        ("undelivered<=0", 0.0, True),
        ("rate>2000", math.nan, False),
        ("p99<200ms", math.nan, False),
    ],
)
def test_a_threshold_is_met_or_missed_and_what_was_not_measured_is_missed(text: str, value: float, met: bool) -> None:
    requirement = read(text, FIGURES)
    assert requirement.met_by({requirement.figure: value}) == met


@pytest.mark.parametrize("text", ["", "p99", "p99<", "p99<fast", "<200ms", "p99=200ms", "p99<-1", "p98<1s", "Rate>1"])
def test_a_threshold_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a threshold|no figure"):
        read(text, FIGURES)
