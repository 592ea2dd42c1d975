"""Runs of the simulator against the small connectors of `connectors.py`, with real processes and sockets."""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsps_simulator.running.conduct import Outcome, Setting, conduct
from nsps_simulator.running.progress import Progress
from nsps_simulator.sending.profile import Plan, steady
from nsps_simulator.sending.scenario import Scenario, endpoint

CONNECTORS = Path(__file__).with_name("connectors.py")

Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def scenario(free_port: int) -> Scenario:
    """Some 600 events of 40 subscribers in a second, so that each subscriber's come close together."""
    return Scenario(
        seed=11,
        endpoint=endpoint(f"http://127.0.0.1:{free_port}", "made-up"),
        plan=Plan(steady(600, 1)),
        subscribers=40,
        time_scale=600,
        patience=5,
    )


@pytest.fixture
def run(scenario: Scenario, tmp_path: Path) -> Run:
    """Run the scenario against a kind of connector; further arguments change the scenario or the setting."""

    async def run(kind: str, **changes: Any) -> Outcome:
        of_setting = {name: changes.pop(name) for name in list(changes) if name in Setting.__dataclass_fields__}
        setting = Setting(
            scenario=replace(scenario, **changes),
            target=("127.0.0.1", 0),
            command=(sys.executable, str(CONNECTORS), kind),
            settle=0.8,
            linger=0.2,
            pause=0.1,
            log=tmp_path / "connector.log",
        )
        return await conduct(replace(setting, **of_setting), _look_away)

    return run


def _look_away(progress: Progress) -> None:
    """Show the progress to nobody."""
