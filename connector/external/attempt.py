"""The attempt that a call belongs to: whose event it is for, and whether a call was made before.

The worker that runs an attempt calls ``begin``; what runs in that context, in whichever task or thread, belongs to it.
Without it (a test, a task of the author's own) a call stands for itself.
"""

from contextvars import ContextVar
from typing import Final

from connector.events.event import Event


class Calls:
    """What one attempt has called.

    ``handler``  the name of the handler that the attempt is of; empty for a call outside of any attempt
    ``begun``    calls that were let through to the target
    ``made``     calls that were answered, whatever the answer
    """

    __slots__ = ("begun", "event", "handler", "made")

    def __init__(self, event: Event | None, handler: str = "") -> None:
        self.event = event
        self.handler = handler
        self.begun = self.made = 0


_calls: Final[ContextVar[Calls | None]] = ContextVar("calls", default=None)


def begin(event: Event, handler: str) -> None:
    """From now on, calls in this context belong to an attempt of the handler of this name to handle ``event``."""
    _calls.set(Calls(event, handler))


def calls_of(event: Event | None) -> Calls:
    """The calls of the present attempt; else new ones, for ``event``."""
    return _calls.get() or Calls(event)
