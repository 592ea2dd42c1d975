"""A short part of the stress suite (``python -m tests.stress``); the whole of it takes an hour."""

import random
from pathlib import Path

import pytest

from tests.stress.scenarios import SCENARIOS, Skipped

SECONDS = 4.0


@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_promise_holds_under_stress(tmp_path: Path, name: str) -> None:
    try:
        assert await SCENARIOS[name](tmp_path, random.Random(20), SECONDS) == []
    except Skipped as reason:
        pytest.skip(str(reason))
