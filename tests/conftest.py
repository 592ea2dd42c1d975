"""What all tests share."""

import asyncio
import compileall
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from connector import log
from connector.external import hooks
from connector.flood import flood

ROOT = Path(__file__).parents[1]

# How long an example takes says nothing on a loaded machine.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Compile what the tests start as processes, once, where Python is told to write no bytecode as it runs."""
    if not hasattr(config, "workerinput"):
        for package in ("connector", "nsps_simulator"):
            compileall.compile_dir(ROOT / package, quiet=2)


Lines = Callable[[], list[dict[str, Any]]]
Reported = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture(autouse=True)
def _lines_of_each_test_by_itself(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(flood, "_kinds", {})
    yield
    log.writer.flush()


@pytest.fixture
def log_lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    """Log as the program does; the function returns the lines since it was last called."""
    log.configure("INFO")

    def lines() -> list[dict[str, Any]]:
        assert log.writer.flush()
        return [json.loads(line) for line in capfd.readouterr().out.split("\n") if line]

    return lines


@pytest.fixture
def reported(log_lines: Lines) -> Reported:
    """Await the lines, from the first one on, until there are ``count`` with this action; returns those."""
    lines: list[dict[str, Any]] = []

    async def wait(action: str, count: int = 1, patience: float = 10) -> list[dict[str, Any]]:
        async with asyncio.timeout(patience):
            while True:
                lines.extend(log_lines())
                found = [line for line in lines if line["action"] == action]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.001)

    return wait


@pytest.fixture
def own_hooks() -> Iterator[None]:
    """What ``on_response`` declares in a test ends with it; what modules have declared before comes back then."""
    before = dict(hooks._hooks)
    hooks._hooks.clear()
    yield
    hooks._hooks.clear()
    hooks._hooks.update(before)
