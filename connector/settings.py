"""Every setting: name, type, default, unit and meaning. All faults are reported at once.

The names are the environment's (and ``.env``'s) and part of the product. ``.env.example`` lists the same.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from dotenv import dotenv_values

from connector import event as events
from connector.errors import StartError

_SIZE = re.compile(r"(\d+)\s*([kmg]i?b?)?", re.IGNORECASE)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 3650 * 86400.0  # the event loop's timers cannot wait for ever


def _text(value: str) -> str:
    return value.strip()


def _words(value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value) if re.fullmatch(r"-?\d+", value.strip()) else None
        if number is None or not lowest <= number <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest} is expected")
        return number

    return parse


def _size(lowest: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        found = _SIZE.fullmatch(value.strip())
        size = int(found[1]) * _SIZE_UNITS[(found[2] or "")[:1].lower()] if found else -1
        if size < lowest:
            raise ValueError(f"a size in bytes of at least {lowest} is expected, such as 2097152 or 2MiB")
        return size

    return parse


def _seconds(lowest: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        found = _TIME.fullmatch(value.strip())
        time = float(found[1]) * _TIME_UNITS[(found[2] or "s").lower()] if found else -1.0
        if not lowest <= time <= _LONGEST:
            raise ValueError(f"a time in seconds from {lowest:g} to ten years is expected, such as 30, 500ms, 5m, 35d")
        return time

    return parse


def _switch(value: str) -> bool:
    word = value.strip().lower()
    if word not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise ValueError("true or false is expected")
    return word in {"1", "true", "yes", "on"}


def _choice(*names: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value.strip().lower() not in {name.lower() for name in names}:
            raise ValueError(f"one of {', '.join(names)} is expected")
        return next(name for name in names if name.lower() == value.strip().lower())

    return parse


def _path(value: str) -> str:
    path = value.strip()
    if not re.fullmatch(r"/|(/(?!\.{1,2}(/|$))[\w\-.~]+)+/?", path, re.ASCII):
        raise ValueError("a path such as /process-event or / is expected")
    if path in RESERVED_PATHS:
        raise ValueError(f"{path} is one of the connector's own paths: {', '.join(RESERVED_PATHS)}")
    return path


def _field_paths(value: str) -> tuple[str, ...]:
    for path in _words(value):
        events.field(path)
    return _words(value)


def _tokens(value: str) -> tuple[str, ...]:
    for token in _words(value):
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ValueError("tokens are printable ASCII without spaces, separated by commas")
    return _words(value)


def _journal_url(value: str) -> str:
    url = value.strip()
    if url != "memory://" and not re.fullmatch(r"sqlite:///.+", url):
        raise ValueError("sqlite:///data/journal.db (relative), sqlite:////var/lib/journal.db or memory:// is expected")
    return url


RESERVED_PATHS = ("/health", "/ready", "/openapi.json")


def _setting(default: str, parse: Callable[[str], Any], meaning: str, *, secret: bool = False) -> Any:
    return field(
        default_factory=lambda: parse(default),
        metadata={"default": default, "parse": parse, "meaning": meaning},
        repr=not secret,
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one connector. Sizes are bytes and times seconds; a field's meaning is its metadata."""

    api_token: tuple[str, ...] = _setting(
        "",
        _tokens,
        "Bearer tokens that NSPS may use; several, comma-separated, for rotation. "
        "Unset: one is made at start and printed to stderr.",
        secret=True,
    )
    host: str = _setting("0.0.0.0", _text, "Address to listen on.")  # noqa: S104 - a container's address is not known
    port: int = _setting("3000", _whole(0, 65535), "Port to listen on; 0 takes a free one.")
    event_path: str = _setting("/process-event", _path, "Path that NSPS posts events to; / is legal.")
    required_fields: tuple[str, ...] = _setting(
        "data.event_type,pb_data.account_info.bill_status",
        _field_paths,
        "Fields without which an event is refused (422), comma-separated.",
    )
    order_by: tuple[str, ...] = _setting(
        "pb_data.account_info.i_account,data.variables.i_account,pb_data.sim_info.i_account,pb_data.sim_info.imsi",
        _field_paths,
        "Fields that name the subscriber; the first that is there counts. Events of one subscriber run in order.",
    )
    max_body_bytes: int = _setting("2MiB", _size(1024), "Largest body, after inflating (413 above it).")
    body_timeout: float = _setting("30s", _seconds(0.01), "How long a body may take to arrive (408 after it).")
    handlers: tuple[str, ...] = _setting(
        "", _words, "Modules with your handlers, comma-separated import paths. Unset: every event is logged."
    )
    handler_timeout: float = _setting("60s", _seconds(0.01), "When an attempt to handle an event is cut off.")
    max_attempts: int = _setting("50", _whole(1, 1_000_000), "Attempts until an event is dead, the first included.")
    max_age: float = _setting("7d", _seconds(0), "Age at which an event that still fails is dead.")
    retry_base: float = _setting("1s", _seconds(0.001), "Wait after the first failed attempt; it doubles each time.")
    retry_max: float = _setting("10m", _seconds(0.001), "Longest wait between two attempts.")
    on_dead: str = _setting(
        "continue",
        _choice("continue", "hold"),
        "What a dead event does to its subscriber: continue with the next one, or hold until an operator decides.",
    )
    workers: int = _setting("8", _whole(1, 1000), "How many events are handled at the same time.")
    queue_size: int = _setting("1000", _whole(1, 1_000_000), "How many events are held in memory.")
    journal_url: str = _setting(
        "sqlite:///data/journal.db",
        _journal_url,
        "Where accepted events are kept: sqlite:///relative or sqlite:////absolute path; memory:// keeps nothing.",
    )
    max_backlog: int = _setting("1000000", _whole(1, 1_000_000_000), "Events that may be open (429 above it).")
    min_free_disk: int = _setting("256MiB", _size(0), "Room on the journal's disk that is left alone (429 below it).")
    keep_done: float = _setting("3d", _seconds(0), "How long an event that ended well can be looked at and replayed.")
    keep_dead: float = _setting("35d", _seconds(0), "How long a dead event can be looked at and replayed.")
    keep_ids: float = _setting("35d", _seconds(0), "How long an event id is remembered, so that it is not repeated.")
    response: str = _setting(
        "accepted",
        _choice("accepted", "outcome"),
        "When a request is answered: once its event is kept, or once its outcome is known. See docs/outcome-mode.md.",
    )
    outcome_timeout: float = _setting(
        "20s", _seconds(0.01), "With RESPONSE=outcome: when a request is answered 202 although its event still runs."
    )
    drain_timeout: float = _setting("25s", _seconds(0), "How long a stop waits for events that are being handled.")
    log_level: str = _setting("INFO", _choice("DEBUG", "INFO", "WARNING", "ERROR"), "Least level that is logged.")
    access_log: bool = _setting("false", _switch, "Also log a line for each HTTP request.")

    @property
    def journal_path(self) -> Path | None:
        """The file of an SQLite journal; None for another kind of journal."""
        kind, _, path = self.journal_url.partition(":///")
        return Path(path) if kind == "sqlite" else None

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings in ``environment``. Raises StartError with every fault, one a line; never shows a value."""
        values: dict[str, Any] = {}
        faults: list[str] = []
        for each in fields(cls):
            name = each.name.upper()
            text = environment.get(name, "")
            if not text.strip():
                continue
            try:
                values[each.name] = each.metadata["parse"](text)
            except ValueError as fault:
                faults.append(f"{name}: {fault}")
        if faults:
            raise StartError("\n".join(faults))
        return cls(**values)


def environment() -> dict[str, str]:
    """The process's environment, and ``.env`` in the working directory where it is silent. Raises StartError."""
    path = Path.cwd() / ".env"
    try:
        found = {name: text for name, text in dotenv_values(path).items() if text is not None}
    except (OSError, UnicodeDecodeError) as fault:
        raise StartError(f"{path} cannot be read: {fault}") from None
    return found | os.environ


def describe() -> list[tuple[str, str, str]]:
    """Every setting as (name, default as it would stand in ``.env``, meaning), in the order of declaration."""
    return [
        (each.name.upper(), cast("str", each.metadata["default"]), cast("str", each.metadata["meaning"]))
        for each in fields(Settings)
    ]
