"""An event as its row has it."""

from collections.abc import Sequence
from typing import Any

from connector.errors import ConnectorError
from connector.events.event import Event
from connector.events.identity import own_key


def event_of(row: Sequence[Any], attempt: int = 1) -> Event:
    """The event in a row: id, type, resources, the two trace ids, time of acceptance, body."""
    event_id, event_type, lane, request_id, unique_id, accepted_at, body = row
    resources = tuple(lane.split("\n")) if lane else ()
    return Event(event_id, event_type, resources, request_id, unique_id, accepted_at, body, attempt=attempt)


def key_of(event: Event) -> bytes:
    """The key of an event's identity; one of its own where its body cannot be read any more."""
    try:
        return event.key
    except ConnectorError:
        return own_key(event.event_id)
