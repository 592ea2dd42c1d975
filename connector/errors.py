"""The errors of the domain. No status code and no HTTP stands here: ``connector.web.responses`` gives each its answer.

The text of each kind is for a person: NSPS keeps the answers that are made of it in its event history, where an
operator reads them.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

RETRY_AFTER_SECONDS: Final = 30.0
"""What a sender is asked to wait; NSPS sends again after 1 to 10 minutes by itself."""


class Detail(msgspec.Struct, frozen=True):
    """Where in the body an error is, and what it is."""

    loc: list[str | int]
    msg: str


class ConnectorError(Exception):
    """Why an event or a request is refused.

    ``text``     what is said where nothing more exact is known
    ``error``    what went wrong, for a person
    ``details``  where and what, for each field that is wrong
    """

    text: ClassVar[str] = "The connector has failed; its log says more"

    def __init__(self, error: str | None = None, *, details: Sequence[Detail] = ()) -> None:
        self.error = error or self.text
        self.details = list(details)
        super().__init__(self.error)


class NotJson(ConnectorError):
    """A body that is not JSON."""

    text = "The body is not JSON"


class Invalid(ConnectorError):
    """An event without a field that it must have, or with one of a wrong type; ``details`` says which."""

    text = "Validation failed"


class NotKnown(ConnectorError):
    """What was named is not there, or no longer."""

    text = "Not known"


class Later(ConnectorError):
    """What cannot be done now, but later. ``retry_after``: seconds after which the sender may try again."""

    def __init__(self, error: str | None = None, *, retry_after: float = RETRY_AFTER_SECONDS) -> None:
        super().__init__(error)
        self.retry_after = retry_after


class NoRoom(Later):
    """The backlog, the memory or the disk is at its limit."""

    text = "Rate limit exceeded"


class Unavailable(Later):
    """The event cannot be kept now."""

    text = "Cannot keep the event now"


class Stopping(Unavailable):
    """The connector is about to stop."""

    text = "Shutting down; send the event again"


class StartError(Exception):
    """The program cannot start; the message is one line an error for the operator, and the exit code is 2."""


class InUse(StartError):
    """Another process owns the journal."""
