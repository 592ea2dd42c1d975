"""Which of two snapshots of a subscriber is newer. Pure.

Decided by ``updated_at``, then ``created_at``, then ``data.variables.event_time``: the first of them that both have and
that differs. A tie, or no time that both have, goes by the order of acceptance.
"""

import msgspec

from connector.events.event import Event, EventBody, parse_time


class Snapshot(msgspec.Struct, frozen=True):
    """When a snapshot was taken, in seconds since the epoch (None: it does not say), and whose it is."""

    updated: float | None
    created: float | None
    happened: float | None
    seq: int
    event_id: str

    @property
    def times(self) -> tuple[float | None, float | None, float | None]:
        """The times in the order in which they decide."""
        return self.updated, self.created, self.happened


def snapshot(body: EventBody, seq: int, event_id: str) -> Snapshot:
    """The snapshot that an event carries."""
    times = (body.updated_at, body.created_at, body.data.variables.get("event_time"))
    updated, created, happened = (time.timestamp() if (time := parse_time(text)) else None for text in times)
    return Snapshot(updated, created, happened, seq, event_id)


def snapshot_of(event: Event, seq: int) -> Snapshot | None:
    """The snapshot of an accepted event; None where its body cannot be read any more, as after a rotten bit."""
    try:
        return snapshot(event.body, seq, event.event_id)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def is_older(one: Snapshot, other: Snapshot) -> bool:
    """Whether ``one`` must not be applied once ``other`` is."""
    for mine, theirs in zip(one.times, other.times, strict=True):
        if mine is not None and theirs is not None and mine != theirs:
            return mine < theirs
    return one.seq < other.seq


def after(applied: Snapshot, before: Snapshot | None) -> Snapshot:
    """What is known to be applied with ``applied`` on top of ``before``: a missing time does not undo a known one."""
    if before is None:
        return applied
    updated, created, happened = (
        max((time for time in pair if time is not None), default=None)
        for pair in zip(applied.times, before.times, strict=True)
    )
    return Snapshot(updated, created, happened, applied.seq, applied.event_id)
