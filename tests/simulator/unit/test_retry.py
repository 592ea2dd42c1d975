"""NSPS's retry schedule."""

from __future__ import annotations

from itertools import accumulate

import pytest

from nsps_simulator.wire.retry import DAY, GUIDE, HOUR, MINUTE, MONTH, Schedule, read_gaps


def test_the_first_day_has_about_a_hundred_attempts_as_the_guide_says() -> None:
    ends = list(accumulate(GUIDE))
    first_day = [gap for gap, end in zip(GUIDE, ends, strict=True) if end <= DAY]
    assert 95 <= 1 + len(first_day) <= 105
    assert (min(first_day), max(first_day[:100])) == (MINUTE, 10 * MINUTE)


def test_the_long_gaps_are_those_of_the_guide() -> None:
    later = GUIDE[100:]
    assert later[:6] == (HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR, DAY)
    assert set(later[6:]) == {DAY}


def test_nsps_gives_up_after_about_a_month() -> None:
    assert MONTH - 2 * DAY < sum(GUIDE) <= MONTH
    assert Schedule(1).gap(0, len(GUIDE) + 1) is None
    assert Schedule(1).gap(0, len(GUIDE)) is not None


@pytest.mark.parametrize(
    ("text", "gaps"),
    [("none", ()), ("30s", (30.0,)), ("1m,2.5m*2, 1h", (60.0, 150.0, 150.0, HOUR)), ("guide", GUIDE)],
)
def test_a_schedule_of_ones_own_is_read(text: str, gaps: tuple[float, ...]) -> None:
    assert read_gaps(text) == gaps


@pytest.mark.parametrize("text", ["", "soon", "5", "0s", "1m,,2m", "1m*5000", "-1m"])
def test_a_schedule_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="gap"):
        read_gaps(text)


def test_a_time_scale_shortens_every_gap_alike() -> None:
    plain, fast = Schedule(1), Schedule(1, 1440)
    for attempt in range(1, len(GUIDE) + 1):
        gap, short = plain.gap(5, attempt), fast.gap(5, attempt)
        assert gap is not None
        assert short == pytest.approx(gap / 1440)


def test_gaps_repeat_by_seed_and_differ_between_events() -> None:
    assert Schedule(1).gap(5, 1) == Schedule(1).gap(5, 1)
    assert len({Schedule(1).gap(index, 1) for index in range(100)}) == 100


@pytest.mark.parametrize("scale", [0, -1, float("nan")])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="time scale"):
        Schedule(1, scale)
