"""What an event must have, which subscriber it belongs to, and what to say where it is refused. Pure; no I/O here."""

import re
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints
from uuid import uuid4

import msgspec
import orjson

from connector.errors import Detail, Invalid, NotJson
from connector.events.event import MAX_NAME, Event, EventBody, decode

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
            return lambda body: _descend(read_dict(body), rest)
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


def _descend(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


class Schema:
    """What an event must have, and which subscriber it belongs to."""

    def __init__(
        self,
        required: Sequence[str],
        order_by: Sequence[str],
        require: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """``require`` gives the further fields that events of a type must have; ``*`` stands for all other types.

        Raises ValueError where a path is no documented field.
        """
        self._required = [(path, field(path)) for path in required]
        self._require = {name: [(path, field(path)) for path in paths] for name, paths in (require or {}).items()}
        self._order_by = [(path.rpartition(".")[2], field(path)) for path in order_by]

    def parse(self, raw: bytes, request_id: str, unique_id: str, accepted_at: float) -> Event:
        """The event in ``raw``. Raises NotJson (400) or Invalid (422) with every fault that was found."""
        try:
            body = decode(raw)
            # Fields that nobody modelled are skipped unread: their UTF-8 and their surrogates are looked at here.
            if not raw.isascii():
                raw.decode()
            if b"\\" in raw and (b"\\ud" in raw or b"\\uD" in raw):
                orjson.loads(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, orjson.JSONDecodeError) as fault:
            raise self._refusal(raw, fault) from None
        for _, read in self._required:
            value = read(body)
            if value is None or value == "":
                raise Invalid(details=self._missing(body))
        event_type = body.data.event_type
        if self._require and (details := self._missing(body)):
            raise Invalid(details=details)
        event_id = body.event_id or str(uuid4())
        if not event_id.isprintable():
            raise Invalid(details=[Detail(["event_id"], "Control characters are not allowed")])
        if not event_type.isprintable():
            raise Invalid(details=[Detail(["data", "event_type"], "Control characters are not allowed")])
        return Event(
            event_id,
            event_type,
            self._lane(body, event_id),
            request_id,
            unique_id,
            accepted_at,
            raw,
            body=body,
        )

    def _lane(self, body: EventBody, event_id: str) -> str:
        for name, read in self._order_by:
            value = read(body)
            if type(value) is int:
                lane = f"{name}:{value}"
            elif isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable():
                lane = f"{name}:{int(value) if name.startswith('i_') and value.isdecimal() else value}"
            else:
                continue
            if len(lane) <= MAX_NAME:
                return lane
        return f"event_id:{event_id}"

    def _missing(self, body: EventBody) -> list[Detail]:
        more = self._require.get(body.data.event_type, self._require.get("*", []))
        fields = [*self._required, *more]
        return [Detail([*path.split(".")], _REQUIRED) for path, read in fields if read(body) in (None, "")]

    def _refusal(self, raw: bytes, fault: Exception) -> NotJson | Invalid:
        if not raw.strip():
            return NotJson("The body is empty; a JSON object is expected")
        try:
            document = orjson.loads(raw)
        except (orjson.JSONDecodeError, RecursionError) as syntax:
            return NotJson(f"The body is not JSON: {_printable(str(syntax))}")
        if not isinstance(fault, msgspec.ValidationError):
            return NotJson(f"The body is not JSON: {_printable(str(fault))}")
        details = [_detail(str(fault))]
        for path, _ in self._required:
            if _descend(document, path.split(".")) in (None, "") and all(path.split(".") != d.loc for d in details):
                details.append(Detail([*path.split(".")], _REQUIRED))
        return Invalid(details=details)


_FAULT = re.compile(r"^(?P<text>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+|\.\.\.)\]")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]+)`")


_REQUIRED = "Field required: it is missing, null or empty"


def _detail(fault: str) -> Detail:
    """msgspec's sentence, e.g. "Expected `str`, got `int` - at `$.event_id`", as loc and msg."""
    found = _FAULT.match(fault)
    text, path = (found["text"], found["path"] or "") if found else (fault, "")
    loc: list[str | int] = [
        step["name"] or (int(step["index"]) if step["index"].isdigit() else step["index"])
        for step in _STEP.finditer(path)
    ]
    if missing := _MISSING.search(text):
        return Detail([*loc, missing["name"]], _REQUIRED)
    return Detail(loc, _printable(text))


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()[:200]
