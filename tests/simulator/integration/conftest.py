"""Runs of the simulator against the small connectors of `zoo.py`, with real processes and sockets."""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsps_simulator.judging.ledger import Promises
from nsps_simulator.running.conduct import Outcome, Setting, conduct
from nsps_simulator.running.faults import read_fault
from nsps_simulator.running.progress import Progress
from nsps_simulator.sending.profile import POISSON, Plan, steady
from nsps_simulator.sending.scenario import Scenario
from nsps_simulator.wire.endpoint import endpoint

ZOO = Path(__file__).with_name("zoo.py")

Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(autouse=True)
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the small connectors a file of their own."""
    monkeypatch.setenv("ZOO_JOURNAL", str(tmp_path / "journal"))


@pytest.fixture
def scenario(free_port: int) -> Scenario:
    """Some 600 events of 40 subscribers in a second, so that each subscriber's come close together."""
    return Scenario(
        seed=11,
        endpoints=(endpoint(f"http://127.0.0.1:{free_port}", "made-up"),),
        plan=Plan(steady(600, 1), None, POISSON, 11),
        subscribers=40,
        time_scale=600,
        patience=20,
    )


@pytest.fixture
def run(scenario: Scenario, tmp_path: Path) -> Run:
    """Run the scenario against a kind of connector; further arguments change the scenario, the setting or the
    promises. faults: as on the command line. watch: is shown the progress.
    """

    async def run(kind: str, faults: tuple[str, ...] = (), **changes: Any) -> Outcome:
        watch = changes.pop("watch", _look_away)
        of_promises = {name: changes.pop(name) for name in list(changes) if name in Promises.__dataclass_fields__}
        of_setting = {name: changes.pop(name) for name in list(changes) if name in Setting.__dataclass_fields__}
        setting = Setting(
            scenario=replace(scenario, **changes),
            target=("127.0.0.1", 0),
            commands=((sys.executable, str(ZOO), kind),),
            faults=tuple(map(read_fault, faults)),
            settle=0.8,
            retry_wait=5.0,
            linger=0.7,
            pause=0.1,
            log=tmp_path / "connector.log",
            promises=Promises(forwards=of_setting.get("target", True) is not None, **of_promises),
        )
        return await conduct(replace(setting, **of_setting), watch)

    return run


def _look_away(progress: Progress) -> None:
    """Show the progress to nobody."""
