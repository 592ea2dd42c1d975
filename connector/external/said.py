"""What the external system says, made fit for logs, reasons and NSPS: one printable line, bounded, with nobody in it.

A target may quote anything: the person, the number, our own credentials. So of its text is masked:

1. our secrets: the credentials of the settings, and whatever follows ``Basic`` or ``Bearer``;
2. numbers of five digits and more, with the separators of telephone numbers or without, and addresses with an ``@``;
3. every value of the event that the call is for, but those of the few fields that are about no person (``SAYABLE``).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec
import orjson

from connector.events.event import Event

MAX_REASON: Final = 300
"""Characters kept of what the target says."""

MASK: Final = "***"

SAYABLE: Final = frozenset(
    {"event_type", "bill_status", "billing_model", "status", "curr_status", "prev_status", "group_name", "handler_id"}
)
"""Fields of an event whose values may stand in a log: words of the protocol, about no person."""

_REASON_FIELDS: Final = ("error_description", "error", "detail", "message", "reason", "title")
_SHORTEST: Final = 3
"""Characters of the shortest value that is looked for: shorter ones stand in any word."""

_SHORTEST_SECRET: Final = 4

_CREDENTIALS: Final = re.compile(r"\b(basic|bearer|digest|apikey|token)(\s+|\s*[:=]\s*)\S+", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+")
_NUMBER: Final = re.compile(r"\+?\d(?:[\s().\-/]{0,2}\d){4,}")


class Masks:
    """Masks the target's text. ``secrets``: the credentials that the client sends."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {
            form for secret in secrets if len(secret) >= _SHORTEST_SECRET for form in (secret, quote(secret, safe=""))
        }
        self._secrets = sorted(forms, key=len, reverse=True)

    def line(self, text: str, event: Event | None = None) -> str:
        """``text`` on one printable line of at most ``MAX_REASON`` characters, masked."""
        line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_REASON]).split())
        for secret in self._secrets:
            line = line.replace(secret, MASK)
        line = _CREDENTIALS.sub(rf"\1 {MASK}", line)
        if event is not None:
            line = _without(line, event)
        line = _ADDRESS.sub(MASK, line)
        return _NUMBER.sub(MASK, line)[:MAX_REASON]

    def reason(self, body: bytes | None, event: Event | None = None) -> str:
        """The sentence in an error body that a person would look for, masked; may be empty."""
        if not body:
            return ""
        try:
            found = _reason_of(orjson.loads(body))
        except orjson.JSONDecodeError:
            found = body[: 4 * MAX_REASON].decode("utf-8", "replace")
        return self.line(found, event)

    def address(self, location: str) -> str:
        """Where a redirect leads, without query, fragment and user."""
        try:
            parts = urlsplit(location.strip())
            host = parts.hostname or ""
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return MASK
        return (f"{parts.scheme}://{host if host.isprintable() else MASK}{port}" if host else "") + self.line(
            parts.path
        )


def _reason_of(document: Any) -> str:
    if isinstance(document, str):
        return document
    if isinstance(document, dict):
        for name in _REASON_FIELDS:
            value = document.get(name)
            if isinstance(value, str) and value:
                return value
            if isinstance(value, dict) and (inner := _reason_of(value)):
                return inner
    return msgspec.json.encode(document).decode() if document else ""


def _without(line: str, event: Event) -> str:
    try:
        body = orjson.loads(event.raw)
    except orjson.JSONDecodeError:
        return line
    values: set[str] = set()
    sayable = {event.event_type.casefold()}
    for name, value in _leaves(body):
        (sayable if name in SAYABLE else values).add(value.casefold())
    for value in sorted(values - sayable, key=len, reverse=True):
        if len(value) >= _SHORTEST:
            line = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, line, flags=re.IGNORECASE)
    return line


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for inner, each in value.items():
            yield from _leaves(each, inner)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, name)
    elif isinstance(value, str):
        yield name, " ".join(value.split())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, str(value)
