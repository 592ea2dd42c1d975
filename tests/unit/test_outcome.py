from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from connector.outcome import (
    JITTER,
    LONGEST_LATER,
    MAX_REASON,
    SOONER_RETRIES,
    DeadLetter,
    Ignored,
    Later,
    Outcome,
    Postponed,
    Retry,
    RetryPolicy,
    decide,
    decisive,
    done,
)

POLICY = RetryPolicy(base=1.0, longest=600.0, max_attempts=5, max_age=100.0)


def outcome(
    fault: BaseException, *, attempt: int = 1, age: float = 0.0, chance: float = 0.5, hold: bool = False
) -> Outcome:
    return decide(fault, attempt=attempt, age=age, now=1000.0, chance=chance, ms=7, policy=POLICY, hold_dead=hold)


def test_what_a_handler_returns_is_a_note_only_where_it_is_a_text() -> None:
    assert done("written", 3) == Outcome("done", "written", ms=3)
    for nothing in (None, 7, b"bytes", {"a": 1}):
        assert done(nothing, 3) == Outcome("done", "", ms=3)


def test_ignored_and_dead_are_final_and_keep_their_reason() -> None:
    assert outcome(Ignored("not ours")) == Outcome("ignored", "not ours", ms=7)
    assert outcome(DeadLetter("never")) == Outcome("dead", "never", ms=7)
    assert outcome(Ignored()).reason
    assert outcome(DeadLetter()).reason
    assert all(outcome(fault).final for fault in (Ignored(), DeadLetter()))


def test_a_dead_head_holds_its_lane_where_that_is_asked_for() -> None:
    for held in (outcome(DeadLetter("never"), hold=True), outcome(ValueError(), attempt=5, hold=True)):
        assert held.state == "held"
        assert not held.final


def test_any_other_exception_means_try_again() -> None:
    for fault in (
        ValueError("bad"),
        TimeoutError("late"),
        Retry("busy"),
        KeyError("x"),
        ExceptionGroup("g", [OSError()]),
    ):
        found = outcome(fault)
        assert (found.state, found.due, found.final) == ("waiting", 1001.0, False)
    assert outcome(ValueError("bad")).reason == "ValueError: bad"
    assert outcome(ValueError()).reason == "ValueError"
    assert outcome(Retry("busy")).reason == "busy"


def test_attempts_run_out_whatever_the_handler_asks_for() -> None:
    for fault in (ValueError("bad"), Retry("busy", after=1)):
        assert outcome(fault, attempt=4).state == "waiting"
        assert outcome(fault, attempt=5).state == "dead"
    assert outcome(Retry("busy"), attempt=5).reason == "gave up after 5 attempts: busy"


def test_an_event_that_is_too_old_is_given_up() -> None:
    assert outcome(Retry("busy"), age=99.9).state == "waiting"
    assert outcome(Retry("busy"), age=100.0).state == "dead"


def test_a_handler_s_own_limit_of_attempts_counts() -> None:
    found = decide(Retry(), attempt=1, age=0, now=0, chance=0, ms=0, policy=POLICY, max_attempts=1)
    assert (found.state, found.reason.split(":")[0]) == ("dead", "gave up after 1 attempt")


@pytest.mark.parametrize(
    "fault", [Retry("x" * 9999), DeadLetter("x" * 9999), Ignored("x" * 9999), ValueError("x" * 9999)]
)
@pytest.mark.parametrize("attempt", [1, 5])
def test_no_reason_outgrows_its_place(fault: BaseException, attempt: int) -> None:
    assert len(outcome(fault, attempt=attempt).reason) == MAX_REASON


def test_an_exception_without_a_printable_text_is_an_outcome_too() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert outcome(Unprintable()).state == "waiting"


def test_waits_double_and_end_at_the_longest() -> None:
    waits = [POLICY.delay(attempt, 0.5) for attempt in range(1, 13)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]
    assert POLICY.delay(10**9, 1.0) == 600


def test_the_jitter_spreads_to_both_sides_and_never_over_the_longest() -> None:
    assert POLICY.delay(1, 0.0) == pytest.approx(1 - JITTER)
    assert POLICY.delay(1, 1.0) == pytest.approx(1 + JITTER)
    assert POLICY.delay(11, 1.0) == 600


@pytest.mark.parametrize(("asked", "wait"), [(0, 1), (0.5, 1), (1, 1), (30, 30), (1e9, 600), (float("inf"), 600)])
def test_a_wait_that_was_asked_for_is_kept_within_bounds(asked: float, wait: float) -> None:
    assert POLICY.delay(3, 0.0, asked) == wait
    assert outcome(Retry("busy", after=asked)).due == 1000.0 + wait


@pytest.mark.parametrize("asked", [timedelta(seconds=90), "90", " 90.0 ", Decimal(90), 90, 90.0])
def test_every_way_to_give_a_wait_is_taken(asked: Any) -> None:
    assert outcome(Retry("busy", after=asked)).due == 1090.0


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (-1, ValueError), (timedelta(seconds=-1), ValueError), ("-1", ValueError), (-(10**400), ValueError),
        (float("nan"), ValueError), ("soon", ValueError), (True, TypeError), ([], TypeError), (b"9", TypeError),
    ],
)  # fmt: skip
def test_a_wait_that_is_none_is_refused_by_name(asked: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Retry\(after=\)"):
        Retry("busy", after=asked)


def test_retries_sooner_than_the_backoff_have_a_budget() -> None:
    policy = RetryPolicy(base=1.0, longest=600.0)
    assert policy.delay(SOONER_RETRIES, 0.5, 1) == 1
    assert policy.delay(SOONER_RETRIES + 1, 0.5, 1) == 600


def test_external_system_never_gets_an_event_sooner_than_its_backoff() -> None:
    class Said(Retry):
        may_be_sooner = False

    assert outcome(Said("busy", after=0), attempt=4).due == 1008.0
    assert outcome(Said("busy", after=20), attempt=4).due == 1020.0


def test_attempts_last_as_long_as_the_largest_age_by_default() -> None:
    policy, attempt, age = RetryPolicy(), 0, 0.0
    while policy.gives_up(attempt := attempt + 1, age) is None:
        age += policy.delay(attempt, 0.0, 1)
    assert age >= 7 * 86400


def test_later_spends_no_attempt_and_is_not_bound_by_the_longest_wait() -> None:
    found = outcome(Later("tomorrow", hours=24), attempt=5, age=99)
    assert (found.state, found.reason, found.due) == ("waiting", "tomorrow", 1000.0 + 86400)
    assert Later(days=1, minutes=1, seconds="1").after == 86461


@pytest.mark.parametrize("parts", [{}, {"hours": -1}, {"days": 32}, {"seconds": 0.5}, {"hours": float("nan")}])
def test_later_without_a_time_that_can_be_meant_is_refused_by_name(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Later"):
        Later(**parts)
    assert RetryPolicy().max_age < LONGEST_LATER


def test_group_of_errors_of_one_kind_ends_as_one_of_them() -> None:
    for one in (DeadLetter("never"), Ignored("no"), Retry("busy"), Postponed("away"), ValueError("bad")):
        assert decisive(BaseExceptionGroup("g", [ExceptionGroup("h", [one])])) is one
    never = [DeadLetter("never"), DeadLetter("not ever")]
    assert outcome(ExceptionGroup("g", never)) == Outcome("dead", "never", ms=7)
    assert outcome(ExceptionGroup("g", [*never, ValueError("bad")])).state == "waiting"


def test_reason_of_an_error_ends_with_its_place_however_long_it_is() -> None:
    found = decide(
        ValueError("x" * 999), attempt=1, age=0, now=0, chance=0, ms=0, policy=POLICY, place="my_connector.py:14"
    )
    assert found.reason.endswith("xxx (my_connector.py:14)")
    assert len(found.reason) == MAX_REASON


@pytest.mark.parametrize("raised", [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_text_of_an_exception_that_raises_anything_is_an_outcome_too(raised: type[BaseException]) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise raised("no text")

    class UnprintableDead(DeadLetter):
        __str__ = Unprintable.__str__

    assert outcome(Unprintable()) == outcome(Unprintable())
    assert outcome(Unprintable()).reason == "Unprintable"
    assert outcome(UnprintableDead()).state == "dead"


def test_a_wait_too_large_for_a_float_is_an_outcome_too() -> None:
    assert outcome(Retry("busy", after=10**400)).due == 1600.0


def test_a_retry_of_the_author_s_own_that_leaves_its_wait_out_is_an_outcome_too() -> None:
    class Busy(Retry):
        def __init__(self, queue: str) -> None:
            self.queue = queue

    assert outcome(Busy("provisioning")).due == 1001.0


def test_an_exception_that_means_something_else_by_kind_is_an_ordinary_fault() -> None:
    class Odd(Exception):
        @property
        def kind(self) -> str:
            raise RuntimeError("not known yet")

    assert (outcome(Odd("bad")).state, outcome(Odd("bad")).kind) == ("waiting", "")
