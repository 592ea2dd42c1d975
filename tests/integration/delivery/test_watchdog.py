"""A handler that blocks the event loop is named with its stack."""

import time
from pathlib import Path

from connector import Event, on
from connector.delivery import watchdog
from tests.conftest import Lines
from tests.delivering import delivering


async def test_handler_that_blocks_the_event_loop_is_named_with_its_stack(tmp_path: Path, log_lines: Lines) -> None:
    @on("SIM/Updated")
    async def blocks(_: Event) -> None:
        time.sleep(watchdog.BLOCKED + 3 * watchdog.BEAT)  # noqa: ASYNC251 - the fault

    async with delivering(tmp_path, blocks) as delivery:
        await delivery.accept("one")
        await delivery.become(one="done")
    lines = [line for line in log_lines() if line["action"] == "loop.blocked"]
    assert any("time.sleep(watchdog.BLOCKED" in line["stack"] for line in lines)
    assert any(line["place"].startswith("tests/integration/delivery/test_watchdog.py:") for line in lines)
