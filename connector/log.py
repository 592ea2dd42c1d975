"""Log lines: one JSON object a line on stdout, each with ``timestamp``, ``level``, ``message`` and ``action``.

Rules
-----
1. **A log call never fails its caller.** A wrong format string, a value that cannot be turned into text or that
   contains itself: the line is written all the same, and its field ``log_error`` says what was wrong.
2. **A log call never waits.** Lines go into a buffer of ``BUFFER`` bytes; a thread of its own gathers them for
   ``GATHER`` seconds and writes them together. While stdout is not read, the buffer fills; then lines are dropped and
   counted, and the first line after the gap (``log.dropped``) says how many.
3. **A line is whole**, from whatever thread it comes: only the one thread writes.
4. **The configuration is the connector's own.** What handlers or libraries do with ``structlog.configure`` or with
   ``logging`` changes their lines, not these.
5. **Lines that anybody can cause are sampled** (``connector.flood``).

The two lines of each event are put together by hand (``event_line``); all others go through structlog's processors.
No token, no body and no personal field goes into a log.
"""

import atexit
import contextlib
import logging
import math
import os
import select
import threading
import time
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from itertools import accumulate
from json import dumps
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger

_LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}

GATHER: Final = 0.01
"""Seconds that lines are gathered. A SIGKILL loses those of its last moment, as it does with any log."""

BUFFER: Final = 4 * 2**20
"""Bytes of lines that wait to be written; as many again may be on their way. Some ten thousand lines."""

LAST_LINES: Final = 2.0
"""Seconds that the end of the process waits for the last lines to be read."""

DEPTH: Final = 8
"""Levels of lists and dicts that a field is followed, where it is not plain JSON."""


class Traced(Protocol):
    """An event, as far as lines and counts about it need to know it."""

    @property
    def event_type(self) -> str:
        """Such as ``SIM/Updated``."""

    @property
    def log_ids(self) -> bytes:
        """What the function of this name gives for it."""


class LineWriter:
    """Writes lines to a file descriptor from a thread of its own. Any thread may call ``write``.

    The thread starts with the first line. A forked child has no such thread and writes each line at once.
    """

    def __init__(self, fd: int = 1, buffer: int = BUFFER) -> None:
        self._fd = fd
        self._buffer = buffer
        self.dropped = 0
        """Lines that were dropped since the start."""
        self._thread: threading.Thread | None = None
        self._at_once = False
        self._empty()

    def _empty(self) -> None:
        # Reentrant: a finalizer that runs inside ``write`` may itself write a line.
        self._lock = threading.RLock()
        self._wake: SimpleQueue[threading.Event | None] = SimpleQueue()
        self._lines: list[bytes] = []
        self._size = 0
        self._gap = 0  # lines dropped behind those that wait
        self._lost = 0  # lines dropped before them, since they could not be written
        self._torn = False

    def write(self, line: bytes) -> None:
        """Take one line, its newline included. Returns at once."""
        with self._lock:
            if self._lines and (self._gap or self._size + len(line) > self._buffer):
                self._gap += 1
                self.dropped += 1
                return
            self._lines.append(line)
            was_half_full = self._size * 2 > self._buffer
            self._size += len(line)
            if len(self._lines) > 1 and (was_half_full or self._size * 2 <= self._buffer):
                return
            if self._thread is None:
                self._start()
            if self._at_once:
                self._write_waiting()
        self._wake.put(None)

    def flush(self, timeout: float = LAST_LINES) -> bool:
        """Wait until all lines taken so far are written, at most ``timeout`` seconds; whether they are."""
        if self._thread is None or self._at_once:
            return True
        done = threading.Event()
        self._wake.put(done)
        return done.wait(timeout)

    def forked(self) -> None:
        """To be called in a forked child: the lines that wait are the parent's, and the thread is not here."""
        self._empty()
        self._thread, self._at_once = threading.current_thread(), True

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no room for another thread, or the interpreter is about to end
            self._at_once = True

    def _run(self) -> None:
        while True:
            asked = self._wake.get()
            if asked is None:
                with contextlib.suppress(Empty):
                    asked = self._wake.get(timeout=GATHER)
            self._write_waiting()
            if asked is not None:
                asked.set()

    def _write_waiting(self) -> None:
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
            gap, self._gap = self._gap, 0
        lost = self._lost
        head = [_notice(lost)] if lost else []
        tail = [_notice(gap)] if gap else []
        written = self._write_lines(head + lines + tail) - len(head)
        if written == len(lines) + len(tail):
            self._lost = 0
            return
        left = len(lines) - max(0, written)
        self._lost = (lost if written < 0 else 0) + left + gap
        with self._lock:
            self.dropped += left

    def _write_lines(self, lines: list[bytes]) -> int:
        """How many of the lines were written; all of them where the descriptor takes them."""
        if not lines:
            return 0
        if self._torn:
            lines = [b"\n" + lines[0], *lines[1:]]
        data = memoryview(b"".join(lines))
        start = 0
        while start < len(data):
            try:
                start += os.write(self._fd, data[start:])
            except BlockingIOError:  # somebody made stdout non-blocking, and its reader is slow
                _wait_for_room(self._fd)
            except OSError:  # nobody reads any more, or its disk is full: no reason to stop accepting
                break
        else:
            self._torn = False
            return len(lines)
        ends = list(accumulate(map(len, lines)))
        if start:
            self._torn = start not in ends
        return sum(end <= start for end in ends)


def _notice(count: int) -> bytes:
    return _line(
        {
            "timestamp": timestamp(),
            "level": "warning",
            "message": f"Lines are missing here, since stdout could not take them: {count}",
            "action": "log.dropped",
            "count": count,
        }
    )


def _wait_for_room(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(1000)


writer: Final = LineWriter()
atexit.register(writer.flush)
os.register_at_fork(after_in_child=writer.forked)

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
    made = _made
    if second != made[0]:
        made = _made = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode())
    return made[1] + _MILLISECONDS[int((now - second) * 1000)]


def event_line(
    action: str, message: str, event: Traced, level: str = "info", more: Mapping[str, Any] | None = None
) -> None:
    """One line about an event, with its ids and what ``more`` there is to say.

    Put together by hand: every event has two of these, and its ids are the greater part of both.
    """
    if _LEVELS[level] < _least:
        return
    head = _head(level, message, action)
    tail = b"," + _line(more)[1:-2] if more else b""
    writer.write(b'{"timestamp":"%b",%b,%b%b}\n' % (_timestamp(), head, event.log_ids, tail))


def log_ids(request_id: str, unique_id: str, event_id: str, event_type: str) -> bytes:
    """The ids of an event as they stand in each of its lines."""
    ids = {"request_id": request_id, "unique_id": unique_id, "event_id": event_id, "event_type": event_type}
    return _line(ids)[1:-2]


@lru_cache(maxsize=256)
def _head(level: str, message: str, action: str) -> bytes:
    return _line({"level": level, "message": message, "action": action})[1:-2]


class _Output:
    """Where structlog's chain ends."""

    def msg(self, line: bytes) -> None:
        writer.write(line)


class _Logger(structlog.BoundLoggerBase):
    """structlog's filtering bound logger, with a level that can be set later and calls that never fail.

    The methods of each level (``info``, ``ainfo`` ...) are added below.
    """

    def _say(self, level: str, message: Any, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        if _LEVELS[level] < _least:
            return
        try:
            message = message if isinstance(message, str) else _text(message)
            if args:
                message = message % (args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args)
            (line,), _ = self._process_event(level, message, fields)
        except BaseException as error:  # noqa: BLE001 - whatever a value's own code raises is no error of the caller
            line = _rendered(level, message, {**self._context, **fields, "log_error": _named(error)})
        self._logger.msg(line)

    def log(self, level: int, event: Any = None, /, *args: Any, **fields: Any) -> None:
        name = next((name for name, number in reversed([*_LEVELS.items()]) if number <= level), "debug")
        self._say(name, event, args, fields)

    async def alog(self, level: int, event: Any = None, /, *args: Any, **fields: Any) -> None:
        self.log(level, event, *args, **fields)

    def is_enabled_for(self, level: int) -> bool:
        return level >= _least

    def get_effective_level(self) -> int:
        return _least


def _add_methods(name: str, level: str, **always: Any) -> None:
    def method(self: _Logger, event: Any = None, /, *args: Any, **fields: Any) -> None:
        self._say(level, event, args, always | fields)

    async def amethod(self: _Logger, event: Any = None, /, *args: Any, **fields: Any) -> None:
        self._say(level, event, args, always | fields)

    setattr(_Logger, name, method)
    setattr(_Logger, f"a{name}", amethod)


for _level in _LEVELS:
    _add_methods(_level, _level)
for _name, _level in {"warn": "warning", "err": "error", "fatal": "critical", "msg": "info"}.items():
    _add_methods(_name, _level)
_add_methods("exception", "error", exc_info=True)


def _render(_: Any, __: str, fields: MutableMapping[str, Any]) -> bytes:
    level, message = fields.pop("level"), fields.pop("message")
    return _line({"timestamp": timestamp(), "level": level, "message": message, **fields})


_PROCESSORS: Final[list[structlog.typing.Processor]] = [
    structlog.processors.add_log_level,
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
    structlog.processors.EventRenamer("message"),
    _render,
]


def get_logger(**bound: Any) -> FilteringBoundLogger:
    """A structlog logger with fields bound; give each line an ``action``."""
    return cast("FilteringBoundLogger", _Logger(_Output(), _PROCESSORS, bound))


def _rendered(level: str, message: Any, fields: dict[str, Any]) -> bytes:
    """A line whose fields could not go through the processors."""
    fields.pop("exc_info", None)
    return _render(None, "", {**fields, "level": level, "message": _text(message)})


def _line(fields: Mapping[str, Any]) -> bytes:
    try:
        # A dataclass is shown by its repr, since that leaves out what must not be shown.
        return orjson.dumps(fields, default=_text, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATACLASS)
    except BaseException:  # noqa: BLE001 - what orjson has no form for: surrogates, huge numbers, a list in itself
        return dumps(_plain(fields, DEPTH)).encode() + b"\n"


def _plain(value: Any, depth: int) -> Any:
    """The value as JSON can have it, down to ``depth``."""
    try:
        match value:
            case None | bool():
                return value
            case str():
                return value.encode("utf-8", "backslashreplace").decode()
            case int():
                return int(value) if abs(value) < 2**64 else _text(value)
            case float():
                return float(value) if math.isfinite(value) else None
            case Mapping() if depth:
                return {_text(key): _plain(part, depth - 1) for key, part in list(value.items())}
            case list() | tuple() | set() | frozenset() if depth:
                return [_plain(part, depth - 1) for part in list(value)]
            case Mapping() | list() | tuple() | set() | frozenset():
                return "..."
        return _text(value)
    except BaseException as error:  # noqa: BLE001 - see _text
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _text(value: Any) -> str:
    """``str(value)``, whatever that raises; never a lone surrogate."""
    try:
        return str(value).encode("utf-8", "backslashreplace").decode()
    except BaseException as error:  # noqa: BLE001 - even SystemExit: a value's own code must not end the process
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {_text(error)}"


def configure(level: str) -> None:
    """Log from ``level`` up; lines of the standard library's logging get the same form."""
    global _least  # the process has one stdout and one level
    _least = _LEVELS[level.lower()]
    logging.basicConfig(level=max(_least, logging.INFO), handlers=[_StandardLibraryHandler()], force=True)


class _StandardLibraryHandler(logging.Handler):
    """Lines of libraries (aiohttp, asyncio) in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"action": "log", "logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        # A single mapping stands in ``args`` itself (logging.LogRecord).
        args = record.args if isinstance(record.args, tuple) else (record.args,) if record.args else ()
        _log.log(record.levelno, record.msg, *args, **fields)


_log: Final = get_logger()


class _OwnLogger(logging.Logger):
    """A logger that is in no registry: ``dictConfig``, ``basicConfig`` and ``disable`` do not reach it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.manager = logging.Manager(logging.RootLogger(logging.WARNING))
        self.addHandler(_StandardLibraryHandler())


server_logger: Final[logging.Logger] = _OwnLogger("connector.http")
"""Where aiohttp tells of connections that went wrong."""
