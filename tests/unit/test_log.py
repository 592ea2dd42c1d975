import ast
import asyncio
import dataclasses
import json
import logging
import logging.config
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import connector
from connector import log
from connector.events.event import Event
from connector.flood import Flood
from connector.log import LineWriter
from tests.conftest import Lines

PACKAGE = Path(connector.__file__).parent
OPERATIONS = (PACKAGE.parent / "docs" / "operations.md").read_text()
FORM = re.compile(r"(event|log|journal|lanes?|request|server|workers?|handlers?|breaker|ops)\.[a-z_]+")


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
    given = {"event_id": "id-1", "event_type": "SIM/Updated", "request_id": "r-1", "unique_id": "u-1"}
    return Event(**(given | fields), resources=("l",), accepted_at=0.0, raw=b"{}")  # type: ignore[arg-type]


def test_actions_that_are_emitted_are_those_of_the_docs() -> None:
    documented = re.findall(
        r"^\| `([a-z_]+(?:\.[a-z_]+)?)` \| (?:debug|info|warning|error|any)", OPERATIONS, re.MULTILINE
    )
    assert set(emitted()) | {"log"} == set(documented)


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
    return [json.loads(line) for line in os.read(fd, 2**20).splitlines()]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def numbers(lines: list[dict[str, Any]]) -> list[int]:
    return [line["n"] for line in lines if "n" in line]


def test_lines_are_written_in_order_and_none_is_left_after_a_flush(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    for number in range(100):
        writer.write(b'{"n": %d}\n' % number)
    assert writer.flush()
    assert numbers(read(pipe[0])) == list(range(100))


async def test_lines_are_written_without_a_further_line(pipe: tuple[int, int]) -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(pipe[0], arrived.set)
    LineWriter(pipe[1]).write(b'{"n": 1}\n')
    await arrived.wait()
    loop.remove_reader(pipe[0])
    assert read(pipe[0]) == [{"n": 1}]


def in_the_background(fd: int, found: list[bytes], size: int) -> threading.Thread:
    """Read ``size`` bytes from ``fd``, or all that come."""

    def read_on() -> None:
        while sum(map(len, found)) < size and (part := os.read(fd, 2**16)):
            found.append(part)

    reader = threading.Thread(target=read_on)
    reader.start()
    return reader


def test_lines_of_many_threads_stay_whole(pipe: tuple[int, int]) -> None:
    writer, found, line = LineWriter(pipe[1]), [], b'{"n": 1, "text": "' + b"x" * 9000 + b'"}\n'  # type: ignore[var-annotated]
    reader = in_the_background(pipe[0], found, len(line) * 200)

    def write_on() -> None:
        for _ in range(20):
            writer.write(line)

    threads = [threading.Thread(target=write_on) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in [*threads, reader]:
        thread.join()
    assert set(b"".join(found).splitlines(keepends=True)) == {line}


def test_a_line_longer_than_the_pipe_and_the_buffer_arrives_whole(pipe: tuple[int, int]) -> None:
    found: list[bytes] = []
    os.set_blocking(pipe[1], False)
    reader = in_the_background(pipe[0], found, 500_003)
    LineWriter(pipe[1], buffer=1000).write(b'"' + b"x" * 500_000 + b'"\n')
    reader.join()
    assert len(b"".join(found)) == 500_003


def test_a_reader_that_stops_costs_lines_and_no_time_and_each_gap_is_said(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1], buffer=100_000)
    for number in range(20_000):  # 2 MB: returns although nobody reads
        writer.write(b'{"n": %d, "text": "%s"}\n' % (number, b"x" * 80))
    assert not writer.flush(0.01)
    found: list[bytes] = []
    reader = in_the_background(pipe[0], found, sys.maxsize)
    assert writer.flush(20)
    writer.write(b'{"n": 20000}\n')
    assert writer.flush(20)
    os.close(pipe[1])
    reader.join()
    lines = [json.loads(line) for line in b"".join(found).splitlines()]
    expected, dropped = 0, 0
    for line in lines:
        if "n" in line:
            assert line["n"] == expected
            expected += 1
        else:
            assert (line["action"], line["level"]) == ("log.dropped", "warning")
            expected += line["count"]
            dropped += line["count"]
    assert expected == 20_001
    assert dropped == writer.dropped > 0


def test_a_reader_of_the_log_that_has_gone_does_not_stop_the_connector(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    writer = LineWriter(pipe[1])
    for _ in range(3):
        writer.write(b"{}\n")
        assert writer.flush()
    assert writer.dropped == 3


def test_lines_that_a_full_disk_did_not_take_are_counted_and_the_next_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "log"
    fd = os.open(file, os.O_WRONLY | os.O_CREAT)
    writer = LineWriter(fd)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_a_limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (25, usual[1]))
        for number in range(5):
            writer.write(b'{"n": %d}\n' % number)
            assert writer.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, at_a_limit)
    writer.write(b'{"n": 5}\n')
    assert writer.flush()
    os.close(fd)
    whole = [json.loads(line) for line in file.read_bytes().splitlines() if line.endswith(b"}")]
    assert numbers(whole) == [0, 1, 5]
    assert [line["count"] for line in whole if "count" in line] == [writer.dropped] == [3]


def test_a_finalizer_that_logs_inside_a_log_call_does_not_lock_it(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    with writer._lock:
        writer.write(b'{"n": 1}\n')
    assert writer.flush()
    assert read(pipe[0]) == [{"n": 1}]


def test_a_forked_child_writes_its_own_lines_and_not_those_of_its_parent(pipe: tuple[int, int]) -> None:
    code = """
import os
from connector import log
log.configure("INFO")
log.get_logger().info("parent")
child = os.fork()
if child == 0:
    log.get_logger().info("child")
    os._exit(0)
os.waitpid(child, 0)
"""
    subprocess.run([sys.executable, "-c", code], stdout=pipe[1], check=True, timeout=30)
    assert sorted(line["message"] for line in read(pipe[0])) == ["child", "parent"]


class Hostile:
    """Its text cannot be had."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


class HostileError(Exception):
    """An exception whose text cannot be had."""

    def __str__(self) -> str:
        raise SystemExit(3)


def in_itself() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value",
    [
        Hostile(ValueError("no")),
        Hostile(SystemExit(1)),
        Hostile(KeyboardInterrupt()),
        Hostile(RecursionError()),
        in_itself(),
        {"a": in_itself()},
        {Hostile(ValueError()): 1},
        {1: 2, (3,): 4},
        2**70,
        10**5000,
        float("nan"),
        "\ud800",
        {"\udfff": "\ud800"},
        b"\xff\x00",
        {1, 2},
        object(),
        type,
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_value_fails_a_log_call_or_costs_its_line(value: Any, log_lines: Lines) -> None:
    logger = log.get_logger(action="handler.log")
    logger.info("as a field", value=value)
    logger.bind(value=value).warning("bound")
    logger.info(value)
    logger.info("an argument %s", value)
    log.server_logger.warning("an argument %s", value)  # pytest's own handler of the root logger has no such patience
    log.server_logger.warning(value)
    log.event_line("event.dead", "Event is dead", event(), "error", {"reason": value})
    lines = log_lines()
    assert len(lines) == 7
    assert all({"timestamp", "level", "message", "action"} <= set(line) for line in lines)


@pytest.mark.parametrize(
    ("template", "args"),
    [("%d", ("two hundred",)), ("%s %s", ("one",)), ("none", ("one",)), ("%(name)s", ({"other": 1},)), ("%", (1,))],
)
def test_a_wrong_format_string_is_said_and_fails_nobody(template: str, args: tuple[Any, ...], log_lines: Lines) -> None:
    log.get_logger(action="handler.log").warning(template, *args, n=1)
    log.server_logger.warning(template, *args)
    own, library = log_lines()
    assert own["message"] == library["message"] == template
    assert own["n"] == 1
    for line in (own, library):
        assert "Error" in line["log_error"]


def test_an_exception_without_a_text_stands_in_its_line(log_lines: Lines) -> None:
    for error in (HostileError(), ValueError(Hostile(ValueError()))):
        log.get_logger().error("broken", action="request.failed", exc_info=error)
    assert ["HostileError" in line["exception"] for line in log_lines()] == [True, False]


async def test_all_methods_of_a_structlog_logger_are_there(log_lines: Lines) -> None:
    logger = log.get_logger(action="handler.log")
    for name in ("debug", "info", "msg", "warning", "warn", "error", "err", "critical", "fatal", "exception"):
        getattr(logger, name)("text %s", name)
        await getattr(logger, f"a{name}")("text %s", name)
    logger.log(25, "between levels")
    await logger.alog(logging.ERROR, "error")
    assert not logger.is_enabled_for(10)
    assert logger.new(action="other").bind(n=1).unbind("n").try_unbind("m").get_effective_level() == 20
    lines = log_lines()
    assert [line["level"] for line in lines][:4] == ["info"] * 4
    assert len(lines) == 20
    assert {"debug"}.isdisjoint(line["level"] for line in lines)


CONFIGURATIONS: dict[str, Callable[[], None]] = {
    "structlog": lambda: structlog.configure(
        processors=[structlog.processors.TimeStamper(fmt="iso"), structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(50),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    ),
    "dictConfig": lambda: logging.config.dictConfig({"version": 1}),
    "basicConfig": lambda: logging.basicConfig(level=50, handlers=[logging.NullHandler()], force=True),
    "disable": lambda: logging.disable(logging.CRITICAL),
    "logger class": lambda: logging.setLoggerClass(logging.Logger),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_library_that_configures_logging_does_not_silence_the_connector(name: str, log_lines: Lines) -> None:
    before = log.get_logger(action="server.started")
    before.info("before")
    try:
        CONFIGURATIONS[name]()
        before.info("bound before")
        log.get_logger(action="server.started").info("made after")
        log.event_line("event.processed", "hot", event())
        log.server_logger.error("of the server")
        assert [line["message"] for line in log_lines()] == [
            "before",
            "bound before",
            "made after",
            "hot",
            "of the server",
        ]
    finally:
        structlog.reset_defaults()
        logging.disable(logging.NOTSET)
        log.configure("INFO")


@dataclasses.dataclass
class Shy:
    """It has something that must not be shown."""

    name: str
    token: str = dataclasses.field(repr=False)


def test_a_dataclass_is_shown_without_what_its_repr_leaves_out(log_lines: Lines) -> None:
    log.get_logger().info("it", action="log", it=Shy("n", "very secret"))
    assert "very secret" not in str(log_lines())


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def say(flood: Flood, kind: str = "unauthorized", remote: str | None = "192.0.2.1") -> None:
    flood.line(kind, "POST refused", action="event.refused", remote=remote, status=401)


def test_a_flood_of_refusals_is_sampled_and_summed_up(log_lines: Lines) -> None:
    clock = Clock()
    flood = Flood(clock)
    for _ in range(10_000):
        say(flood)
        clock.now += 0.001
    flood.sum_up()
    lines = log_lines()
    said = [line for line in lines if line["action"] == "event.refused"]
    summaries = [line for line in lines if line["action"] == "log.summary"]
    assert len(said) <= Flood.BURST + 10 + 2
    assert len(said) + sum(line["count"] for line in summaries) == 10_000
    assert summaries[0]["of"] == "event.refused"
    assert summaries[0]["kind"] == "unauthorized"
    assert set(summaries[0]["remotes"]) == {"192.0.2.1"}
    assert said[0]["remote"] == "192.0.2.1"


def test_one_sender_with_a_mistake_is_seen_beside_a_flood(log_lines: Lines) -> None:
    clock = Clock()
    flood = Flood(clock)
    for _ in range(1000):
        say(flood)
    say(flood, remote="198.51.100.7")
    say(flood, kind="invalid", remote="198.51.100.7")
    assert [line["remote"] for line in log_lines()].count("198.51.100.7") == 2


def test_a_flood_of_addresses_and_kinds_has_a_bound(log_lines: Lines) -> None:
    flood = Flood(Clock())
    for number in range(2000):
        say(flood, kind=f"kind {number}", remote=f"192.0.2.{number}")
        say(flood, remote=f"198.51.100.{number}")
    flood.sum_up()
    lines = log_lines()
    assert len(lines) < 64 + 2 * (Flood.BURST + Flood.ADDRESSES + 1)
    assert sum(line.get("count", 1) for line in lines) == 4000


async def test_a_summary_comes_without_a_further_line(log_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flood, "WINDOW", 0.01)
    flood = Flood()
    for _ in range(Flood.BURST + 5):
        say(flood)
    lines: list[dict[str, Any]] = []
    async with asyncio.timeout(20):
        while not any(line["action"] == "log.summary" for line in lines):
            await asyncio.sleep(0.001)
            lines += log_lines()
    assert lines[-1]["count"] == 4  # the first one after the burst is the first of its address
