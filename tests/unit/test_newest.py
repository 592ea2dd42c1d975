"""Which of two snapshots is newer, for every mix of times."""

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.events.body import ESPFEvent, EventBody
from connector.events.snapshot import Snapshot, after, is_older, snapshot

A_TIME: Final = st.none() | st.integers(0, 3).map(float)
SNAPSHOTS = st.builds(Snapshot, A_TIME, A_TIME, A_TIME, st.integers(1, 50), st.just("id"))


def of(updated: float | None, created: float | None, happened: float | None, seq: int) -> Snapshot:
    return Snapshot(updated, created, happened, seq, f"{seq}")


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (of(1, 9, 9, 9), of(2, 1, 1, 1)),
        (of(1, 1, 9, 9), of(1, 2, 1, 1)),
        (of(1, 1, 1, 9), of(1, 1, 2, 1)),
        (of(1, 1, 1, 1), of(1, 1, 1, 2)),
        (of(None, 1, 1, 9), of(5, 2, 1, 1)),
        (of(None, None, None, 1), of(5, 5, 5, 2)),
        (of(5, 5, 5, 1), of(None, None, None, 2)),
    ],
)
def test_times_decide_in_their_order_and_a_tie_or_a_missing_one_goes_by_acceptance(
    older: Snapshot, newer: Snapshot
) -> None:
    assert is_older(older, newer)
    assert not is_older(newer, older)


@given(SNAPSHOTS, SNAPSHOTS)
def test_of_two_snapshots_exactly_one_is_older(one: Snapshot, other: Snapshot) -> None:
    if one.seq != other.seq:
        assert is_older(one, other) != is_older(other, one)


@given(st.lists(SNAPSHOTS, min_size=3, max_size=3, unique_by=lambda each: each.seq), st.tuples(*[st.booleans()] * 3))
def test_snapshots_that_have_the_same_times_are_in_one_order(found: list[Snapshot], there: Sequence[bool]) -> None:
    one, two, three = (
        Snapshot(
            (each.updated or 0.0) if there[0] else None,
            (each.created or 0.0) if there[1] else None,
            (each.happened or 0.0) if there[2] else None,
            each.seq,
            "id",
        )
        for each in found
    )
    assert not (is_older(one, two) and is_older(two, three) and is_older(three, one))


@given(st.lists(SNAPSHOTS, min_size=1, max_size=6))
def test_what_is_known_to_be_applied_never_goes_back_in_any_time(applied: list[Snapshot]) -> None:
    known: Snapshot | None = None
    for each in applied:
        before, known = known, after(each, known)
        for was, now in zip(before.times if before else (None,) * 3, known.times, strict=True):
            assert was is None or (now is not None and now >= was)
    assert known is not None
    assert known.seq == applied[-1].seq


def test_times_are_compared_as_moments_whatever_their_offset_and_form() -> None:
    def body(updated: str | None, happened: object = None) -> EventBody:
        return EventBody(data=ESPFEvent("SIM/Updated", {"event_time": happened}), updated_at=updated)

    early = snapshot(body("2026-01-01T12:00:00+02:00"), 1, "early")
    late = snapshot(body("2026-01-01T10:00:01Z"), 2, "late")
    assert is_older(early, late)
    assert snapshot(body(None, "2026-01-01 10:00:00"), 1, "x").happened == early.updated
    for no_time in ("yesterday", "", 7, None, ["2026-01-01"]):
        assert snapshot(body(None, no_time), 1, "x").times == (None, None, None)
