"""NSPS's retry schedule."""

from __future__ import annotations

from itertools import accumulate

import pytest

from nsps_simulator.retry import DAY, GAPS, HOUR, MINUTE, MONTH, Schedule


def test_the_first_day_has_many_attempts_one_to_ten_minutes_apart() -> None:
    first_day = [gap for gap, end in zip(GAPS, accumulate(GAPS), strict=True) if end <= DAY]
    assert 100 <= len(first_day) <= 160
    assert min(first_day) == MINUTE
    assert max(first_day) == 10 * MINUTE


def test_after_the_first_day_the_gaps_double_to_a_day() -> None:
    later = GAPS[next(n for n, end in enumerate(accumulate(GAPS)) if end >= DAY) + 1 :]
    assert later[:6] == (HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR, DAY)
    assert set(later[6:]) == {DAY}


def test_nsps_gives_up_after_about_a_month() -> None:
    assert MONTH - 2 * DAY < sum(GAPS) <= MONTH
    assert Schedule(1).gap(0, len(GAPS) + 1) is None
    assert Schedule(1).gap(0, len(GAPS)) is not None


def test_a_time_scale_shortens_every_gap_alike() -> None:
    plain, fast = Schedule(1), Schedule(1, 1440)
    for attempt in range(1, len(GAPS) + 1):
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
