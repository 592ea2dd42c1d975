"""Log lines: one JSON object a line on stdout, each with ``timestamp``, ``level``, ``message`` and ``action``.

Lines made in the event loop are gathered for a moment and written together: a system call for each would cost more
than making the line. The two lines that every event has go straight to the writer (``event_line``); everything else
goes through structlog. No token, no body and no personal field goes into a log.
"""

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Protocol

import orjson
import structlog

_LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


GATHER: Final = 0.01
"""Seconds that lines are gathered; what is written after a SIGKILL's last moment is lost, as for any log."""


class Traced(Protocol):
    """What the lines about an event have in common; ``log_ids`` is kept for the next line."""

    request_id: str
    unique_id: str
    event_id: str
    event_type: str
    log_ids: bytes | None


class LineWriter:
    """Writes lines to a file descriptor: at once, or gathered for ``GATHER`` seconds after ``attach``."""

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self._lines: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gather the lines that the loop's thread makes. To be undone by ``detach`` before the loop closes."""
        self._loop, self._thread = loop, threading.get_ident()

    def detach(self) -> None:
        """Write what is gathered; from now on each line at once."""
        self._loop = None
        self.flush()

    def write(self, line: bytes) -> None:
        """Take one line, its newline included."""
        if self._loop is None or threading.get_ident() != self._thread:
            self._write(line)
            return
        if not self._lines:
            self._loop.call_later(GATHER, self.flush)
        self._lines.append(line)

    def flush(self) -> None:
        """Write what is gathered."""
        if self._lines:
            lines, self._lines = b"".join(self._lines), []
            self._write(lines)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody made stdout non-blocking and its reader is slow
                time.sleep(0.001)
            except OSError:  # nobody reads any more: no reason to stop accepting
                return


writer = LineWriter()
_least = _LEVELS["info"]
_made = (-1, b"")
_MILLISECONDS: Final = tuple(b".%03dZ" % number for number in range(1000))


def timestamp() -> str:
    """Now in UTC, ISO 8601 with milliseconds."""
    return _timestamp().decode()


def _timestamp() -> bytes:
    global _made  # the greater part of a time is the same for a second
    now = time.time()
    second = int(now)
    if second != _made[0]:
        _made = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode())
    return _made[1] + _MILLISECONDS[int((now - second) * 1000)]


def event_line(
    action: str, message: str, event: Traced, level: str = "info", more: Mapping[str, Any] | None = None
) -> None:
    """One line about an event, with its ids and what ``more`` there is to say.

    Put together by hand: every event has two of these, and its ids are the greater part of both.
    """
    if _LEVELS[level] < _least:
        return
    ids = event.log_ids
    if ids is None:
        ids = event.log_ids = _line(
            {
                "request_id": event.request_id,
                "unique_id": event.unique_id,
                "event_id": event.event_id,
                "event_type": event.event_type,
            }
        )[1:-2]
    head = _line({"level": level, "message": message, "action": action})[1:-2]
    tail = b"," + _line(more)[1:-2] if more else b""
    writer.write(b'{"timestamp":"%b",%b,%b%b}\n' % (_timestamp(), head, ids, tail))


def get_logger(**bound: Any) -> structlog.typing.FilteringBoundLogger:
    """A structlog logger with fields bound; give each line an ``action``."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**bound)
    return logger


def configure(level: str) -> None:
    """Send structlog and the standard library's logging to the writer, from ``level`` up."""
    global _least  # the process has one stdout and one level
    _least = _LEVELS[level.lower()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_least),
        logger_factory=lambda *_: _Output(),
        cache_logger_on_first_use=False,
    )
    handler = _StandardLibraryHandler()
    logging.basicConfig(level=max(_least, logging.INFO), handlers=[handler], force=True)


server_logger = logging.getLogger("connector.http")
"""Where aiohttp tells of connections that went wrong."""


class _Output:
    def msg(self, line: bytes) -> None:
        writer.write(line)

    debug = info = warning = warn = error = critical = exception = fatal = msg


def _render(_: Any, __: str, fields: MutableMapping[str, Any]) -> bytes:
    return _line({"timestamp": timestamp(), "level": fields.pop("level"), "message": fields.pop("message"), **fields})


def _line(fields: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # what orjson has no form for, such as a lone surrogate in the text of an exception
        return json.dumps(fields, default=str, skipkeys=True).encode() + b"\n"


class _StandardLibraryHandler(logging.Handler):
    """Lines of libraries (aiohttp, asyncio) in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"level": record.levelname.lower(), "action": "log", "logger": record.name}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        writer.write(_render(None, "", {"message": record.getMessage(), **fields}))
