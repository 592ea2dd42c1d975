"""The verdict holds against connectors that cheat, and does not hurt those that are honest."""

from __future__ import annotations

import pytest

from nsps_simulator.target import Mood
from nsps_simulator.wire.chaos import Chaos
from tests.simulator.integration.conftest import Run

TROUBLED = Chaos(cut=0.05, slow=0.01, token=0.02, garbage=0.01)


async def test_an_honest_connector_is_not_accused_amid_chaos_and_a_flaky_target(run: Run) -> None:
    outcome = await run("honest", chaos=TROUBLED, mood=Mood(latency=0.005, flaky=0.05))
    verdict = outcome.verdict
    assert verdict.broken == []
    assert verdict.planned == verdict.accepted == verdict.delivered == 600
    assert verdict.found["refused_then_accepted"] > 10
    assert verdict.deliveries_refused > 5
    assert verdict.answers[401] > 0
    assert outcome.exit_code is not None


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("repeater", ["repeated"]),
        ("swapper", ["lost", "out_of_order"]),
        ("gullible", ["let_in", "garbage_accepted"]),
    ],
)
async def test_a_connector_that_cheats_is_found_guilty(run: Run, kind: str, broken: list[str]) -> None:
    outcome = await run(kind, chaos=TROUBLED if kind == "gullible" else Chaos())
    assert outcome.verdict.broken == broken


async def test_a_connector_that_answers_before_storing_is_found_guilty_when_killed(run: Run) -> None:
    outcome = await run("forgetful", kills=(0.7,))
    assert outcome.verdict.broken == ["lost"]
    assert outcome.verdict.accepted == 600
    assert outcome.verdict.answers[0] > 0, "there was no connection while it was down"
    assert len(outcome.kills) == 1
    assert outcome.kills[0].ready is not None


async def test_a_connector_that_answers_after_telling_the_target_survives_a_kill(run: Run) -> None:
    outcome = await run("careful", kills=(0.4,), mood=Mood(latency=0.02), chaos=Chaos(cut=0.02))
    assert outcome.verdict.broken == []
    assert outcome.verdict.accepted == outcome.verdict.delivered == 600


async def test_a_target_that_is_away_delays_and_loses_nothing(run: Run) -> None:
    outcome = await run("careful", mood=Mood(down=((0.3, 0.7),)))
    assert outcome.verdict.broken == []
    assert outcome.verdict.accepted == outcome.verdict.delivered == 600
    assert outcome.spans["answer"]["max"] > 0.35, "the connector waited while the target was away"
