"""What an answer means for its event: one table, as pure functions.

===========================================  =======  ==================  =======
what happened                                outcome  kind                breaker
===========================================  =======  ==================  =======
no answer: timeout, refused, TLS, broken     retry    down                counts
502, 503, 504                                retry    down                counts
501, 505                                     retry    failed              --
other 5xx                                    retry    failed              counts
429                                          retry    rate_limited        --
401, 407 (our credentials, not the event)    retry    refused             counts
408, 425                                     retry    refused             --
404, 410                                     dead     not_found           --
other 4xx                                    dead     refused             --
3xx (redirects are not followed)             retry    refused             counts
===========================================  =======  ==================  =======

The status alone decides, whatever can be read of the rest. A 429 or 503 with ``Retry-After`` is about the target, not
about the event: the client holds the target that long, and the event spends no attempt. ``TARGET_STATUS`` changes the
outcome of a status for all calls, a handler for one call.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from connector.external.response import Kind, TargetDead, TargetFailed, TargetIgnored, TargetResponse, TargetRetry
from connector.setting_values import StatusOutcome

MAX_RETRY_AFTER: Final = 86400.0
"""Seconds: no target can put an event off for longer. RETRY_MAX is the bound that counts; this one bounds numbers."""


def judge(
    response: TargetResponse, outcomes: Mapping[int, StatusOutcome], now: datetime, who: str, said: str
) -> TargetFailed | None:
    """What an answer means: None when all is well, else what to raise.

    ``outcomes``  the entries that differ from the table
    ``who``       answered, such as "the target"; ``said`` what it said, masked, on one line
    """
    status = response.status
    outcome = outcomes.get(status) or usual_outcome(status)
    if outcome == "done":
        return None
    kind = kind_of(status)
    reason = f"{who} answered {status}" + (f": {said}" if said else "")
    if outcome == "retry":
        after = parse_retry_after(response.headers.get("Retry-After"), now)
        return TargetRetry(reason, kind, response, after=after)
    return TargetDead(reason, kind, response) if outcome == "dead" else TargetIgnored(reason, kind, response)


def counts(status: int) -> bool:
    """Whether the status says something about the target as a whole, or about our standing with it."""
    return (status >= 500 and status not in (501, 505)) or status in (401, 407) or 300 <= status < 400


def kind_of(status: int) -> Kind:
    """The kind of failure that a status other than 2xx stands for."""
    if status in (502, 503, 504):
        return Kind.DOWN
    if status >= 500:
        return Kind.FAILED
    if status == 429:
        return Kind.RATE_LIMITED
    return Kind.NOT_FOUND if status in (404, 410) else Kind.REFUSED


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from a ``Retry-After`` header (RFC 9110, 10.2.3), from 0 to a day; None for none or rubbish."""
    if value is None:
        return None
    value = value.strip()
    if value.isdecimal() and value.isascii():
        return MAX_RETRY_AFTER if len(value) > 9 else min(float(value), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
        wait = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(wait, 0.0), MAX_RETRY_AFTER)


def usual_outcome(status: int) -> StatusOutcome:
    """What the table says of a status."""
    if 200 <= status < 300:
        return "done"
    if 400 <= status < 500 and status not in (401, 407, 408, 425, 429):
        return "dead"
    return "retry"
