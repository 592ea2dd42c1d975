"""What all tests share."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from connector import log

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log_lines(capfd: pytest.CaptureFixture[str]) -> Lines:
    """Log as the program does; the function returns the lines since it was last called."""
    log.configure("INFO")

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capfd.readouterr().out.splitlines()]

    return lines
