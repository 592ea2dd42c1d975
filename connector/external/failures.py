"""What a call that did not go well means for its event: one table, as pure functions and exceptions.

===========================================  =======  ==================  =======
what happened                                outcome  kind                breaker
===========================================  =======  ==================  =======
timeout, refused, DNS, TLS, broken answer    retry    down                counts
502, 503, 504                                retry    down                counts
501, 505                                     retry    failed              --
other 5xx                                    retry    failed              counts
429                                          retry    rate_limited        --
401, 407 (our credentials, not the event)    retry    refused             counts
408, 425                                     retry    refused             --
404, 410                                     dead     not_found           --
other 4xx                                    dead     refused             --
3xx (redirects are not followed)             retry    refused             --
===========================================  =======  ==================  =======

``TARGET_STATUS`` changes the outcome of a status for all calls, a handler for one call.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Final

import msgspec
import orjson

from connector.outcome import DeadLetter, Ignored, Postponed, Retry
from connector.settings import StatusOutcome

MAX_REASON: Final = 300
"""Characters kept of what the target says."""

MAX_RETRY_AFTER: Final = 86400.0
"""Seconds: no target can put an event off for longer. RETRY_MAX is the bound that counts; this one bounds numbers."""

_REASON_FIELDS: Final = ("error_description", "error", "detail", "message", "reason", "title")


class Kind(StrEnum):
    """How a call failed, for whoever has to answer for it.

    ``DOWN``  no answer, or one that says that the target is away.  ``FAILED``  an error of the target's own.
    ``REFUSED``  it does not want this request.  ``RATE_LIMITED``  not so fast.  ``NOT_FOUND``  no such resource.
    """

    DOWN = "down"
    FAILED = "failed"
    REFUSED = "refused"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"


class TargetFailed(Exception):
    """A call to the target did not go well. ``status`` is the answer's, None where there was no answer."""

    kind: Kind
    status: int | None

    def _say(self, kind: Kind, status: int | None) -> None:
        self.kind = kind
        self.status = status


class TargetRetry(TargetFailed, Retry):
    """The event is to be tried again, after ``after`` seconds if the target said so, and never before the backoff."""

    may_be_sooner = False

    def __init__(self, reason: str, kind: Kind, status: int | None = None, *, after: float | None = None) -> None:
        Retry.__init__(self, reason, after=after)
        self._say(kind, status)


class TargetDead(TargetFailed, DeadLetter):
    """The target will never take this event."""

    def __init__(self, reason: str, kind: Kind, status: int | None = None) -> None:
        DeadLetter.__init__(self, reason)
        self._say(kind, status)


class TargetIgnored(TargetFailed, Ignored):
    """The answer means, as a setting or the handler says, that there was nothing to do."""

    def __init__(self, reason: str, kind: Kind, status: int | None = None) -> None:
        Ignored.__init__(self, reason)
        self._say(kind, status)


class TargetAway(TargetFailed, Postponed):
    """The breaker is open: the event goes back and spends no attempt."""

    def __init__(self, reason: str) -> None:
        Postponed.__init__(self, reason)
        self._say(Kind.DOWN, None)


class TargetBusy(TargetFailed, Postponed):
    """The call's turn did not come in time (rate or concurrency): the event goes back and spends no attempt."""

    def __init__(self, reason: str) -> None:
        Postponed.__init__(self, reason)
        self._say(Kind.RATE_LIMITED, None)


def judge(
    status: int,
    body: bytes,
    retry_after: str | None,
    outcomes: Mapping[int, StatusOutcome],
    now: datetime,
) -> TargetFailed | None:
    """What an answer means: None when all is well, else what to raise.

    ``retry_after`` is the header; ``outcomes`` are the entries that differ from the table.
    """
    outcome = outcomes.get(status) or _usual_outcome(status)
    if outcome == "done":
        return None
    kind = kind_of(status)
    said = reason_in(body)
    reason = f"the target answered {status}" + (f": {said}" if said else "")
    if outcome == "retry":
        return TargetRetry(reason, kind, status, after=parse_retry_after(retry_after, now))
    return TargetDead(reason, kind, status) if outcome == "dead" else TargetIgnored(reason, kind, status)


def counts(status: int) -> bool:
    """Whether the status says something about the target as a whole, or about our standing with it."""
    return (status >= 500 and status not in (501, 505)) or status in (401, 407)


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


def reason_in(body: bytes) -> str:
    """The sentence in an error body that a person would look for, on one line and bounded; may be empty."""
    try:
        found = _reason_of(orjson.loads(body)) if body else ""
    except orjson.JSONDecodeError:
        found = body[: 4 * MAX_REASON].decode("utf-8", "replace")
    line = " ".join("".join(c if c.isprintable() else " " for c in found[: 2 * MAX_REASON]).split())
    return line[:MAX_REASON]


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


def _usual_outcome(status: int) -> StatusOutcome:
    if 200 <= status < 300:
        return "done"
    if 400 <= status < 500 and status not in (401, 407, 408, 425, 429):
        return "dead"
    return "retry"
