"""The verdict, on stories told record by record: times are plain seconds."""

from __future__ import annotations

import pytest

from nsps_simulator.judging.ledger import Kill, Ledger, Promises, Verdict
from nsps_simulator.records import (
    APPLIED,
    NO_ANSWER,
    NO_EVENT,
    NOT_SENT,
    REFUSED,
    UNANSWERED,
    Attempt,
    Delivery,
)
from nsps_simulator.wire.chaos import Trouble

EVENTS = 6


class Story:
    """A run of six events: 0 to 3 are one subscriber's, 4 and 5 another's."""

    def __init__(self) -> None:
        self.ledger = Ledger(EVENTS)

    def sent(self, event: int, at: float, status: int = 202, *, took: float = 0.1, trouble: int = 0) -> Story:
        self.ledger.attempt(Attempt(at, at, at + took, event, status, 1, trouble))
        return self

    def told(self, event: int, at: float, outcome: int = APPLIED, *, took: float = 0.1, mangled: int = 0) -> Story:
        self.ledger.delivery(Delivery(at, at + took, event, outcome, mangled))
        return self

    def verdict(self, *kills: Kill, **promises: bool) -> Verdict:
        return self.ledger.judge(lambda event: event // 4, kills, Promises(**promises))


def all_of(verdict: Verdict) -> dict[str, int]:
    return {kind: count for kind, count in verdict.found.items() if count}


def test_a_faultless_run_is_clean() -> None:
    story = Story()
    for event in range(EVENTS):
        story.sent(event, event).told(event, event + 0.5)
    verdict = story.verdict()
    assert verdict.broken == []
    assert all_of(verdict) == {}
    assert (verdict.planned, verdict.sent, verdict.accepted, verdict.delivered) == (6, 6, 6, 6)


def test_an_accepted_event_that_nobody_was_told_of_is_lost() -> None:
    verdict = Story().sent(0, 0).sent(1, 1).told(1, 2).verdict()
    assert verdict.broken == ["lost"]
    assert [finding.event for finding in verdict.examples["lost"]] == [0]


def test_an_event_that_was_only_refused_to_the_end_is_not_lost() -> None:
    verdict = Story().sent(0, 0, 503).sent(0, 60, 429).verdict()
    assert verdict.broken == []
    assert all_of(verdict) == {"never_accepted": 1}


def test_a_call_that_the_target_refused_tells_nothing() -> None:
    verdict = Story().sent(0, 0).told(0, 1, REFUSED).verdict()
    assert verdict.broken == ["lost"]
    assert verdict.deliveries_refused == 1


def test_an_event_refused_first_and_accepted_later_is_noted() -> None:
    verdict = Story().sent(0, 0, 503).sent(0, 60).told(0, 61).verdict()
    assert verdict.broken == []
    assert all_of(verdict) == {"refused_then_accepted": 1}


def test_without_a_target_nothing_is_called_lost() -> None:
    assert Story().sent(0, 0).verdict(forwards=False).broken == []


# -- order --


def test_two_events_swapped_are_out_of_order() -> None:
    verdict = Story().sent(0, 0).sent(1, 1).told(1, 2).told(0, 3).verdict()
    assert verdict.broken == ["out_of_order"]
    assert [finding.event for finding in verdict.examples["out_of_order"]] == [0]


def test_events_under_way_at_the_same_time_may_be_applied_in_either_order() -> None:
    verdict = Story().sent(0, 0, took=1.0).sent(1, 0.5).told(1, 2).told(0, 3).verdict()
    assert verdict.broken == []
    assert all_of(verdict) == {"stale_by_retry": 1}


def test_an_event_accepted_on_retry_comes_after_the_newer_one_that_was_accepted_before() -> None:
    verdict = Story().sent(0, 0, 503).sent(1, 1).told(1, 2).sent(0, 60).told(0, 61).verdict()
    assert verdict.broken == []
    assert all_of(verdict) == {"refused_then_accepted": 1, "stale_by_retry": 1}


def test_an_answer_that_was_lost_makes_the_acceptance_uncertain_until_the_next_answer() -> None:
    story = Story().sent(0, 0, NO_ANSWER).sent(1, 1).told(1, 2).told(0, 3).sent(0, 60)
    assert story.verdict().broken == []


def test_events_of_different_subscribers_have_no_order() -> None:
    assert Story().sent(0, 0).sent(4, 1).told(4, 2).told(0, 3).verdict().broken == []


def test_order_counts_over_events_in_between() -> None:
    story = Story().sent(0, 0).sent(1, 1).sent(2, 2).sent(3, 3)
    verdict = story.told(0, 4).told(2, 5).told(3, 6).told(1, 7).verdict()
    assert [finding.event for finding in verdict.examples["out_of_order"]] == [1]


def test_a_failed_connection_does_not_count_as_sent() -> None:
    verdict = Story().sent(1, 0, NOT_SENT).sent(0, 1).sent(1, 2).told(1, 3).told(0, 4).verdict()
    assert verdict.broken == ["out_of_order"]


def test_an_older_event_that_comes_again_after_a_newer_one_is_stale() -> None:
    story = Story().sent(0, 0).sent(1, 1).told(0, 2).told(1, 3).told(0, 4)
    assert set(story.verdict().broken) == {"repeated", "stale"}


def test_two_of_one_subscriber_at_once_are_found() -> None:
    verdict = Story().sent(0, 0).sent(1, 1).told(0, 2, took=2.0).told(1, 3).verdict()
    assert verdict.broken == ["overlapped"]


def test_two_of_one_subscriber_at_once_are_not_held_against_a_call_that_was_broken_off() -> None:
    assert Story().sent(0, 0).sent(1, 1).told(0, 2, UNANSWERED, took=2.0).told(1, 3).verdict().broken == []


# -- the newest state wins --


def test_a_stale_state_breaks_the_promise_that_the_newest_wins_even_in_the_order_of_acceptance() -> None:
    story = Story().sent(0, 0, 503).sent(1, 1).told(1, 2).sent(0, 60).told(0, 61)
    assert story.verdict(newest_wins=True).broken == ["stale"]


def test_a_superseded_event_is_not_lost_when_the_newest_wins() -> None:
    story = Story().sent(0, 0, 503).sent(1, 1).told(1, 2).sent(0, 60)
    verdict = story.verdict(newest_wins=True)
    assert verdict.broken == []
    assert all_of(verdict) == {"refused_then_accepted": 1, "superseded": 1}


def test_superseded_is_no_excuse_when_the_older_one_was_accepted_before() -> None:
    assert Story().sent(0, 0).sent(1, 1).told(1, 2).verdict(newest_wins=True).broken == ["lost"]


# -- repeats --


def test_a_repeat_without_a_cause_is_found() -> None:
    verdict = Story().sent(0, 0).told(0, 1).told(0, 2).told(0, 3).verdict()
    assert verdict.broken == ["repeated"]
    assert verdict.found["repeated"] == 2


def test_a_repeat_around_a_kill_is_noted_apart() -> None:
    verdict = Story().sent(0, 0).told(0, 1).told(0, 3).verdict(Kill(1.5, 1.6, 2.5))
    assert verdict.broken == []
    assert all_of(verdict) == {"repeated_around_kill": 1}


@pytest.mark.parametrize("kill", [Kill(4.0, 4.1, 5.0), Kill(0.2, 0.3, 0.9)])
def test_a_kill_at_another_time_excuses_no_repeat(kill: Kill) -> None:
    assert Story().sent(0, 0).told(0, 1).told(0, 3).verdict(kill).broken == ["repeated"]


def test_a_kill_long_after_the_delivery_excuses_no_repeat() -> None:
    assert Story().sent(0, 0).told(0, 1).told(0, 12).verdict(Kill(10.0, 10.1, 11.0)).broken == ["repeated"]


def test_a_repeat_after_a_lost_answer_of_the_target_is_noted_apart() -> None:
    verdict = Story().sent(0, 0).told(0, 1, UNANSWERED).told(0, 3).verdict()
    assert verdict.broken == []
    assert all_of(verdict) == {"repeated_unanswered": 1}


def test_trying_again_after_the_target_refused_is_no_repeat() -> None:
    verdict = Story().sent(0, 0).told(0, 1, REFUSED).told(0, 2).verdict()
    assert all_of(verdict) == {}


# -- the rest --


def test_another_events_body_is_found() -> None:
    assert Story().sent(0, 0).told(0, 1, mangled=1).verdict().broken == ["mangled"]


def test_a_wrong_token_that_was_let_in_is_found() -> None:
    assert Story().sent(0, 0, trouble=Trouble.TOKEN).told(0, 1).verdict().broken == ["let_in"]


def test_garbage_that_was_accepted_is_found_and_garbage_that_was_refused_is_not() -> None:
    assert Story().sent(NO_EVENT, 0, 202, trouble=Trouble.GARBAGE).verdict().broken == ["garbage_accepted"]
    assert Story().sent(NO_EVENT, 0, 400, trouble=Trouble.GARBAGE).verdict().broken == []


def test_deliveries_of_nobodys_events_are_noted() -> None:
    verdict = Story().told(NO_EVENT, 1).verdict()
    assert all_of(verdict) == {"foreign": 1}


def test_an_event_told_of_though_it_was_never_accepted_is_noted() -> None:
    verdict = Story().sent(0, 0, NO_ANSWER).told(0, 1).verdict()
    assert verdict.broken == []
    assert all_of(verdict) == {"never_accepted": 1, "unpromised": 1}


def test_the_order_in_which_records_are_read_changes_nothing() -> None:
    records: list[Attempt | Delivery] = [
        *((Attempt(at, at, at + 0.1, event, 202, 1, 0)) for event, at in ((0, 0.0), (1, 1.0), (2, 2.0))),
        *((Delivery(at, at + 0.1, event, APPLIED, 0)) for event, at in ((1, 3.0), (0, 4.0), (0, 5.0))),
    ]
    found = []
    for order in (records, records[::-1]):
        ledger = Ledger(EVENTS)
        for record in order:
            if isinstance(record, Attempt):
                ledger.attempt(record)
            else:
                ledger.delivery(record)
        found.append(all_of(ledger.judge(lambda event: event // 4)))
    assert found[0] == found[1] == {"lost": 1, "out_of_order": 1, "repeated": 1, "stale": 1}


def test_the_account_of_an_event_tells_its_whole_story() -> None:
    story = Story().sent(0, 0, 503).sent(0, 60).told(0, 61).told(0, 62)
    entry = next(iter(story.ledger.entries()))
    assert (entry.event, entry.sent, entry.attempts, entry.status) == (0, 0.0, 2, 202)
    assert entry.accepted == pytest.approx(60.1)
    assert (entry.seen, entry.times) == (61.0, 2)
