"""Bytes → what they say. Pure.

PortaBilling is Perl: a boolean may come as "Y", 0 or "1", a number as a text or a text as a number, nothing as "", []
or {}. A body is decoded strictly and typed first, which is fast; one that does not pass is read leniently, in one
sweep over the documented fields:

1. What can be converted without a doubt is converted. What says nothing ("", [], {}, "undefined") is None, or an empty
   list where a list is expected.
2. What cannot be converted reads as None, and ``Reading.unreadable`` has its path and the value as it came.
3. ``event_type`` and ``bill_status`` are texts and are never made of another type.
4. What no field is documented for stays as it came.

A number that no double holds (1e400) and one of more than 4,300 digits read as their text: Python's and other JSON
readers would make infinity of the first, or fail. Of a name that stands twice in an object the last one counts.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec

from connector.errors import Detail, Invalid, NotJson
from connector.events.body import AS_IT_CAME, TEXT_OR_NUMBER, EventBody
from connector.events.identity import says_nothing

MAX_DEPTH: Final = 100
"""Objects and lists within each other; every part of the connector can walk that far (RFC 8259, 9, allows a limit)."""

MOST_UNREADABLE: Final = 100
"""Fields of one event that are named as unreadable."""

NOTHING_UNREADABLE: Final[Mapping[str, Any]] = MappingProxyType({})

_BOM: Final = b"\xef\xbb\xbf"

decode: Final = msgspec.json.Decoder(EventBody, strict=False).decode
"""The typed body of bytes that need no leniency. Raises msgspec.DecodeError, UnicodeDecodeError, RecursionError."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What a body says.

    ``body``        the typed fields
    ``raw``         the bytes, without a byte order mark
    ``unreadable``  the fields that read as None though something stands there: the value as it came, by path
    """

    body: EventBody
    raw: bytes
    unreadable: Mapping[str, Any] = NOTHING_UNREADABLE
    _readable: dict[str, Any] | None = None

    @property
    def readable(self) -> dict[str, Any]:
        """The parsed body with the documented fields as in the typed one, the others as they came. Made once."""
        if self._readable is None:
            msgspec.structs.force_setattr(self, "_readable", _EVENT(document_of(self.raw), "", {}))
        found: dict[str, Any] = self._readable  # type: ignore[assignment] # set by force_setattr
        return found


def read(raw: bytes) -> Reading:
    """What ``raw`` says. Raises NotJson, or Invalid where it is JSON and no event."""
    try:
        body = decode(raw)
        # Fields that nobody modelled are skipped unread: their UTF-8 and their surrogates are looked at here.
        if not raw.isascii():
            raw.decode()
        if b"\\" in raw and half_surrogate(raw):
            raise NotJson(_HALF)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return read_leniently(raw)
    if is_too_deep(raw):
        raise _too_deep()
    return Reading(body, raw)


def read_leniently(raw: bytes) -> Reading:
    """As ``read``, for a body that the typed decoder refuses."""
    if raw.startswith(_BOM):  # RFC 8259, 8.1: a reader may ignore it
        return read(raw.removeprefix(_BOM))
    document = _parse(raw)
    if not isinstance(document, dict):
        raise Invalid(details=[Detail([], f"An object is expected, and not {kind_of_value(document)}")])
    unreadable: dict[str, Any] = {}
    readable = _EVENT(document, "", unreadable)
    if details := list(_refusals(readable, unreadable)):
        raise Invalid(details=details)
    try:
        return Reading(msgspec.convert(readable, EventBody), raw, unreadable or NOTHING_UNREADABLE)
    except msgspec.ValidationError as error:  # a limit of the types, such as the length of an id
        raise Invalid(details=[_detail(str(error))]) from None


def document_of(raw: bytes) -> dict[str, Any]:
    """An accepted body, parsed: every field as it came."""
    document = _parse(raw.removeprefix(_BOM))
    return document if isinstance(document, dict) else {}


def is_too_deep(raw: bytes) -> bool:
    """Whether objects and lists stand in each other deeper than MAX_DEPTH. ``raw`` need not be JSON."""
    if len(raw.translate(None, _NO_OPENERS)) <= MAX_DEPTH:
        return False
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = raw.translate(None, _NO_MARKS).replace(b'""', b"")  # what is left of texts without brackets
    if b'"' in marks:
        marks = b"".join(marks.split(b'"')[::2])
    steps = memoryview(marks.translate(_STEPS)).cast("b")
    depth = 0
    for start in range(0, len(steps), _AT_A_TIME):
        part = steps[start : start + _AT_A_TIME]
        if max(accumulate(part, initial=depth)) > MAX_DEPTH:
            return True
        depth += sum(part)
    return False


_AT_A_TIME: Final = 4096
_STEPS: Final = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")
_NO_OPENERS: Final = bytes(set(range(256)) - set(b"{["))
_NO_MARKS: Final = bytes(set(range(256)) - set(b'{[}]"'))


def half_surrogate(raw: bytes) -> bool:
    """Whether an escape of half a surrogate pair stands in ``raw``: no UTF-8 can say that (RFC 3629, 3)."""
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return False
    return _HALVES.search(_PAIRS.sub(b"", raw.replace(b"\\\\", b""))) is not None


_PAIRS: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALVES: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF: Final = "The body is not JSON: half of a surrogate pair stands in a text"


def _parse(raw: bytes) -> Any:
    """The JSON in ``raw``. Raises NotJson with what is wrong and where, Invalid where it is nested too deep."""
    if not raw.strip():
        raise NotJson("The body is empty; a JSON object is expected")
    try:
        if not raw.isascii():
            raw.decode()
    except UnicodeDecodeError as error:
        raise NotJson(f"The body is not UTF-8 at byte {error.start}") from None
    if is_too_deep(raw):
        raise _too_deep()
    if half_surrogate(raw):
        raise NotJson(_HALF)
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError:
        return _parse_long_numbers(raw)
    except msgspec.DecodeError as error:
        raise NotJson(f"The body is not JSON: {printable(str(error).removeprefix('JSON is malformed: '))}") from None


def _parse_long_numbers(raw: bytes) -> Any:
    try:
        return json.loads(raw, parse_float=_float, parse_int=_int, parse_constant=_no_constant)
    except ValueError as error:
        raise NotJson(f"The body is not JSON: {printable(str(error))}") from None


def _float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _int(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _too_deep() -> Invalid:
    return Invalid(details=[Detail([], f"Objects and lists stand in each other deeper than {MAX_DEPTH}")])


def printable(text: str) -> str:
    """``text`` as ASCII without control characters, 200 characters at most: it may quote what a sender wrote."""
    return "".join(each if each.isprintable() else "?" for each in text.encode("ascii", "backslashreplace").decode())[
        :200
    ]


REQUIRED: Final = "Field required: it is missing, null or empty"


def _refusals(readable: Mapping[str, Any], unreadable: Mapping[str, Any]) -> list[Detail]:
    """What no leniency can mend: an id that is neither text nor number, no event type."""
    details = []
    if "event_id" in unreadable:
        came = kind_of_value(unreadable["event_id"])
        details.append(Detail(["event_id"], f"A text or a number is expected, and not {came}"))
    data = readable.get("data")
    if not data or not data.get("event_type"):
        value = unreadable.get("data.event_type")
        text = REQUIRED if value is None else f"A text is expected, and not {kind_of_value(value)}"
        details.append(Detail(["data", "event_type"], text))
    return details


_ERROR: Final = re.compile(r"^(?P<text>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)


def _detail(error: str) -> Detail:
    """msgspec's sentence, e.g. "Expected `str` of length <= 255 - at `$.event_id`", as loc and msg."""
    found = _ERROR.match(error)
    text, path = (found["text"], found["path"] or "") if found else (error, "")
    return Detail([step for step in path.split(".") if step], printable(text))


def kind_of_value(value: Any) -> str:
    """What a value is, without showing it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "a list"
    return "an object"


class _Unreadable:
    """What a scalar's converter returns where there is no way to read the value."""


_UNREADABLE: Final = _Unreadable()

Scalar = Callable[[Any], Any]
Converter = Callable[[Any, str, dict[str, Any]], Any]

_YES: Final = frozenset({"y", "yes", "true", "t", "on", "1"})
_NO: Final = frozenset({"n", "no", "false", "f", "off", "0"})
_WHOLE: Final = re.compile(r"[+-]?\d{1,4300}", re.ASCII)
_WHOLE_WITH_POINT: Final = re.compile(r"([+-]?\d{1,4300})\.0*", re.ASCII)


def _boolean(value: Any) -> Any:
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in _YES:
            return True
        return False if word in _NO else None if says_nothing(word) else _UNREADABLE
    if isinstance(value, int | float):
        return bool(value) if value in (0, 1) else _UNREADABLE
    return _UNREADABLE if value else None


def _integer(value: Any) -> Any:
    if isinstance(value, bool):
        return _UNREADABLE
    if isinstance(value, float):
        return int(value) if value.is_integer() else _UNREADABLE
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text):
            return int(text)
        if found := _WHOLE_WITH_POINT.fullmatch(text):
            return int(found[1])
        return None if says_nothing(text) else _UNREADABLE
    return _UNREADABLE if value else None


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return _UNREADABLE
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int):
        return str(value)
    return _UNREADABLE if value else None


def _number_or_text(value: Any) -> Any:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return value
    return _UNREADABLE if value or value is False else None


def _text_as_it_came(_: Any) -> Any:
    return _UNREADABLE


def _id(value: Any) -> Any:
    return _UNREADABLE if isinstance(value, list | dict) else _text(value)


@dataclass(frozen=True, slots=True)
class _Scalar:
    """How a field with no fields of its own is read: values of ``kind`` as they are, others by ``convert``."""

    kind: type
    convert: Scalar

    def __call__(self, value: Any, at: str, unreadable: dict[str, Any]) -> Any:
        if type(value) is self.kind:
            return value
        converted = self.convert(value)
        return _note(value, at, unreadable) if converted is _UNREADABLE else converted


def _note(value: Any, at: str, unreadable: dict[str, Any]) -> None:
    if len(unreadable) < MOST_UNREADABLE:
        unreadable[at] = value


def _anything(value: Any, at: str, unreadable: dict[str, Any]) -> Any:
    return value


def _is_nothing(value: Any) -> bool:
    """Whether a value stands for no object and no list."""
    return says_nothing(value) if isinstance(value, str) else not value and value in ([], {})


def _free_object(value: Any, at: str, unreadable: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return value
    return None if _is_nothing(value) else _note(value, at, unreadable)


class _Object:
    """How an object with documented fields is read; what is not documented stays as it came."""

    def __init__(self, model: type[msgspec.Struct]) -> None:
        hints = get_type_hints(model, include_extras=True)
        readers = {field.encode_name: _converter(hints[field.name]) for field in msgspec.structs.fields(model)}
        self.names = frozenset(readers)
        self._scalars = {name: (each.kind, each) for name, each in readers.items() if isinstance(each, _Scalar)}
        self._others = {name: each for name, each in readers.items() if not isinstance(each, _Scalar)}

    def __call__(self, value: Any, at: str, unreadable: dict[str, Any]) -> Any:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
            value = value[0]
        if not isinstance(value, dict):
            return None if _is_nothing(value) else _note(value, at, unreadable)
        scalars, others = self._scalars, self._others
        prefix = f"{at}." if at else ""
        readable = dict(value)
        for name, part in value.items():
            if part is None:
                continue
            if (scalar := scalars.get(name)) is not None:
                if type(part) is not scalar[0]:
                    readable[name] = scalar[1](part, prefix + name, unreadable)
            elif (other := others.get(name)) is not None:
                readable[name] = other(part, prefix + name, unreadable)
        return readable


def _list(item: Converter) -> Converter:
    names: frozenset[str] = getattr(item, "names", frozenset())

    def convert(value: Any, at: str, unreadable: dict[str, Any]) -> Any:
        if isinstance(value, dict) and value:
            value = _items(value, names)
        if not isinstance(value, list):
            return [] if _is_nothing(value) else _note(value, at, unreadable)
        items = (item(part, f"{at}[{place}]", unreadable) for place, part in enumerate(value) if part is not None)
        return [part for part in items if part is not None]

    return convert


def _items(value: dict[str, Any], names: frozenset[str]) -> Any:
    """The list that an object stands for: PHP numbers its items, and a writer of XML leaves a list of one away."""
    if all(name.isascii() and name.isdigit() for name in value):
        return [value[name] for name in sorted(value, key=int)]
    return value if names.isdisjoint(value) else [value]


def _object_or_list(one: Converter, many: Converter) -> Converter:
    return lambda value, at, unreadable: (many if isinstance(value, list) else one)(value, at, unreadable)


def _converter(annotation: Any) -> Converter:
    """What reads a field with this annotation. Every annotation of ``connector.events.body`` is known here."""
    extra = None
    options = [annotation]
    while len(options) == 1 and get_origin(options[0]) in (Union, UnionType, Annotated):
        (option,) = options
        if get_origin(option) is Annotated:
            extra = option.__metadata__[0].extra
            options = [option.__origin__]
        else:
            options = [each for each in get_args(option) if each is not type(None)]
    if len(options) == 1:
        return _of_one_kind(options[0], extra)
    many = [option for option in options if get_origin(option) is list]
    if not many:
        return _Scalar(str, _number_or_text)
    (one,) = (option for option in options if option not in many)
    return _object_or_list(_converter(one), _converter(many[0]))


def _of_one_kind(option: Any, extra: Any) -> Converter:
    if option is Any:
        return _anything
    if extra == AS_IT_CAME:
        return _Scalar(str, _text_as_it_came)
    if extra == TEXT_OR_NUMBER:
        return _Scalar(str, _id)
    scalars: dict[Any, Scalar] = {bool: _boolean, int: _integer, str: _text}
    if option in scalars:
        return _Scalar(option, scalars[option])
    if get_origin(option) is list:
        return _list(_converter(get_args(option)[0]))
    return _free_object if get_origin(option) is dict else _Object(option)


_EVENT: Final = _Object(EventBody)
