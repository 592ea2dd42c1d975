"""The attempt that a call belongs to: whose event it is for, and whether a call was made before.

The worker that runs an attempt enters ``attempting``; what runs within, in whichever task or thread, belongs to it.
Without it (a test, a task of the author's own) a call stands for itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from connector.events.event import Event


class Calls:
    """What one attempt has called.

    ``handler``  the name of the handler that the attempt is of
    ``made``     calls that were answered, whatever the answer
    """

    __slots__ = ("event", "handler", "made")

    def __init__(self, event: Event | None, handler: str = "") -> None:
        self.event = event
        self.handler = handler
        self.made = 0


_calls: Final[ContextVar[Calls | None]] = ContextVar("calls", default=None)


@contextmanager
def attempting(event: Event, handler: str = "") -> Iterator[Calls]:
    """Within it, calls belong to an attempt of the handler of this name to handle ``event``."""
    calls = Calls(event, handler)
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


def calls_of(event: Event | None) -> Calls:
    """The calls of the present attempt; else new ones, for ``event``."""
    return _calls.get() or Calls(event)
