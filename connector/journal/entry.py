"""An event in the journal: its place in the order, and how far it has come."""

from collections.abc import Mapping
from typing import Final

from connector.events.event import Event
from connector.outcome import Step

NO_STEPS: Final[Mapping[str, Step]] = {}


class Entry:
    """What a worker takes and settles. Two entries are never equal: each stands for one attempt.

    ``event``     what the handlers are given
    ``seq``       its place in the order of acceptance
    ``attempt``   which attempt this is, from 1
    ``due``       it is handed out before its time, in seconds since the epoch, since a newer event has made what it
                  waits for pointless; None in the ordinary case
    ``held``      an operator has to decide about it (never handed out so)
    ``progress``  what the handlers of its type have done in earlier attempts, by handler
    ``blockers``  of so many of its resources an earlier event is open; 0 when it is handed out
    ``origin``    the ``seq`` of the first series of this event: it is another one in a replay
    ``unreadable``  why the event is not what was kept, where the disk has not given it back; nobody may handle it
    """

    __slots__ = ("attempt", "blockers", "due", "event", "held", "origin", "progress", "seq", "unreadable")

    def __init__(
        self,
        event: Event,
        seq: int,
        *,
        attempt: int = 1,
        due: float | None = None,
        held: bool = False,
        progress: Mapping[str, Step] = NO_STEPS,
        blockers: int = 0,
        origin: int | None = None,
        unreadable: str = "",
    ) -> None:
        self.event = event
        self.seq = seq
        self.attempt = attempt
        self.due = due
        self.held = held
        self.progress = progress
        self.blockers = blockers
        self.origin = seq if origin is None else origin
        self.unreadable = unreadable

    def __repr__(self) -> str:
        """Ids and type only: the body has personal fields."""
        return f"<Entry {self.seq} {self.event.event_id} {self.event.event_type} attempt={self.attempt}>"
