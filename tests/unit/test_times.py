"""Times in every form in which senders write them; what is no time is None."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.events.body import ESPFEvent, EventBody
from connector.events.snapshot import AHEAD, decide_by, is_older, snapshot, unreadable_times
from connector.events.times import parse_time

TEN = datetime(2026, 1, 15, 10, 0, 5, tzinfo=UTC)
MIDNIGHT = datetime(2026, 1, 16, tzinfo=UTC)
DAY = datetime(2026, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2026-01-15T10:00:05Z", TEN),
        ("2026-01-15t10:00:05z", TEN),
        ("2026-01-15 10:00:05", TEN),
        ("2026-01-15  10:00:05 ", TEN),
        ("2026-01-15 10:00:05 UTC", TEN),
        ("2026-01-15 10:00:05 utc", TEN),
        ("2026-01-15T10:00:05 GMT", TEN),
        ("2026-01-15T10:00:05Z[UTC]", TEN),
        ("2026-01-15T10:00:05[UTC]", TEN),
        ("2026-01-15T11:00:05+01:00[Europe/Prague]", TEN),
        ("2026-01-15T11:00:05[Europe/Prague]", TEN),
        ("2026-01-15T12:00:05+02:00", TEN),
        ("2026-01-15T12:00:05+02", TEN),
        ("2026-01-15 12:00:05 +0200", TEN),
        ("2026-01-15T05:00:05-05:00", TEN),
        ("2026-01-15T05:00:05\u221205:00", TEN),
        ("2026-01-15T10:00:05.000000+00:00", TEN),
        ("2026-01-15T10:00:05,000Z", TEN),
        ("2026-01-15T10:00:05.000000000Z", TEN),
        ("20260115T100005Z", TEN),
        ("20260115T100005+0000", TEN),
        ("20260115100005", TEN),
        ("2026-W03-4T10:00:05Z", TEN),
        ("2026-w03-4t10:00:05z", TEN),
        ("2026W034T100005Z", TEN),
        ("2026-015T10:00:05Z", TEN),
        ("2026015T100005Z", TEN),
        ("+002026-01-15T10:00:05Z", TEN),
        ("2026-01-15T24:00:00Z", MIDNIGHT),
        ("2026-01-15T24:00Z", MIDNIGHT),
        ("2026-01-15T23:59:60Z", MIDNIGHT),
        ("2026-01-15t23:59:60z", MIDNIGHT),
        ("2026-01-15", DAY),
        ("20260115", DAY),
        ("2026-015", DAY),
        ("2026-W03-4", DAY),
        ("2026-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-W03", datetime(2026, 1, 12, tzinfo=UTC)),
        ("2026", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-15T10", datetime(2026, 1, 15, 10, tzinfo=UTC)),
        ("2026-01-15T10:30,5Z", datetime(2026, 1, 15, 10, 30, 30, tzinfo=UTC)),
        ("2026-01-15T10.5Z", datetime(2026, 1, 15, 10, 30, tzinfo=UTC)),
        ("Thu, 15 Jan 2026 10:00:05 +0000", TEN),
        ("Thu, 15 Jan 2026 10:00:05 GMT", TEN),
        ("15 Jan 2026 11:00:05 +0100", TEN),
        (1768471205, TEN),
        (1768471205.0, TEN),
        (1768471205000, TEN),
        (1768471205000000, TEN),
        ("1768471205", TEN),
        ("1768471205.0", TEN),
        ("1768471205000", TEN),
    ],
)
def test_a_time_is_read_in_whatever_form_it_is_written(written: Any, time: datetime) -> None:
    assert parse_time(written) == time


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "yesterday", "2026-13-01", "2026-02-30", "2026-366", "2026-000", "2026-W54-1", "2026-W03-8"),
        *("2026-01-15T25:00:00Z", "2026-01-15T24:00:01Z", "2026-01-15T10:60:00Z", "2026-01-15T10:00:61Z"),
        *("2026-01-15T10:00:05[Nowhere/Land]", "2026-01-15T10:00:05[../../etc/passwd]", "0000-01-01", "10:00:05"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T24:00:00Z", "7", "123456", "9" * 30, "x" * 10_000),
        *("2026-01-15T10:00:05 Martian", "Thu, 45 Jan 2026 10:00:05 +0000", None, True, [], {}, 7, 0, -5, 1e300),
        *(float("inf"), float("nan"), 10**400),
    ],
    ids=lambda each: str(each)[:40] if not isinstance(each, int) else hex(each)[:20],
)
def test_what_is_no_time_is_none_and_no_error(written: Any) -> None:
    assert parse_time(written) is None


@given(st.text() | st.integers() | st.floats() | st.datetimes().map(str) | st.from_regex(r"\d{4}-[\dW-]+T[\d:.,Zz+]+"))
def test_no_text_and_no_number_is_a_bug(written: Any) -> None:
    found = parse_time(written)
    assert found is None or found.tzinfo is UTC


@given(st.datetimes(timezones=st.just(UTC)))
def test_small_letters_change_no_time(time: datetime) -> None:
    assert parse_time(time.isoformat().lower()) == parse_time(time.isoformat()) == time


def body(updated: str | None = None, happened: Any = None) -> EventBody:
    return EventBody(ESPFEvent("SIM/Updated", {"event_time": happened}), updated_at=updated)


def test_a_time_that_stands_there_and_cannot_be_read_is_named() -> None:
    assert unreadable_times(body("2026-01-15T10:00:05Z", 1768471205)) == []
    assert unreadable_times(body("soon", "later")) == ["updated_at", "data.variables.event_time"]
    assert unreadable_times(body("", None)) == []


def test_one_clock_that_is_ahead_makes_no_later_snapshot_an_old_one() -> None:
    now = TEN.timestamp()
    assert snapshot(body("2026-01-15T10:59:00Z"), 1, "e", now).updated == now + 59 * 60 - 5
    assert snapshot(body("2099-01-01T00:00:00Z"), 1, "e", now).times == (None, None, None)
    assert snapshot(body("2026-01-15T10:00:05Z", "2099-01-01 00:00:00"), 1, "e", now).times == (None, None, None)
    assert snapshot(body("2099-01-01T00:00:00Z"), 1, "e").updated is not None
    assert AHEAD == 3600


@pytest.fixture
def by_event_time() -> Iterator[None]:
    decide_by("event_time")
    yield
    decide_by("updated_at")


@pytest.mark.usefixtures("by_event_time")
@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (("10:00:04Z", "10:00:01"), ("10:00:03Z", "10:00:02")),
        (("10:00:04Z", "09:00:00"), ("10:00:05Z", "08:00:00")),
        (("10:00:04Z", "10:00:03"), ("10:00:20Z", "10:00:01")),
        (("10:00:04Z", None), ("10:00:05Z", "10:00:05")),
    ],
    ids=["swapped by the cache", "both events are old", "further apart than the cache lasts", "no event time"],
)
def test_within_the_time_that_nsps_caches_a_setting_lets_the_event_time_decide(
    older: tuple[str, str | None], newer: tuple[str, str | None]
) -> None:
    first, second = (
        snapshot(body(f"2026-01-15T{updated}", happened and f"2026-01-15 {happened}"), 1, "e")
        for updated, happened in (older, newer)
    )
    assert is_older(first, second)
    assert not is_older(second, first)
