"""Paths into an event, as settings, handlers and mappings name its fields. Pure."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from connector.events.event import EventBody

Getter = Callable[[EventBody], Any]


def field(path: str) -> Getter:
    """The function that reads a dotted path such as ``pb_data.sim_info.imsi`` from a body (None where missing).

    Below ``data.variables`` any name is taken. Raises ValueError where the path is no documented field, so that
    a misspelt setting stops the start rather than refusing every event.
    """
    steps = path.split(".")
    model: Any = EventBody
    for depth, step in enumerate(steps):
        if model is dict:
            read_dict = attrgetter(".".join(steps[:depth]))
            rest = steps[depth:]
            return lambda body: descend(read_dict(body), rest)
        names = {msgspec_field.name: msgspec_field for msgspec_field in _fields(model)}
        if step not in names:
            known = ", ".join(sorted(names)) or "nothing"
            raise ValueError(f"{path}: no field {step!r} is documented there (known: {known})")
        model = _model(names[step].type)
    return attrgetter(path)


class _Field(msgspec.Struct):
    name: str
    type: Any


def _fields(model: Any) -> list[_Field]:
    if not (isinstance(model, type) and issubclass(model, msgspec.Struct)):
        return []
    hints = get_type_hints(model)
    return [_Field(f.encode_name, hints[f.name]) for f in msgspec.structs.fields(model)]


def _model(annotation: Any) -> Any:
    """The struct or ``dict`` that a field's annotation is about, else None."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return next(filter(None, map(_model, get_args(annotation))), None)
    if get_origin(annotation) is dict:
        return dict
    return annotation if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct) else None


def descend(value: Any, steps: Sequence[str]) -> Any:
    """What a parsed body has below these steps; None where nothing is."""
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value
