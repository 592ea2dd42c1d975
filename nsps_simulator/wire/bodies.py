"""Whether the external system was told what the event said: its body, compared with the event's own.

A connector may render the JSON again (other order of fields, other spaces, other escapes): values are compared,
not bytes. Where the connector sends a body of its own making, a mapping says what it should be made of.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import jmespath
import orjson

from nsps_simulator.records import Body
from nsps_simulator.wire.events import EPOCH, FIRST_EVENT, MAX_EVENTS, PER_SECOND, Events

Render = Callable[[dict[str, Any]], Any]
"""From an event's document to the body that the external system should get."""


def read_mapping(path: Path) -> Render:
    """Read a mapping, a TOML or JSON file: its shape is the shape of the body.

    A string stands for what the event has at this JMESPath (the field is left out where that is nothing),
    `{path, default}` for the same or the default, `{constant}` for itself; tables and lists for what they hold,
    numbers and booleans for themselves.

    Raises ValueError that names the file and what is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
        shape = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return _renderer(shape)
    except (OSError, ValueError, jmespath.exceptions.JMESPathError) as error:
        raise ValueError(f"{path} is not a mapping: {error}") from error


def _renderer(shape: Any) -> Render:
    match shape:
        case str():
            return jmespath.compile(shape).search
        case {"constant": constant, **rest} if not rest:
            return lambda _: constant
        case {"path": str(path), **rest} if not rest.keys() - {"default"}:
            search, default = jmespath.compile(path).search, rest.get("default")
            return lambda document: default if (found := search(document)) is None else found
        case dict():
            fields = {name: _renderer(part) for name, part in shape.items()}
            return lambda document: {
                name: value for name, render in fields.items() if (value := render(document)) is not None
            }
        case list():
            items = [_renderer(part) for part in shape]
            return lambda document: [render(document) for render in items]
        case _:
            return lambda _: shape


class Bodies:
    """Compares what the target was told with what the event said.

    mapping: what the body is made of; None for the event as it came. compared: False where the connector makes
    bodies that nothing here can know.
    """

    def __init__(self, events: Events, mapping: Render | None = None, *, compared: bool = True) -> None:
        self._events = events
        self._mapping = mapping
        self._compared = compared

    def compare(self, index: int, body: bytes) -> tuple[Body, str]:
        """Say what the body of a call about event `index` was, and where it differs first (empty: nowhere)."""
        if not self._compared:
            return Body.NOT_COMPARED, ""
        own = self._events.body(index)
        if body == own and self._mapping is None:
            return Body.SAME, ""
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            return (Body.ALTERED, "not JSON") if body.strip() else (Body.EMPTY, "no body")
        if told in ({}, [], None, ""):
            return Body.EMPTY, "nothing in it"
        document = orjson.loads(own)
        expected = document if self._mapping is None else self._mapping(document)
        where = difference(expected, told)
        if where is None:
            return Body.SAME, ""
        return self._whose(index, told), where

    def _whose(self, index: int, told: Any) -> Body:
        """Find out what a wrong body is instead: by its number and by the time of its snapshot."""
        subscriber = self._events.subscriber(index)
        for other in (_by_number(told), _by_time(told)):
            if other is None or other == index:
                continue
            older = other < index and self._events.subscriber(other) == subscriber
            return Body.STALE if older else Body.MIXED_UP
        if self._mapping is None and isinstance(told, dict) and self._has_older_state(index, told):
            return Body.STALE
        return Body.ALTERED

    def _has_older_state(self, index: int, told: dict[str, Any]) -> bool:
        """Whether pb_data is the one of an earlier event of the subscriber, with everything else of this event."""
        subscriber = self._events.subscriber(index)
        for other in range(index - 1, max(-1, index - _LOOK_BACK), -1):
            if self._events.subscriber(other) != subscriber:
                continue
            if orjson.loads(self._events.body(other)).get("pb_data") == told.get("pb_data"):
                return True
        return False


_LOOK_BACK = 5_000  # events; a wrong body is rare, and a subscriber's events come close to each other


def _by_number(told: Any) -> int | None:
    """Read the index of an event from the i_event of a body."""
    found = jmespath.search("data.variables.i_event", told) if isinstance(told, dict) else None
    try:
        index = int(str(found)) - FIRST_EVENT
    except ValueError:
        return None
    return index if 0 <= index < MAX_EVENTS else None


def _by_time(told: Any) -> int | None:
    """Read the index of an event from the time of its snapshot, which no two events share."""
    found = told.get("updated_at") if isinstance(told, dict) else None
    try:
        seconds = (datetime.fromisoformat(str(found)) - EPOCH).total_seconds()
    except (ValueError, TypeError):
        return None
    index = round(seconds * PER_SECOND)
    return index if 0 <= index < MAX_EVENTS else None


def difference(expected: Any, found: Any, where: str = "") -> str | None:
    """Name the first place where two JSON values differ; None when they do not."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return _in_object(expected, found, where)
    if isinstance(expected, list) and isinstance(found, list):
        return _in_list(expected, found, where)
    if type(expected) is type(found) and expected == found:
        return None
    return f"{where or 'the body'} is {_short(found)}, not {_short(expected)}"


def _in_object(expected: dict[str, Any], found: dict[str, Any], where: str) -> str | None:
    for name in [*expected, *(name for name in found if name not in expected)]:
        path = f"{where}.{name}" if where else name
        if name not in found:
            return f"{path} is missing"
        if name not in expected:
            return f"{path} was added"
        if (below := difference(expected[name], found[name], path)) is not None:
            return below
    return None


def _in_list(expected: list[Any], found: list[Any], where: str) -> str | None:
    if len(expected) != len(found):
        return f"{where} has {len(found)} items, not {len(expected)}"
    for number, (one, other) in enumerate(zip(expected, found, strict=True)):
        if (below := difference(one, other, f"{where}[{number}]")) is not None:
            return below
    return None


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."
