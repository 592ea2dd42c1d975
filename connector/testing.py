"""For tests of handlers: an event without a server, and what would become of it.

::

    from connector.testing import example, run

    async def test_a_blocked_account_is_barred() -> None:
        outcome = await run(provision, example("SIM/Updated", {"pb_data.account_info.blocked": True}))
        assert outcome.state == "done"
"""

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from connector.events.event import Event
from connector.events.paths import is_absent
from connector.events.patterns import matches
from connector.events.schema import Schema
from connector.handlers import handler_of
from connector.outcome import Outcome, RetryPolicy, decide, done

_BODY: Final[dict[str, Any]] = {
    "event_id": "0d6f5f0e-5a53-4d0c-9a3e-6f1f0e9a7c11",
    "data": {
        "event_type": "SIM/Updated",
        "variables": {"i_event": 4711, "i_account": 1001, "i_env": 1, "curr_status": "used", "prev_status": "active"},
    },
    "pb_data": {
        "account_info": {
            "i_account": 1001,
            "i_customer": 501,
            "i_product": 31,
            "id": "15550100001@msisdn",
            "bill_status": "open",
            "billing_model": "credit_account",
            "blocked": False,
            "product_name": "Example Mobile",
            "time_zone_name": "UTC",
        },
        "sim_info": {
            "i_sim_card": 71,
            "i_account": 1001,
            "iccid": "8900000000000000001",
            "imsi": "001010000000001",
            "msisdn": "15550100001",
            "status": "active",
        },
        "access_policy_info": {
            "i_access_policy": 9,
            "name": "Example policy",
            "attributes": [
                {"group_name": "lte", "name": "cs_profile", "value": "cs-example"},
                {"group_name": "lte", "name": "eps_profile", "value": "eps-example"},
            ],
        },
    },
    "handler_id": "example",
    "created_at": "2026-01-15T10:00:00.000000+00:00",
    "updated_at": "2026-01-15T10:00:01.000000+00:00",
    "status": "received",
}


def example(event_type: str = "SIM/Updated", changes: Mapping[str, Any] | None = None, *, attempt: int = 1) -> Event:
    """An enriched event of a made-up subscriber.

    ``changes`` sets fields by their dotted path; the value ``...`` takes a field away.
    """
    body = copy.deepcopy(_BODY)
    for path, value in {"data.event_type": event_type, **(changes or {})}.items():
        *parents, last = path.split(".")
        place = body
        for name in parents:
            place = place.setdefault(name, {})
        if value is ...:
            place.pop(last, None)
        else:
            place[last] = value
    return event_of(orjson.dumps(body), attempt=attempt)


def event_of(body: bytes, *, attempt: int = 1) -> Event:
    """The event in a body as NSPS sends it. Raises ConnectorError where it would be refused."""
    schema = Schema(["data.event_type"])
    event = schema.parse(body, "test-request-id", "test-unique-id", time.time())
    event.attempt = attempt
    return event


async def run(function: Callable[[Event], Any], event: Event, *, policy: RetryPolicy | None = None) -> Outcome:
    """What becomes of ``event`` when the handler ``function`` is called with it once, as the connector would.

    The jitter of a retry's ``due`` is left out, so that a test can expect it. Raises ValueError for a function without
    ``@on``, one that does not take this type of event, or one whose ``require=`` the event does not meet.
    """
    handler = handler_of(function)
    if not any(matches(name, event.event_type) for name in handler.types):
        raise ValueError(f"{handler.name} takes {', '.join(handler.types)} and not {event.event_type}")
    missing = [path for path in handler.require if is_absent(event.field(path))]
    if missing:
        raise ValueError(f"the event would be refused: {', '.join(missing)} missing")
    started = time.time()
    try:
        note = await handler.call(event)
    except Exception as fault:  # noqa: BLE001 - whatever a handler raises is its event's outcome
        return decide(
            fault,
            attempt=event.attempt,
            age=started - event.accepted_at,
            now=started,
            chance=0.5,
            ms=0,
            policy=policy or RetryPolicy(),
            max_attempts=handler.max_attempts,
        )
    return done(note, 0, handler.name)
