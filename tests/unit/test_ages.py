"""How old what is kept is, where the clock has jumped between two runs."""

from hypothesis import given
from hypothesis import strategies as st

from connector.journal.sqlite.ages import Ages, Jump

DAY = 86400.0
AHEAD = Ages([Jump(10 * DAY, 50 * DAY)])
SECONDS = st.integers(0, 1000)


def test_time_that_was_not_seen_makes_nothing_older() -> None:
    assert AHEAD.age(9 * DAY, now=50 * DAY + 60) == DAY + 60
    assert AHEAD.age(50 * DAY + 10, now=50 * DAY + 60) == 50
    assert AHEAD.age(9 * DAY, now=10 * DAY) == DAY  # before that jump, by a clock that was set right again


def test_what_is_older_is_found_by_seen_time_across_a_jump() -> None:
    assert AHEAD.cutoff(35 * DAY, now=50 * DAY + 60) == 10 * DAY - (35 * DAY - 60)
    assert AHEAD.cutoff(30.0, now=50 * DAY + 60) == 50 * DAY + 30


def test_times_from_the_future_count_as_the_start_at_which_the_clock_was_found_set_back() -> None:
    back = Ages([Jump(50 * DAY, 10 * DAY)])
    assert back.of(49 * DAY, now=11 * DAY) == 10 * DAY
    assert back.age(49 * DAY, now=11 * DAY) == DAY
    assert Ages().of(49 * DAY, now=11 * DAY) == 11 * DAY


@given(st.lists(st.tuples(SECONDS, SECONDS), max_size=3), SECONDS, SECONDS, SECONDS)
def test_what_is_before_the_cutoff_is_older_than_what_is_kept(
    runs: list[tuple[int, int]], moment: int, keep: int, ran: int
) -> None:
    now, jumps = 0, []
    for seen, jump in runs:
        jumps.append(Jump(now + seen, now + seen + jump + 1))
        now += seen + jump + 1
    now += ran
    ages = Ages(jumps)
    if not any(last < moment < first for last, first in jumps):  # the clock has never shown that
        assert (ages.of(moment, now) < ages.cutoff(keep, now)) == (ages.age(moment, now) > keep)
