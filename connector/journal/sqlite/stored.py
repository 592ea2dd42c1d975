"""What stands in the rows, read with care: a disk may give back other bytes than it got.

A text that is no UTF-8 is read all the same (``read_text``), so that one row never stops the statement that reads it
among others. What is wrong in a row is then found by ``event_of``; whoever only shows rows uses ``shown`` and
``number``.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from connector.errors import ConnectorError
from connector.events.event import Event
from connector.events.identity import own_key

Default = TypeVar("Default")

_TEXTS: Final = ("event_id", "event_type", "resources", "request_id", "unique_id")


class Unreadable(ConnectorError):
    """A row that does not have what was written into it."""

    text = "It cannot be read any more"


def read_text(raw: bytes) -> str:
    """The ``text_factory`` of every connection: what is no UTF-8 becomes half surrogates, which no text has."""
    return raw.decode("utf-8", "surrogateescape")


def shown(value: Any) -> str:
    """A value where a text is expected, fit to be shown and to be written again."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def is_text(value: Any) -> bool:
    """Whether a value is a text as it was written."""
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def number(value: Any, default: Default) -> float | int | Default:
    """A value where a number is expected."""
    return value if isinstance(value, (int, float)) else default


def whole(value: Any, default: int = 0) -> int:
    """A value where a whole number is expected."""
    return value if isinstance(value, int) else default


def event_of(row: Sequence[Any], attempt: Any = 1) -> Event:
    """The event in a row: id, type, resources, the two trace ids, time of acceptance, body.

    Raises Unreadable where a value is not what it was written as.
    """
    event_id, event_type, lane, request_id, unique_id, accepted_at, body = row
    for name, text in zip(_TEXTS, (event_id, event_type, lane, request_id, unique_id), strict=True):
        if not is_text(text):
            raise Unreadable(f"its {name} cannot be read any more: it is no text in UTF-8")
    if not isinstance(accepted_at, float):
        raise Unreadable("its time of acceptance cannot be read any more: it is no number")
    if not isinstance(body, bytes):
        raise Unreadable("its body cannot be read any more: bytes were written and there are none")
    if not isinstance(attempt, int) or attempt < 1:
        raise Unreadable("what stands beside it (state, attempt, due time) cannot be read any more")
    resources = tuple(lane.split("\n")) if lane else ()
    return Event(event_id, event_type, resources, request_id, unique_id, accepted_at, body, attempt=attempt)


def readable(event: Event) -> Event:
    """``event``, whose body has been read. Raises Unreadable where that fails."""
    try:
        event.reading  # noqa: B018 - read once, and kept with the event
    except ConnectorError as error:
        raise Unreadable(f"its body cannot be read any more: {error}") from None
    return event


def key_of(event: Event) -> bytes:
    """The key of an event's identity; one of its own where its body cannot be read any more."""
    try:
        return event.key
    except ConnectorError:
        return own_key(event.event_id)
