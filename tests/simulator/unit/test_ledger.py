"""The verdict, on stories told record by record: times are plain seconds."""

from __future__ import annotations

import pytest

from nsps_simulator.judging.ledger import NONE, UNFINISHED, Disturbance, End, Ledger, Promises, Verdict
from nsps_simulator.records import (
    APPLIED,
    LEAKED,
    NO_ANSWER,
    NO_EVENT,
    NOT_SENT,
    REFUSED,
    UNANSWERED,
    Attempt,
    Body,
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

    def told(self, event: int, at: float, outcome: int = APPLIED, *, took: float = 0.1, body: int = 0) -> Story:
        self.ledger.delivery(Delivery(at, at + took, event, outcome, body))
        return self

    def verdict(self, *faults: Disturbance, end: End = End(), **promises: bool) -> Verdict:  # noqa: B008  # frozen
        return self.ledger.judge(lambda event: (event // 4,), faults, Promises(**promises), end)


def kill(began: float, ended: float, ready: float) -> Disturbance:
    return Disturbance("kill", began, ended, ready, repeats=True)


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


def test_an_event_that_waits_for_its_retry_at_the_end_is_not_lost() -> None:
    verdict = Story().sent(0, 0).told(0, 1, REFUSED).verdict()
    assert verdict.broken == []
    assert all_of(verdict) == {"undelivered": 1}
    assert verdict.word == UNFINISHED
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


def test_an_event_that_is_superseded_by_one_behind_it_is_not_lost() -> None:
    verdict = Story().sent(0, 0).sent(1, 1).told(1, 2).verdict(newest_wins=True)
    assert all_of(verdict) == {"superseded": 1}


# -- losses --


def test_an_event_that_was_passed_over_is_lost_though_the_run_was_not_finished() -> None:
    verdict = Story().sent(0, 0).sent(1, 1).told(1, 2).verdict(end=End(quiet=False))
    assert verdict.broken == ["lost"]


def test_a_refused_event_that_was_passed_over_too_soon_is_lost_and_after_enough_calls_given_up() -> None:
    story = Story().sent(0, 0).sent(1, 1).told(0, 1, REFUSED).told(1, 2)
    assert story.verdict().broken == ["lost"]
    story = Story().sent(0, 0).sent(1, 1).told(1, 20)
    for number in range(5):
        story.told(0, 2 + number, REFUSED)
    assert all_of(story.verdict()) == {"given_up": 1}


def test_what_the_connector_had_no_time_for_is_undelivered() -> None:
    verdict = Story().sent(0, 0).sent(4, 1).told(4, 2).verdict(end=End(quiet=False))
    assert (verdict.broken, all_of(verdict)) == ([], {"undelivered": 1})


def test_what_is_open_when_the_connector_says_that_nothing_is_open_is_lost() -> None:
    assert Story().sent(0, 0).told(0, 1, REFUSED).verdict(end=End(open=0)).broken == ["lost"]
    assert Story().sent(0, 0).told(0, 1, REFUSED).verdict(end=End(open=1)).broken == []


def test_an_event_behind_one_that_waits_is_not_lost() -> None:
    story = Story().sent(0, 0).sent(1, 1).sent(4, 2).told(0, 1, REFUSED).told(4, 3)
    assert all_of(story.verdict()) == {"undelivered": 2}


def test_an_event_of_another_subscriber_is_not_excused_by_one_that_waits() -> None:
    story = Story().sent(0, 0).sent(4, 1).sent(5, 2).told(0, 1, REFUSED).told(5, 3)
    assert all_of(story.verdict()) == {"undelivered": 1, "lost": 1}


def test_a_pause_of_all_delivery_after_a_refusal_loses_nothing() -> None:
    story = Story().sent(0, 0).sent(4, 1).told(0, 2, REFUSED)
    assert all_of(story.verdict()) == {"undelivered": 2}


def test_calls_that_may_have_failed_unseen_excuse_what_was_open_then() -> None:
    down = Disturbance("target-down", 0.5, 3.0, hides=True)
    assert all_of(Story().sent(0, 0).sent(4, 5).told(4, 6).verdict(down)) == {"undelivered": 1}
    assert Story().sent(0, 4).sent(4, 5).told(4, 6).verdict(down).broken == ["lost"]


def test_a_run_that_was_cut_short_has_no_verdict_whatever_it_found() -> None:
    verdict = Story().sent(0, 0).sent(1, 1).told(1, 2).verdict(end=End(quiet=False, cut_short="the target failed"))
    assert verdict.word == NONE


def test_a_connector_that_ended_by_itself_is_found() -> None:
    verdict = Story().sent(0, 0).verdict(end=End(quiet=False, died="code 7"))
    assert verdict.broken == ["died"]
    assert verdict.found["undelivered"] == 1


# -- resources --


def test_two_accounts_that_share_a_card_are_one_order_and_a_finding_counts_once() -> None:
    story = Story().sent(0, 0).sent(1, 1).told(1, 2).told(0, 3)
    keys = {0: (10, 99), 1: (11, 99, 98), 4: (12,)}
    verdict = story.ledger.judge(lambda event: keys.get(event, (event,)))
    assert verdict.broken == ["out_of_order"]
    story = Story().sent(0, 0).sent(1, 1).told(1, 2).told(0, 3)
    assert story.ledger.judge(lambda event: (5, 6)).found["out_of_order"] == 1


def test_an_event_that_touches_nothing_has_no_order() -> None:
    story = Story().sent(0, 0).sent(1, 1).told(1, 2).told(0, 3)
    assert story.ledger.judge(lambda event: ()).broken == []


# -- repeats --


def test_a_repeat_without_a_cause_is_found() -> None:
    verdict = Story().sent(0, 0).told(0, 1).told(0, 2).told(0, 3).verdict()
    assert verdict.broken == ["repeated"]
    assert verdict.found["repeated"] == 2


def test_a_repeat_around_a_kill_is_noted_apart() -> None:
    verdict = Story().sent(0, 0).told(0, 1).told(0, 3).verdict(kill(1.5, 1.6, 2.5))
    assert verdict.broken == []
    assert all_of(verdict) == {"repeated_around_fault": 1}


def test_a_call_that_was_on_its_way_when_the_connector_was_killed_excuses_a_repeat() -> None:
    verdict = Story().sent(0, 0).told(0, 1.3).told(0, 3).verdict(kill(0.9, 1.0, 2.5))
    assert all_of(verdict) == {"repeated_around_fault": 1}


@pytest.mark.parametrize("one", [kill(14.0, 14.1, 15.0), kill(0.2, 0.3, 0.9)])
def test_a_kill_at_another_time_excuses_no_repeat(one: Disturbance) -> None:
    assert Story().sent(0, 0).told(0, 10).told(0, 11).verdict(one).broken == ["repeated"]


def test_a_kill_long_after_the_delivery_excuses_no_repeat() -> None:
    assert Story().sent(0, 0).told(0, 1).told(0, 12).verdict(kill(10.0, 10.1, 11.0)).broken == ["repeated"]


def test_a_repeat_after_a_lost_answer_of_the_target_is_noted_apart() -> None:
    verdict = Story().sent(0, 0).told(0, 1, UNANSWERED).told(0, 3).verdict()
    assert verdict.broken == []
    assert all_of(verdict) == {"repeated_unanswered": 1}


def test_trying_again_after_the_target_refused_is_no_repeat() -> None:
    verdict = Story().sent(0, 0).told(0, 1, REFUSED).told(0, 2).verdict()
    assert all_of(verdict) == {}


# -- the rest --


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (Body.ALTERED, "altered"),
        (Body.STALE, "stale_body"),
        (Body.EMPTY, "empty_body"),
        (Body.MIXED_UP, "mixed_up"),
    ],
)
def test_a_body_that_is_not_the_events_is_found(body: Body, found: str) -> None:
    assert Story().sent(0, 0).told(0, 1, body=body).verdict().broken == [found]


def test_bodies_that_were_not_compared_are_not_tried() -> None:
    verdict = Story().sent(0, 0).told(0, 1, body=Body.NOT_COMPARED).verdict()
    assert verdict.broken == []
    assert {"altered", "stale_body", "empty_body", "mixed_up"} <= set(verdict.not_tried)


def test_what_a_run_could_not_have_found_is_not_tried() -> None:
    verdict = Story().sent(0, 0).told(0, 1).verdict()
    assert {"let_in", "garbage_accepted", "garbage_error", "out_of_order", "overlapped"} <= set(verdict.not_tried)
    tried = Story().sent(0, 0).sent(1, 1, 401, trouble=Trouble.TOKEN).sent(2, 2).told(0, 3).told(2, 4)
    tried.sent(NO_EVENT, 0, 400)
    assert not {"let_in", "garbage_accepted", "garbage_error", "out_of_order", "lost"} & set(tried.verdict().not_tried)


def test_a_wrong_token_that_found_no_connection_was_not_tried() -> None:
    verdict = Story().sent(0, 0, NOT_SENT, trouble=Trouble.TOKEN).sent(0, 1).told(0, 2).verdict()
    assert "let_in" in verdict.not_tried


def test_an_answer_with_another_events_data_is_found() -> None:
    story = Story()
    story.ledger.attempt(Attempt(0, 0, 0.1, NO_EVENT, 422, 1, Trouble.GARBAGE, LEAKED))
    assert story.verdict().broken == ["leaked"]


def test_a_wrong_token_that_was_let_in_is_found() -> None:
    assert Story().sent(0, 0, trouble=Trouble.TOKEN).told(0, 1).verdict().broken == ["let_in"]


def test_garbage_that_was_accepted_is_found_and_garbage_that_was_refused_is_not() -> None:
    assert Story().sent(NO_EVENT, 0, 202, trouble=Trouble.GARBAGE).verdict().broken == ["garbage_accepted"]
    assert Story().sent(NO_EVENT, 0, 400, trouble=Trouble.GARBAGE).verdict().broken == []


def test_an_error_of_its_own_for_garbage_is_found_and_no_answer_is_noted() -> None:
    assert Story().sent(NO_EVENT, 0, 500, trouble=Trouble.GARBAGE).verdict().broken == ["garbage_error"]
    assert Story().sent(NO_EVENT, 0, 503, trouble=Trouble.GARBAGE).verdict().broken == []
    assert all_of(Story().sent(NO_EVENT, 0, NO_ANSWER).verdict()) == {"garbage_unanswered": 1}


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
        found.append(all_of(ledger.judge(lambda event: (event // 4,))))
    assert found[0] == found[1] == {"lost": 1, "out_of_order": 1, "repeated": 1, "stale": 1}


def test_the_account_of_an_event_tells_its_whole_story() -> None:
    story = Story().sent(0, 0, 503).sent(0, 60).told(0, 61).told(0, 62)
    entry = next(iter(story.ledger.entries()))
    assert (entry.event, entry.sent, entry.attempts, entry.status) == (0, 0.0, 2, 202)
    assert entry.accepted == pytest.approx(60.1)
    assert (entry.seen, entry.times, entry.refused) == (61.0, 2, 0)
