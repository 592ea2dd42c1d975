"""Events for the journal: every id and number in them is made up."""

import json
from collections.abc import Sequence
from itertools import count
from typing import Any

from connector.events.event import Event

_numbers = count(1)


def body(event_id: str | None, i_account: int = 1, padding: int = 0, **more: Any) -> bytes:
    """An event as NSPS would post it, with ``padding`` bytes beside.

    ``more``: ``event_type``, and fields of the event (``updated_at``) or of its variables (``i_env``, ``i_event``).
    """
    variables = {name: more.pop(name) for name in ("i_env", "i_event") if name in more}
    data: dict[str, Any] = {"event_type": more.pop("event_type", "SIM/Updated")}
    document: dict[str, Any] = {
        "event_id": event_id,
        "data": data | ({"variables": variables} if variables else {}),
        "pb_data": {"account_info": {"i_account": i_account, "bill_status": "open"}},
    }
    return json.dumps(document | more | ({"note": "x" * padding} if padding else {})).encode()


def event(
    event_id: str | None = None,
    lane: str = "i_account:1",
    accepted_at: float = 1000.0,
    padding: int = 0,
    *,
    resources: Sequence[str] | None = None,
    named: bool = True,
    **more: Any,
) -> Event:
    """An event that is not in the journal yet; with an id of its own unless one is given.

    ``resources``  what it touches, where that is not one ``lane``
    ``named``      whether the id stands in the body; else it is one that the connector has made up
    ``more``       as in ``body``
    """
    event_id = event_id or f"event-{next(_numbers)}"
    raw = body(event_id if named else None, 1, padding, **more)
    touched = (lane,) if resources is None else tuple(resources)
    return Event(event_id, more.get("event_type", "SIM/Updated"), touched, "request", "unique", accepted_at, raw)
