"""A mapping file: what to send to an external system, field by field, from what an event says.

A file in TOML or JSON whose shape is the shape of the body::

    event = "event_id"                                         # a text is a path into the event
    active = { path = "pb_data.account_info.blocked", default = false }
    profile = "attribute(pb_data, 'cs_profile')"
    source = { constant = "nsps" }                             # the same for every event

    [subscriber]                                               # any other table is an object in the body
    imsi = "pb_data.sim_info.imsi"

Paths are those of ``connector.events.paths``. A field whose path leads to nothing (missing or null) is left out, unless
it has a default; an item of a list keeps its place and is null. An object maps with all that came in it. Numbers, true
and false stand for themselves. Reading a file names all its errors; applying it cannot fail.
"""

import json
import math
import tomllib
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

import msgspec

from connector.errors import StartError
from connector.events import paths
from connector.events.event import Event
from connector.events.reading import MAX_DEPTH
from connector.settings import Settings

Build = Callable[[Event], Any]

MISSING: Final = msgspec.UNSET
"""What a path that leads to nothing gives."""


def from_settings(settings: Settings) -> "MappingFile | None":
    """The mapping that FORWARD_MAPPING names, None without one. Raises StartError."""
    if not settings.forward_mapping:
        return None
    try:
        return read(settings.forward_mapping)
    except ValueError as error:
        raise StartError(f"FORWARD_MAPPING: {error}") from None


class MappingFile:
    """A mapping that was read and found to be without error. ``warnings``: what its author may not have meant."""

    def __init__(self, name: str, build: Build, warnings: list[str]) -> None:
        self.name = name
        self.warnings = tuple(warnings)
        self._build = build

    def __repr__(self) -> str:
        """The file's name."""
        return self.name

    def body(self, event: Event) -> bytes:
        """The JSON body for ``event``."""
        return msgspec.json.encode(self._build(event))


class _Findings:
    """What is found wrong, or odd, while a mapping is read."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []


def read(name: str) -> MappingFile:
    """The mapping in a ``.toml`` or ``.json`` file. Raises ValueError with every error, separated by semicolons."""
    file = Path(name)
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8") from None
    try:
        document = json.loads(text) if file.suffix.lower() == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        kind = "JSON" if file.suffix.lower() == ".json" else "TOML"
        raise ValueError(f"{name} is no {kind}: {error}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from None
    if not isinstance(document, dict) or not document:
        raise ValueError(f"{name} maps no field")
    if _depth(document) > MAX_DEPTH:
        raise ValueError(f"{name}: tables and lists stand in each other deeper than {MAX_DEPTH}")
    found = _Findings()
    build = _object(document, "", found)
    if found.errors:
        raise ValueError(f"{name}: " + "; ".join(found.errors))
    return MappingFile(name, build, found.warnings)


def _depth(value: Any) -> int:
    """How deep tables and lists stand in each other; looks no further than one past MAX_DEPTH."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        inner = [each for each in level if isinstance(each, dict | list)]
        depth += bool(inner)
        level = [part for each in inner for part in (each.values() if isinstance(each, dict) else each)]
    return depth


def _compile(value: Any, where: str, found: _Findings) -> Build:
    match value:
        case str():
            return _path(value, where, found)
        case {"path": str(text)}:
            _refuse_others(value, {"path", "default"}, where, found)
            read_path = _path(text, where, found)
            if "default" not in value:
                return read_path
            return _with_default(read_path, _sendable(value["default"], where, found))
        case {"constant": constant}:
            _refuse_others(value, {"constant"}, where, found)
            sendable = _sendable(constant, where, found)
            return lambda _: sendable
        case {"path": _}:
            found.errors.append(f"{where}: the path has to be a text")
            return _nothing
        case dict():
            return _object(value, where, found)
        case list():
            items = [_compile(item, f"{where}[{number}]", found) for number, item in enumerate(value)]
            return lambda event: [None if (item := build(event)) is MISSING else item for build in items]
        case bool() | int() | float():
            number = _sendable(value, where, found)
            return lambda _: number
        case _:
            found.errors.append(f"{where}: a path, a number, true or false, a list or a table is expected")
            return _nothing


def _nothing(_: Event) -> Any:
    return None


def _sendable(value: Any, where: str, found: _Findings) -> Any:
    """A constant, if JSON can say it."""
    if isinstance(value, float) and not math.isfinite(value):
        found.errors.append(f"{where}: JSON has no number {value}")
    elif isinstance(value, dict):
        return {name: _sendable(part, f"{where}.{name}", found) for name, part in value.items()}
    elif isinstance(value, list):
        return [_sendable(part, f"{where}[{place}]", found) for place, part in enumerate(value)]
    return value


def _refuse_others(table: Mapping[str, Any], known: AbstractSet[str], where: str, found: _Findings) -> None:
    if others := sorted(table.keys() - known):
        found.errors.append(f"{where}: {' and '.join(sorted(known))} may stand there, but not {', '.join(others)}")


def _object(table: Mapping[str, Any], where: str, found: _Findings) -> Build:
    fields = [(name, _compile(value, f"{where}.{name}" if where else name, found)) for name, value in table.items()]
    return lambda event: {name: value for name, build in fields if (value := build(event)) is not MISSING}


def _path(text: str, where: str, found: _Findings) -> Build:
    if text.strip() == "event_id":
        return lambda event: event.event_id  # also where NSPS sent none
    hint = f"a text that is sent as it stands is {{ constant = {json.dumps(text)} }}"
    try:
        path = paths.path(text)
    except ValueError as error:
        found.errors.append(f"{where}: {error}; {hint}")
        return _nothing
    if path.warning:
        found.warnings.append(f"{where}: {path.warning}" + ("" if "." in text else f"; {hint}"))

    def build(event: Event) -> Any:
        value = event.field(text)
        return MISSING if value is None else value

    return build


def _with_default(build: Build, default: Any) -> Build:
    def build_or_default(event: Event) -> Any:
        value = build(event)
        return default if value is MISSING else value

    return build_or_default
