"""The log of a running connector, whatever its handlers do with logging and however slowly stdout is read."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Self

import pytest

from tests import events
from tests.process import ROOT, TIMEOUT, environment, running
from tests.wire import ask, connect, post

STRUCTLOG = """
import structlog, logging.config
from connector import Event, on
structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
                    wrapper_class=structlog.make_filtering_bound_logger(50))
logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}})

@on("*")
async def handler(event: Event) -> str:
    event.log.info("from the handler", n=1)
    return "ok"
"""

MISTAKES = """
import logging
from connector import Event, on

@on("*")
async def handler(event: Event) -> str:
    logging.getLogger("some.library").warning("answer %d", "two hundred")
    event.log.info("answer %d", "two hundred")
    return "worked"
"""

LOUD = """
from connector import Event, on

@on("*")
def handler(event: Event) -> str:
    for i in range(5):
        event.log.info("x" * 9000, i=i)
    return "y" * 400
"""


async def test_a_handler_that_configures_logging_leaves_the_connector_its_lines(tmp_path: Path) -> None:
    (tmp_path / "configured.py").write_text(STRUCTLOG)
    async with running(tmp_path, HANDLERS="configured") as server:
        assert (await ask(server.port, post(events.encode(events.minimal())))).status == 202
        assert (await server.line("handler.log"))["message"] == "from the handler"
        await server.line("event.processed")
        assert await server.terminate() == 0
        assert server.lines[-1]["action"] == "server.stopped"
        assert server.stderr == ""


async def test_a_wrong_format_string_in_a_handler_does_not_fail_its_event(tmp_path: Path) -> None:
    (tmp_path / "mistakes.py").write_text(MISTAKES)
    async with running(tmp_path, HANDLERS="mistakes") as server:
        assert (await ask(server.port, post(events.encode(events.minimal())))).status == 202
        await server.line("event.processed", message="worked")
        assert "TypeError" in (await server.line("log", logger="some.library"))["log_error"]
        assert "TypeError" in (await server.line("handler.log"))["log_error"]
        assert server.counts["event.retrying"] == 0


class Unread:
    """A connector whose stdout is a pipe that is read only when a test says so."""

    def __init__(self, cwd: Path, **overrides: str) -> None:
        self._cwd = cwd
        self._environment = environment(**overrides)
        self._read_end, self._write_end = os.pipe()
        self._rest = b""

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "run.py"), cwd=self._cwd, env=self._environment, stdout=self._write_end
        )
        os.close(self._write_end)
        self.port = 0
        while not self.port:
            self.port = next((line["port"] for line in await self.lines() if line["action"] == "server.started"), 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        os.close(self._read_end)

    async def lines(self, size: int = 2**16) -> list[dict[str, Any]]:
        """The next lines of stdout; none at its end."""
        data = await asyncio.wait_for(asyncio.to_thread(os.read, self._read_end, size), TIMEOUT)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]


@pytest.mark.parametrize("handlers", ["", "loud"])
async def test_a_stdout_that_nobody_reads_stops_neither_accepting_nor_the_stop(tmp_path: Path, handlers: str) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    async with Unread(tmp_path, HANDLERS=handlers) as server:
        async with connect(server.port) as wire:
            for _ in range(400):
                await wire.send(post(events.encode(events.minimal())))
                assert (await wire.answer()).status == 202
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(server.process.wait(), TIMEOUT) == 0


async def test_lines_of_threads_are_whole_on_a_slow_pipe(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    async with Unread(tmp_path, HANDLERS="loud") as server:
        async with connect(server.port) as wire:
            for _ in range(50):
                await wire.send(post(events.encode(events.minimal())))
                assert (await wire.answer()).status == 202
        ended = 0
        while ended < 50:
            ended += sum(line["action"] == "event.processed" for line in await server.lines(8192))
