"""What an event must have, what it touches, and what to say where it is refused. Pure; no I/O here."""

import re
from collections.abc import Mapping, Sequence
from uuid import uuid4

import msgspec
import orjson

from connector.errors import Detail, Invalid, NotJson
from connector.events.event import Event, EventBody, decode
from connector.events.identity import identity_of, says_nothing
from connector.events.paths import descend, field
from connector.events.patterns import best
from connector.events.resources import Order


class Schema:
    """What an event must have, and what it touches."""

    def __init__(
        self,
        required: Sequence[str],
        order_by: str = "",
        require: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """``order_by`` is what ORDER_BY says; the table of event types counts where it is empty.

        ``require`` gives further fields that events must have, by type or pattern (``events.patterns``).

        Raises ValueError where a path is no documented field, or ORDER_BY is not as its grammar says.
        """
        self._required = [(path, field(path)) for path in required]
        self._require = {name: [(path, field(path)) for path in paths] for name, paths in (require or {}).items()}
        self._order = Order(order_by)

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
        event_id = body.event_id
        if not event_id or says_nothing(event_id):
            event_id = str(uuid4())
        if not event_id.isprintable():
            raise Invalid(details=[Detail(["event_id"], "Control characters are not allowed")])
        if not event_type.isprintable():
            raise Invalid(details=[Detail(["data", "event_type"], "Control characters are not allowed")])
        return Event(
            event_id,
            event_type,
            tuple(self._order.resources_of(event_type, body).values()),
            request_id,
            unique_id,
            accepted_at,
            raw,
            _identity=identity_of(body),
            _body=body,
        )

    def _missing(self, body: EventBody) -> list[Detail]:
        more = best(self._require, body.data.event_type) or []
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
            if descend(document, path.split(".")) in (None, "") and all(path.split(".") != d.loc for d in details):
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
