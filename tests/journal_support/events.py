"""Events for the journal: every id and number in them is made up."""

import json
from itertools import count

from connector.events.event import Event

_numbers = count(1)


def body(event_id: str, i_account: int = 1, padding: int = 0) -> bytes:
    """An event as NSPS would post it, with ``padding`` bytes beside."""
    document = {
        "event_id": event_id,
        "data": {"event_type": "SIM/Updated"},
        "pb_data": {"account_info": {"i_account": i_account, "bill_status": "open"}},
    }
    return json.dumps(document | ({"note": "x" * padding} if padding else {})).encode()


def event(
    event_id: str | None = None, lane: str = "i_account:1", accepted_at: float = 1000.0, padding: int = 0
) -> Event:
    """An event that is not in the journal yet; with an id of its own unless one is given."""
    event_id = event_id or f"event-{next(_numbers)}"
    return Event(event_id, "SIM/Updated", (lane,), "request", "unique", accepted_at, body(event_id, 1, padding))
