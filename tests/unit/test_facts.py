"""Where facts are said once, and who listens."""

from collections.abc import Iterator
from typing import Any

import pytest

from connector.facts import FACTS, Facts, Listener, LogLines, Minutely, Refusal, facts
from connector.log import Traced
from tests.conftest import Lines
from tests.unit.test_log import event

REFUSAL = Refusal("Invalid", "event.refused", "POST", 422, "VALIDATION_ERROR", "why", [], "192.0.2.1", {})
SAID: dict[str, tuple[Any, ...]] = {
    "accepted": (event(),),
    "duplicate": (event(),),
    "conflict": (event(),),
    "unordered": (event(),),
    "field_unreadable": (event(), "pb_data.sim_info.imsi", "a list"),
    "time_unreadable": (event(), "updated_at"),
    "time_ahead": (event(), "updated_at"),
    "refused": (REFUSAL,),
    "attempt": (event(), "handler", "done", 0.1),
    "outcome": (event(), "dead", "why", 3, 10, None),
    "committed": (7, 0.001),
    "called": (event(), "POST /: 200", 0.1, {"target": "target", "status": 200}),
    "breaker": ("open", "why", {"wait": 1}),
    "operated": ("replay", 2, {"by": "somebody"}),
}
WITHOUT_A_LINE = {"attempt", "committed"}


class Counting(Listener):
    """Metrics in small: counts two facts."""

    def __init__(self) -> None:
        self.counts: list[str] = []

    def accepted(self, event: Traced) -> None:
        self.counts.append(event.event_type)

    def committed(self, events: int, seconds: float) -> None:
        self.counts.append(f"{events} in {seconds} s")


@pytest.fixture
def counting() -> Iterator[Counting]:
    listener = Counting()
    leave = facts.listen(listener)
    yield listener
    leave()


def test_every_fact_can_be_said_and_has_its_line(log_lines: Lines) -> None:
    assert set(SAID) == set(FACTS)
    for name, arguments in SAID.items():
        getattr(facts, name)(*arguments)
        assert len(log_lines()) == (name not in WITHOUT_A_LINE), name


@pytest.mark.parametrize("state", ["done", "ignored", "superseded", "waiting", "dead", "held"])
def test_every_outcome_has_a_line_with_its_reason(state: str, log_lines: Lines) -> None:
    facts.outcome(event(), state, "the reason", 2, 10, 1.5)
    (line,) = log_lines()
    assert "the reason" in (line["message"], line.get("reason"))


def test_metrics_hear_what_the_log_says(counting: Counting, log_lines: Lines) -> None:
    facts.accepted(event())
    facts.duplicate(event())
    facts.committed(7, 0.5)
    assert counting.counts == ["SIM/Updated", "7 in 0.5 s"]
    assert [line["action"] for line in log_lines()] == ["event.accepted", "event.duplicate"]


def test_a_fact_that_one_listener_hears_costs_one_call() -> None:
    lines = LogLines()
    ours = Facts()
    ours.listen(lines)
    leave = ours.listen(Counting())
    assert ours.duplicate == lines.duplicate
    leave()
    assert ours.accepted == lines.accepted


def test_refusals_are_sampled_with_the_address_of_the_client(log_lines: Lines) -> None:
    for _ in range(1000):
        facts.refused(REFUSAL)
    lines = log_lines()
    assert len(lines) < 30
    assert {line["remote"] for line in lines} == {"192.0.2.1"}


def test_what_is_said_once_a_minute_says_how_often_it_was() -> None:
    now = [0.0]
    minutely = Minutely(lambda: now[0])
    assert [minutely.count("a") for _ in range(5)] == [1, 0, 0, 0, 0]
    assert minutely.count("b") == 1
    now[0] = 59.9
    assert minutely.count("a") == 0
    now[0] = 60.0
    assert minutely.count("a") == 6
    assert minutely.count("a") == 0


def test_what_is_said_once_a_minute_is_counted_under_a_bounded_number_of_names() -> None:
    minutely = Minutely(lambda: 0.0)
    assert all(minutely.count(str(number)) for number in range(10_000))
    assert len(minutely._said) <= Minutely.MOST
