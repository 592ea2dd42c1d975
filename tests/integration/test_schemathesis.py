"""Schemathesis against the real server: what the served description allows is accepted, and no answer is a surprise.

Bounded: some dozens of bodies for each rule, always the same ones (``derandomize``).
"""

import asyncio
import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.schema import Schemas
from tests.serving import serving
from tests.wire import ask, post

EXAMPLES = 60


async def served(**rules: str) -> dict[str, Any]:
    async with serving(**rules) as (_, port):
        document: dict[str, Any] = (await ask(port, post(method="GET", path="/openapi.json", token=None))).json()
    return document


def bodies(document: dict[str, Any]) -> list[bytes]:
    """Bodies that Schemathesis makes from a description."""
    operation = schemathesis.openapi.from_dict(document)["/process-event"]["POST"]
    made: list[bytes] = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def make(case: "schemathesis.Case[Any]") -> None:
        made.append(json.dumps(case.body).encode())

    make()
    return made


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "rules",
    [{}, {"REQUIRED_FIELDS": "data.event_type"}, {"REQUIRED_FIELDS": "event_id,pb_data.account_info.bill_status"}],
    ids=str,
)
async def test_what_a_generated_client_sends_is_accepted(rules: dict[str, str]) -> None:
    document = await served(**rules)
    made = await asyncio.to_thread(bodies, document)
    async with serving(**rules) as (_, port):
        for body in made:
            answer = await ask(port, post(body))
            assert answer.status == 202, (body, answer)
            assert not Schemas(document).faults(answer.json(), Schemas(document).answer("/process-event", "post", 202))
    assert len(made) >= EXAMPLES // 2
