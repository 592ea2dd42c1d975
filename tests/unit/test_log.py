import ast
import asyncio
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import connector
from connector import log
from connector.events.event import Event
from connector.log import LineWriter
from tests.conftest import Lines

ACTIONS = {
    "breaker.closed",
    "breaker.half_open",
    "breaker.opened",
    "event.accepted",
    "event.dead",
    "event.duplicate",
    "event.ignored",
    "event.processed",
    "event.refused",
    "event.retrying",
    "event.superseded",
    "handler.log",
    "handler.stuck",
    "journal.failed",
    "journal.fault",
    "journal.not_durable",
    "journal.recovered",
    "log",
    "request.failed",
    "request.refused",
    "request.served",
    "server.drained",
    "server.fault",
    "server.draining",
    "server.killed",
    "server.started",
    "server.stopped",
    "target.token",
}
PACKAGE = Path(connector.__file__).parent
FORM = re.compile(r"(event|journal|lanes?|request|server|workers?|handlers?|breaker|ops)\.[a-z_]+")


def emitted() -> Iterator[str]:
    """Every text of the code that stands as an action, or has the form of one."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.keyword(arg="action", value=ast.Constant(value=str(action))):
                    yield action
                case ast.Constant(value=str(text)) if FORM.fullmatch(text):
                    yield text


def event(**fields: str) -> Event:
    given = {"event_id": "id-1", "event_type": "SIM/Updated", "lane": "l", "request_id": "r-1", "unique_id": "u-1"}
    return Event(**(given | fields), accepted_at=0.0, raw=b"{}")  # type: ignore[arg-type]


def test_no_action_is_emitted_that_no_reader_of_logs_knows() -> None:
    assert set(emitted()) | {"log"} == ACTIONS


def test_a_line_about_an_event_has_all_its_ids(log_lines: Lines) -> None:
    log.event_line("event.dead", "Event is dead", event(), "error", {"reason": "why", "attempt": 3})
    (line,) = log_lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "error",
        "message": "Event is dead",
        "action": "event.dead",
        "request_id": "r-1",
        "unique_id": "u-1",
        "event_id": "id-1",
        "event_type": "SIM/Updated",
        "reason": "why",
        "attempt": 3,
    }


@pytest.mark.parametrize("text", ['quote " and \\', "line\nbreak", "\x00\x1b[31m", "Größe 📶", "%b %s {}", "\u2028"])
def test_no_text_breaks_a_line_apart(text: str, log_lines: Lines) -> None:
    log.event_line("event.processed", text, event(event_type=text), more={"reason": text})
    log.get_logger(bound=text).info(text, action="server.started")
    one, other = log_lines()
    assert one["message"] == one["event_type"] == one["reason"] == text
    assert other["message"] == other["bound"] == text


def test_a_lone_surrogate_in_an_exception_does_not_cost_the_line(log_lines: Lines) -> None:
    log.get_logger().error("broken \ud800", action="request.failed")
    assert log_lines()[0]["action"] == "request.failed"


def test_levels_below_the_least_are_left_out(log_lines: Lines) -> None:
    log.configure("WARNING")
    log.event_line("event.accepted", "Event accepted", event())
    log.get_logger().info("Listening", action="server.started")
    log.event_line("event.retrying", "Event will be tried again", event(), "warning")
    assert [line["action"] for line in log_lines()] == ["event.retrying"]


def test_an_exception_stands_in_its_line_and_not_around_it(log_lines: Lines) -> None:
    try:
        int("made up")
    except ValueError:
        log.get_logger().exception("Request failed", action="request.failed")
        logging.getLogger("library").exception("it failed")
    for line in log_lines():
        assert "made up" in line["exception"]
        assert line["level"] == "error"


def test_lines_of_libraries_have_the_same_form(log_lines: Lines) -> None:
    logging.getLogger("library").warning("%s went wrong", "it")
    (line,) = log_lines()
    assert (line["action"], line["logger"], line["level"]) == ("log", "library", "warning")
    assert line["message"] == "it went wrong"


def read(fd: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in os.read(fd, 2**16).splitlines()]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


async def test_gathered_lines_are_written_in_order_and_none_is_left_at_the_end(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    writer.attach(asyncio.get_running_loop())
    for number in range(100):
        writer.write(b'{"n": %d}\n' % number)
    writer.detach()
    assert [line["n"] for line in read(pipe[0])] == list(range(100))


async def test_gathered_lines_are_written_without_a_further_line(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    loop = asyncio.get_running_loop()
    writer.attach(loop)
    arrived = asyncio.Event()
    loop.add_reader(pipe[0], arrived.set)
    writer.write(b'{"n": 1}\n')
    await arrived.wait()
    loop.remove_reader(pipe[0])
    assert read(pipe[0]) == [{"n": 1}]
    writer.detach()


async def test_a_line_of_another_thread_is_not_held_back(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    writer.attach(asyncio.get_running_loop())
    thread = threading.Thread(target=writer.write, args=(b'{"n": 1}\n',))
    thread.start()
    thread.join()
    assert read(pipe[0]) == [{"n": 1}]
    writer.detach()


def test_a_line_longer_than_the_pipe_arrives_whole(pipe: tuple[int, int]) -> None:
    found: list[bytes] = []

    def drain() -> None:
        while not found or not found[-1].endswith(b"\n"):
            found.append(os.read(pipe[0], 2**16))

    os.set_blocking(pipe[1], False)
    reader = threading.Thread(target=drain)
    reader.start()
    LineWriter(pipe[1]).write(b'"' + b"x" * 500_000 + b'"\n')
    reader.join()
    assert len(b"".join(found)) == 500_003


def test_a_reader_of_the_log_that_has_gone_does_not_stop_the_connector(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    LineWriter(pipe[1]).write(b"{}\n")
