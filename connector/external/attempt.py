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

    ``made``  calls that were answered, whatever the answer
    """

    __slots__ = ("event", "made")

    def __init__(self, event: Event | None) -> None:
        self.event = event
        self.made = 0


_calls: Final[ContextVar[Calls | None]] = ContextVar("calls", default=None)


@contextmanager
def attempting(event: Event) -> Iterator[Calls]:
    """Within it, calls belong to an attempt to handle ``event``."""
    calls = Calls(event)
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


def calls_of(event: Event | None) -> Calls:
    """The calls of the present attempt; else new ones, for ``event``."""
    return _calls.get() or Calls(event)
