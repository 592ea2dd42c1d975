"""Load profiles: when each event leaves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsps_simulator.sending.profile import Plan, Segment, bill_run, burst, ramp, read, shares, steady

RATES = st.floats(0, 500)
PROFILES = st.lists(st.builds(Segment, st.floats(0.01, 20), RATES, RATES), min_size=1, max_size=5)


def times(plan: Plan) -> list[float]:
    due = plan.due()
    return [due(index) for index in range(plan.events)]


@given(segments=PROFILES)
def test_events_never_leave_in_another_order_or_outside_the_profile(segments: list[Segment]) -> None:
    if sum(segment.events for segment in segments) < 1:
        return
    plan = Plan(tuple(segments))
    planned = times(plan)
    assert all(earlier <= later for earlier, later in pairwise(planned))
    assert planned[0] >= 0
    assert planned[-1] <= sum(segment.seconds for segment in segments) + 1e-6


def test_a_steady_profile_is_even() -> None:
    planned = times(Plan(steady(100, 2)))
    assert len(planned) == 200
    assert all(later - earlier == pytest.approx(0.01) for earlier, later in pairwise(planned))


def test_a_ramp_gets_denser() -> None:
    planned = times(Plan(ramp(200, 10)))
    assert sum(moment < 5 for moment in planned) < 0.4 * len(planned)


def test_a_burst_comes_at_its_rate_and_a_base_between() -> None:
    planned = times(Plan(burst(1000, 20)))
    per_second = [sum(second <= moment < second + 1 for moment in planned) for second in range(20)]
    assert per_second[8] == pytest.approx(1000, abs=2)
    assert per_second[3] == pytest.approx(100, abs=2)
    assert per_second[18] == per_second[8]


@pytest.mark.parametrize("events", [1, 10, 12_345, 1_000_000])
def test_a_bill_run_holds_all_its_events(events: int) -> None:
    plan = Plan(bill_run(2000, events))
    assert plan.events == events
    assert plan.peak == 2000


def test_a_limit_beyond_the_profile_goes_on_at_the_last_rate() -> None:
    planned = times(Plan(steady(10, 1), 30))
    assert planned[29] == pytest.approx(2.9)


def test_several_generators_send_each_event_once() -> None:
    assert sorted(index for part in shares(1000, 3) for index in part) == list(range(1000))


@pytest.mark.parametrize(
    ("segments", "limit"),
    [
        ((), None),
        (steady(0, 10), None),
        ((Segment(1, -5, 5),), None),
        ((Segment(float("inf"), 1, 1),), None),
        ((Segment(1, 10, 0),), 100),
    ],
)
def test_an_impossible_profile_is_refused(segments: tuple[Segment, ...], limit: int | None) -> None:
    with pytest.raises(ValueError, match=r"profile|finite"):
        Plan(segments, limit)


def test_bursts_without_a_pause_are_refused() -> None:
    with pytest.raises(ValueError, match="bursts"):
        burst(10, 10, every=2, lasts=2)


def test_a_profile_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text('[{"seconds": 2, "from": 0, "to": 100}, {"seconds": 1, "from": 100, "to": 100}]')
    assert read(path) == (Segment(2, 0, 100), Segment(1, 100, 100))


@pytest.mark.parametrize("text", ["", "{}", '[{"seconds": "x"}]', '[{"seconds": 1, "from": 1, "to": 1, "more": 1}]'])
def test_a_bad_file_is_named_in_the_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"profile\.json"):
        read(path)


def test_a_missing_file_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent"):
        read(tmp_path / "absent")
