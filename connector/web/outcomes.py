"""RESPONSE=outcome: the answer that an outcome stands for."""

from connector.errors import ConnectorError, NoRoom
from connector.outcome import Outcome
from connector.web.responses import TargetDown, TargetNotFound, TargetRefused


def refusal(outcome: Outcome) -> ConnectorError | None:
    """The answer to the request that brought an event with this outcome; None for a 202."""
    if outcome.state in ("done", "ignored", "superseded"):
        return None
    match outcome.kind:
        case "down":
            return TargetDown(outcome.reason)
        case "not_found":
            return TargetNotFound(outcome.reason)
        case "rate_limited":
            return NoRoom(outcome.reason)
        case _:
            return TargetRefused(outcome.reason)
