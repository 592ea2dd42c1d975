"""Paths into an event: one language for mappings, REQUIRED_FIELDS, ORDER_BY, ``require`` and ``skip_unless``. Pure.

A path is a JMESPath expression (https://jmespath.org) over the body of the event::

    pb_data.sim_info.imsi                                         a field
    data.variables."marketplace.name"                             a field with a dot in its name
    pb_data.account_info.assigned_addons[0].name                  an item of a list
    pb_data.account_info.assigned_addons[?i_vd_plan].name | [0]   the first item that has a field
    attribute(pb_data, 'cs_profile')                              an attribute of an access policy, by its name
    in_service(pb_data.account_info)                              whether the account is to have service

1. A documented field reads as in the typed body: ``"7"`` is 7, what cannot be read is null. Others read as they came.
2. Any field can be named, documented or not. ``Path.warning`` says where a name is close to a documented one.
3. A plain dotted path may have characters in its names that JMESPath wants in quotes, such as a hyphen.
4. ``pb_data.access_policy_info`` comes as an object or as a list. A plain path reads a list as its first policy with
   the attributes of all; any other path that leads to nothing in the form that came is read in the other one.
5. Whatever leads to nothing, or fails on what an event says, reads as None.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from operator import attrgetter
from types import UnionType
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin, get_type_hints

import jmespath
import jmespath.exceptions
import msgspec
from jmespath.functions import Functions, signature

from connector.events.body import AccountInfo, EventBody, PBData
from connector.events.reading import Reading

_PLAIN: Final = re.compile(r"[^\s.,\[\]{}()\"'`|&!<>=*?@#\\]+(?:\.[^\s.,\[\]{}()\"'`|&!<>=*?@#\\]+)*")
_POLICIES: Final = "access_policy_info"


class _Functions(Functions):
    """What JMESPath has no short way to say."""

    @signature({"types": ["object", "null"]}, {"types": ["string"]})
    def _func_attribute(self, pb_data: dict[str, Any] | None, name: str) -> str | None:
        return None if pb_data is None else msgspec.convert(pb_data, PBData).attribute(name)

    @signature({"types": ["object", "null"]})
    def _func_in_service(self, account: dict[str, Any] | None) -> bool:
        return account is not None and msgspec.convert(account, AccountInfo).in_service


_OPTIONS: Final = jmespath.Options(custom_functions=_Functions())


class Path:
    """A path that was found to be legal. Called with what a body says, it gives what stands there, else None.

    ``text``     the path as it was written
    ``is_plain`` whether it is a chain of names, which leads to one place in a body
    ``warning``  where a name in it is not documented: which, and what is near; else None
    """

    def __init__(self, text: str) -> None:
        """Raises ValueError with the reason where ``text`` is no path."""
        self.text = text.strip()
        self._read = _reader(self.text)
        self.warning = _warning(self.text)
        self.is_plain = _PLAIN.fullmatch(self.text) is not None and _POLICIES not in self.text

    def __repr__(self) -> str:
        """The path as it was written."""
        return self.text

    def __call__(self, reading: Reading) -> Any:
        """What stands at the path; None where nothing does."""
        return self._read(reading)


@lru_cache(maxsize=256)
def path(text: str) -> Path:
    """The path, made once for each text. Raises ValueError where ``text`` is no path."""
    return Path(text)


def is_absent(value: Any) -> bool:
    """Whether what stands at a path counts as missing: nothing, a blank text, an empty list or object."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or (not value and isinstance(value, list | dict))


def split(text: str, separator: str) -> list[str]:
    """The parts of a setting that holds several paths; a separator within quotes or brackets parts nothing."""
    parts, depth, quote, start = [], 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[place - 1] != "\\" else quote
        elif letter in "\"'`":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == separator and depth <= 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _reader(text: str) -> Callable[[Reading], Any]:
    plain = _PLAIN.fullmatch(text) is not None
    if plain:
        steps = text.split(".")
        typed = _typed(steps)
        if typed is not None:
            return typed
        if text[0].isdigit():
            raise ValueError(f"{text} is no path: a name is expected")
        text = ".".join(f'"{step}"' for step in steps)
    try:
        expression = jmespath.compile(text)
    except jmespath.exceptions.JMESPathError as error:
        raise ValueError(f"{text or 'an empty text'} is no path: {str(error).splitlines()[0]}") from None
    either = _POLICIES in text

    def search(reading: Reading) -> Any:
        forms = _forms(reading.readable, plain) if either else [reading.readable]
        found = (_search(expression, form) for form in forms)
        return next((value for value in found if not is_absent(value)), None)

    return search


def _search(expression: jmespath.parser.ParsedResult, document: Any) -> Any:
    try:
        return expression.search(document, options=_OPTIONS)
    except Exception:  # noqa: BLE001 - an expression that fails on what an event says leads to nothing there
        return None


def _typed(steps: Sequence[str]) -> Callable[[Reading], Any] | None:
    """The fast way to a documented scalar, or to a variable; None for any other path."""
    model: Any = EventBody
    for depth, step in enumerate(steps):
        fields = _fields(model)
        if step not in fields:
            return None
        model = _model(fields[step])
        if model is dict:
            return _variable(steps[depth + 1 :])
    if model is not None or _POLICIES in steps:
        return None  # an object maps with its undocumented fields
    read_body = cast("Callable[[EventBody], Any]", attrgetter(".".join(steps)))
    return lambda reading: read_body(reading.body)


def _variable(steps: Sequence[str]) -> Callable[[Reading], Any] | None:
    return (lambda reading: descend(reading.body.data.variables, steps)) if steps else None


def _forms(readable: dict[str, Any], plain: bool) -> list[dict[str, Any]]:
    """The readable body with its access policies in either form; as an object first, for a plain path."""
    pb_data = readable.get("pb_data") or {}
    policies = pb_data.get(_POLICIES)
    if isinstance(policies, dict):
        return [readable, {**readable, "pb_data": {**pb_data, _POLICIES: [policies]}}]
    if not policies:
        return [readable]
    attributes = [each for policy in policies for each in policy.get("attributes") or ()]
    as_object = {**readable, "pb_data": {**pb_data, _POLICIES: {**policies[0], "attributes": attributes}}}
    return [as_object, readable] if plain else [readable, as_object]


def _warning(text: str) -> str | None:
    """Where the first undocumented name of a path stands, and what is near; None where all are documented."""
    model: Any = EventBody
    where: list[str] = []
    for step in _names(text):
        fields = _fields(model)
        if not fields:
            return None
        if step not in fields:
            near = get_close_matches(step, fields, n=3, cutoff=0.5)
            hint = f"near: {', '.join(near)}" if near else f"documented are: {', '.join(sorted(fields))}"
            name = ".".join([*where, step])
            return (
                f"{name} is not documented ({hint})" if name == text else f"{text}: {name} is not documented ({hint})"
            )
        where.append(step)
        model = _model(fields[step])
    return None


def _names(text: str) -> list[str]:
    """The names of fields that a path goes through from the body on, as far as it is a chain of them."""
    if _PLAIN.fullmatch(text):
        return text.split(".")
    names: list[str] = []
    _follow(jmespath.compile(text).parsed, names)
    return names


def _follow(node: Mapping[str, Any], names: list[str]) -> bool:
    """Collect the chain of names in ``node``; False where it ends in what is no name."""
    children = node.get("children", [])
    match node["type"]:
        case "field":
            names.append(node["value"])
            return True
        case "subexpression" | "index_expression" | "pipe":
            return all(_follow(child, names) for child in children)
        case "projection" | "filter_projection":
            return all(_follow(child, names) for child in children[:2])
        case "index" | "slice" | "identity":
            return True
        case "flatten":
            return _follow(children[0], names)
    return False


@lru_cache(maxsize=64)
def _fields(model: Any) -> dict[str, Any]:
    if not (isinstance(model, type) and issubclass(model, msgspec.Struct)):
        return {}
    hints = get_type_hints(model)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(model)}


def _model(annotation: Any) -> Any:
    """The struct, ``dict`` or ``list`` that a field's annotation is about, the struct of a list's items; else None."""
    if get_origin(annotation) in (Union, UnionType, Annotated, list):
        found = next(filter(None, map(_model, get_args(annotation))), None)
        return found or (list if get_origin(annotation) is list else None)
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
