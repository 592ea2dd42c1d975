"""A mapping file: what to send to an external system, field by field, from what an event says.

A file in TOML or JSON whose shape is the shape of the body::

    event = "event_id"                                         # a text is a path into the event
    active = { path = "pb_data.account_info.blocked", default = false }
    source = { constant = "nsps" }                             # the same for every event

    [subscriber]                                               # any other table is an object in the body
    imsi = "pb_data.sim_info.imsi"

A field whose path leads to nothing (missing or null) is left out, unless it has a default. Numbers, true and false
stand for themselves. Lists are built item by item. Reading a file names all its faults; applying it cannot fail.
"""

import json
import tomllib
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

import msgspec

from connector.errors import StartError
from connector.events import paths
from connector.events.event import Event
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
    """A mapping that was read and found to be without fault."""

    def __init__(self, name: str, build: Build) -> None:
        self.name = name
        self._build = build

    def __repr__(self) -> str:
        """The file's name."""
        return self.name

    def body(self, event: Event) -> bytes:
        """The JSON body for ``event``."""
        return msgspec.json.encode(self._build(event))


def read(name: str) -> MappingFile:
    """The mapping in a ``.toml`` or ``.json`` file. Raises ValueError with every fault, separated by semicolons."""
    path = Path(name)
    try:
        text = path.read_text("utf-8")
    except OSError as fault:
        raise ValueError(f"{name} cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8") from None
    try:
        document = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (json.JSONDecodeError, tomllib.TOMLDecodeError) as fault:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise ValueError(f"{name} is no {kind}: {fault}") from None
    if not isinstance(document, dict) or not document:
        raise ValueError(f"{name} maps no field")
    faults: list[str] = []
    build = _object(document, "", faults)
    if faults:
        raise ValueError(f"{name}: " + "; ".join(faults))
    return MappingFile(name, build)


def _compile(value: Any, where: str, faults: list[str]) -> Build:
    match value:
        case str():
            return _path(value, where, faults)
        case {"path": str(path)}:
            _refuse_others(value, {"path", "default"}, where, faults)
            read_path = _path(path, where, faults)
            return _with_default(read_path, value["default"]) if "default" in value else read_path
        case {"constant": constant}:
            _refuse_others(value, {"constant"}, where, faults)
            return lambda _: constant
        case {"path": _}:
            faults.append(f"{where}: the path has to be a text")
            return lambda _: None
        case dict():
            return _object(value, where, faults)
        case list():
            items = [_compile(item, f"{where}[{number}]", faults) for number, item in enumerate(value)]
            return lambda event: [item for build in items if (item := build(event)) is not MISSING]
        case bool() | int() | float():
            return lambda _: value
        case _:
            faults.append(f"{where}: a path, a number, true or false, a list or a table is expected")
            return lambda _: None


def _refuse_others(table: Mapping[str, Any], known: AbstractSet[str], where: str, faults: list[str]) -> None:
    if others := sorted(table.keys() - known):
        faults.append(f"{where}: {' and '.join(sorted(known))} may stand there, but not {', '.join(others)}")


def _object(table: Mapping[str, Any], where: str, faults: list[str]) -> Build:
    fields = [(name, _compile(value, f"{where}.{name}" if where else name, faults)) for name, value in table.items()]
    return lambda event: {name: value for name, build in fields if (value := build(event)) is not MISSING}


def _path(path: str, where: str, faults: list[str]) -> Build:
    if path == "event_id":
        return lambda event: event.event_id  # also where NSPS sent none
    try:
        read_field = paths.field(path)
    except ValueError as fault:
        faults.append(f"{where}: {fault}")
        return lambda _: None

    return lambda event: _plain(read_field(event.body))


def _plain(value: Any) -> Any:
    """The value without the documented fields that are missing in it; MISSING where none is left."""
    if isinstance(value, msgspec.Struct):
        names = {field.name: field.encode_name for field in msgspec.structs.fields(value)}
        parts = {names[name]: _plain(part) for name, part in msgspec.structs.asdict(value).items()}
        return {name: part for name, part in parts.items() if part is not MISSING} or MISSING
    if isinstance(value, list):
        return [part for part in map(_plain, value) if part is not MISSING]
    return MISSING if value is None else value


def _with_default(build: Build, default: Any) -> Build:
    def build_or_default(event: Event) -> Any:
        value = build(event)
        return default if value is MISSING else value

    return build_or_default
