"""RESPONSE=outcome: the answer that an outcome stands for."""

from connector.errors import RETRY_AFTER_SECONDS, ConnectorError, NoRoom, Unavailable
from connector.outcome import Outcome
from connector.web.responses import HandlerFailed, TargetDown, TargetNotFound, TargetRefused


def refusal(outcome: Outcome) -> ConnectorError | None:
    """The answer to the request that brought an event with this outcome; None for a 202.

    It says who failed: an outcome without a ``kind`` is our own handler's. What the external system asked in its
    Retry-After is passed on.
    """
    if outcome.state in ("done", "ignored", "superseded"):
        return None
    wait = RETRY_AFTER_SECONDS if outcome.asked is None else outcome.asked
    if outcome.state == "waiting":
        return Unavailable(outcome.reason, retry_after=wait)
    match outcome.kind:
        case "down":
            return TargetDown(outcome.reason, retry_after=wait)
        case "not_found":
            return TargetNotFound(outcome.reason)
        case "rate_limited":
            return NoRoom(outcome.reason, retry_after=wait)
        case "":
            return HandlerFailed(outcome.reason)
        case _:
            return TargetRefused(outcome.reason)


def instead_of_accepted(outcome: Outcome) -> str:
    """What a 202 says of an event that was not applied, and why; empty where it was."""
    match outcome.state:
        case "ignored":
            return f"Event ignored: {outcome.reason}".removesuffix(": ")
        case "superseded":
            return f"Event superseded by {outcome.reason}"
        case _:
            return ""
