"""Each vice of the zoo is found, and an honest connector is not accused, whatever is done to it."""

from __future__ import annotations

from typing import Any

import pytest

from nsps_simulator.judging.ledger import CLEAN
from nsps_simulator.judging.requirements import read
from nsps_simulator.reporting.report import FIGURES, figures, life
from nsps_simulator.running.conduct import Outcome
from nsps_simulator.target import Mood
from nsps_simulator.wire.chaos import Chaos
from tests.simulator.integration.conftest import Run
from tests.simulator.integration.zoo import VICES

TROUBLED = Chaos(cut=0.05, slow=0.01, token=0.02, garbage=0.01)


# Each vice: what it takes to see it, and what must be found.
FOUND: dict[str, tuple[dict[str, Any], set[str]]] = {
    "drops": ({}, {"lost"}),
    "forgets": ({"faults": ("kill@0.6",)}, {"lost"}),
    "writes-late": ({"faults": ("kill@0.6",)}, {"lost"}),
    "swaps": ({}, {"out_of_order"}),
    "overlaps": ({"mood": Mood(latency=0.2)}, {"overlapped"}),
    "card-blind": ({"subscribers": 10}, {"out_of_order"}),
    "repeats": ({}, {"repeated"}),
    "repeats-late": ({}, {"repeated"}),
    "resends-old": ({}, {"repeated", "stale"}),
    "old-body": ({}, {"stale_body"}),
    "alters": ({}, {"altered"}),
    "strips": ({}, {"altered"}),
    "empties": ({}, {"empty_body"}),
    "mixes": ({}, {"mixed_up"}),
    "takes-garbage": ({"chaos": TROUBLED}, {"garbage_accepted"}),
    "errs-on-garbage": ({"chaos": TROUBLED}, {"garbage_error"}),
    "takes-any-token": ({"chaos": TROUBLED}, {"let_in"}),
    "leaks": ({"chaos": TROUBLED}, {"leaked"}),
    "stops": ({}, {"lost"}),
    "dies": ({}, {"died"}),
    "gives-up": ({"mood": Mood(flaky=0.2)}, {"lost"}),
}


def accused(outcome: Outcome) -> object:
    """What a person needs who looks for a false accusation: the faults, and the lives of the events in question."""
    broken = [one for kind in outcome.verdict.broken for one in outcome.verdict.examples[kind]]
    events = outcome.setting.scenario.events()
    lives = [
        life(outcome, one.event, outcome.histories[one.event], events)
        for one in broken
        if one.event in outcome.histories
    ]
    return outcome.disturbances, outcome.end, lives


@pytest.mark.parametrize("kind", FOUND)
async def test_a_dishonest_connector_is_found_guilty_of_what_it_does(run: Run, kind: str) -> None:
    changes, found = FOUND[kind]
    outcome = await run(kind, **changes)
    assert outcome.verdict.cut_short is None
    assert found <= set(outcome.verdict.broken), VICES[kind]
    assert len(outcome.verdict.broken) <= len(found) + 2, "it is accused of much that it did not do"


async def test_a_connector_that_stalls_while_each_answer_is_quick_misses_the_required_latency(run: Run) -> None:
    outcome = await run("stalls")
    assert not read("p99<400ms", FIGURES).met_by(figures(outcome))
    assert read("p99<60s", FIGURES).met_by(figures(outcome))


@pytest.mark.parametrize(
    ("faults", "changes"),
    [
        ((), {}),
        (("kill@0.4", "kill@0.9"), {"chaos": TROUBLED}),
        (("stop@0.3-0.8", "term@1.0"), {}),
        (("target-down@0.3-0.6", "target-wrong@0.7-0.9:0.2"), {}),
        (("cut-nsps@0.2-0.4", "cut-target@0.5-0.7", "delay-target@0.7-0.9:0.02"), {}),
        (("target-slow@0.2-0.4:0.3",), {"chaos": TROUBLED, "mood": Mood(latency=0.005, flaky=0.3)}),
    ],
)
async def test_an_honest_connector_is_not_accused(run: Run, faults: tuple[str, ...], changes: dict[str, Any]) -> None:
    outcome = await run("honest", faults, **changes)
    assert outcome.verdict.broken == [], accused(outcome)
    assert outcome.verdict.word == CLEAN
    assert outcome.verdict.accepted == outcome.verdict.delivered == 600
    assert len(outcome.disturbances) == len(faults)
