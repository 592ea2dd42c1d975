"""For tests of handlers: an event without a server, and what would become of it.

::

    from connector.testing import example, run

    async def test_a_blocked_account_is_barred() -> None:
        outcome = await run(provision, example("SIM/Updated", {"pb_data.account_info.blocked": True}))
        assert outcome.state == "done"

    async def test_an_hlr_that_is_down_is_tried_again() -> None:
        with using(StandIn(503)):
            assert (await run(provision, example("SIM/Updated"))).state == "waiting"
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from connector.events.event import Event
from connector.events.examples import body_of, put
from connector.events.paths import is_absent
from connector.events.patterns import matches
from connector.events.schema import Schema
from connector.external import attempting, using
from connector.external.stand_in import Call, Reply, StandIn, no_answer, reply
from connector.handlers import handler_of
from connector.outcome import Outcome, RetryPolicy, decide, done

__all__ = ["Call", "Reply", "StandIn", "event_of", "example", "no_answer", "reply", "run", "using"]


def example(event_type: str = "SIM/Updated", changes: Mapping[str, Any] | None = None, *, attempt: int = 1) -> Event:
    """A made-up event of this type as it really comes: SIM/Created without account, Account/Blocked with a block, ...

    ``changes`` sets fields by their dotted path; the value ``...`` takes a field away.
    """
    body = body_of(event_type)
    for path, value in (changes or {}).items():
        put(body, path, value)
    return event_of(orjson.dumps(body), attempt=attempt)


def event_of(body: bytes, *, attempt: int = 1) -> Event:
    """The event in a body as NSPS sends it. Raises ConnectorError where it would be refused."""
    schema = Schema(())
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
        with attempting(event):
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
    return done(note, 0)
