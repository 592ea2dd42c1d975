"""The headers that tie a call to its event. Pure: the same event gives the same headers, also after a restart.

``Idempotency-Key`` is made of the event's identity and the handler's name, so a target can tell a call that it has
served already, and two handlers of one event do not share one; ``x-event-id`` is the event's id, for people. The trace
goes on under the ids that NSPS sent: as B3 headers as they came, and as W3C ``traceparent``, whose trace id is the same
where it can be (a B3 id has 16 or 32 hexadecimal digits, a UUID 32) and is derived from it where not.
"""

import re
from hashlib import sha256
from urllib.parse import quote

from connector.events.event import Event

_HEX = re.compile(r"[0-9a-f]{32}|[0-9a-f]{16}")
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


def of_event(event: Event, step: str = "", handler: str = "") -> dict[str, str]:
    """The headers of a call for ``event`` by a handler; ``step`` tells several calls of one handler apart."""
    key = event.idempotency_key(handler)
    if step:
        key = f"{key}/{quote(step, safe=_VISIBLE)}"
    span = _span_id(key)
    return {
        "Idempotency-Key": key,
        "x-event-id": quote(event.event_id, safe=_VISIBLE),
        "x-b3-traceid": event.request_id,
        "x-b3-spanid": span,
        "x-request-id": event.unique_id,
        "traceparent": f"00-{trace_id(event.request_id)}-{span}-01",
    }


def trace_id(request_id: str) -> str:
    """32 hexadecimal digits, not all zero, for any text (W3C Trace Context, 3.2.2.3)."""
    digits = request_id.lower().replace("-", "")
    if _HEX.fullmatch(digits) and digits.strip("0"):
        return digits.zfill(32)
    return sha256(request_id.encode()).hexdigest()[:32]


def _span_id(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:16]
