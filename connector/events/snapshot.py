"""Which of two snapshots of a subscriber is newer. Pure.

Decided by ``updated_at``, then ``created_at``, then ``data.variables.event_time``: the first of them that both have and
that differs. A tie, or no time that both have, goes by the order of acceptance, in a tie by that of the first one: a
replay does not overwrite what was accepted later and has the same time. A time that cannot be read counts as missing,
and so do all times of a snapshot that claims to be taken more than an hour after the connector accepted it: one clock
that is ahead must not make every later snapshot an old one.

NSPS caches PortaBilling's answers (guide, "Cache TTL"), so a snapshot may be as much older than its ``updated_at``
says. ``decide_by("event_time")`` takes for its time the ``event_time``, where that lies within the cache's time before
``updated_at``: between snapshots further apart than that nothing changes. One rule holds in a process, as there is one
order of snapshots.
"""

from typing import Any, Final, Literal

import msgspec

from connector.errors import ConnectorError
from connector.events.body import EventBody
from connector.events.event import Event
from connector.events.times import is_time, parse_time

AHEAD: Final = 3600.0
"""Seconds that a sender's clock may be ahead of the connector's."""


CACHED: Final = 5.0
"""Seconds for which NSPS caches what PortaBilling answered."""

NewestBy = Literal["updated_at", "event_time"]

_newest_by: NewestBy = "updated_at"


def decide_by(rule: NewestBy) -> None:
    """Say which time decides between snapshots that NSPS's cache may have swapped (``NEWEST_BY``)."""
    global _newest_by  # one order of snapshots in a process
    _newest_by = rule


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

    @property
    def is_timed(self) -> bool:
        """Whether it has any time."""
        return any(time is not None for time in self.times)


def snapshot(body: EventBody, seq: int, event_id: str, now: float | None = None) -> Snapshot:
    """The snapshot that an event carries; ``now`` is when it was accepted, in seconds since the epoch."""
    updated, created, happened = (time.timestamp() if (time := parse_time(text)) else None for _, text in _times(body))
    if now is not None and any(time is not None and time > now + AHEAD for time in (updated, created, happened)):
        return Snapshot(None, None, None, seq, event_id)
    if _newest_by == "event_time" and updated is not None and happened is not None:
        updated = min(max(happened, updated - CACHED), updated)
    return Snapshot(updated, created, happened, seq, event_id)


def unreadable_times(body: EventBody) -> list[str]:
    """The paths of the times that stand in a body and cannot be read."""
    happened = body.data.variables.get("event_time")
    if all(map(_is_fine, (body.updated_at, body.created_at, happened))):
        return []
    return [path for path, text in _times(body) if not _is_fine(text)]


def _is_fine(text: Any) -> bool:
    return text is None or text == "" or is_time(text)


def times_ahead(body: EventBody, now: float) -> list[str]:
    """The paths of the times for which all times of a body accepted at ``now`` count as missing."""
    read = ((path, parse_time(text)) for path, text in _times(body))
    return [path for path, time in read if time is not None and time.timestamp() > now + AHEAD]


def _times(body: EventBody) -> tuple[tuple[str, Any], ...]:
    return (
        ("updated_at", body.updated_at),
        ("created_at", body.created_at),
        ("data.variables.event_time", body.data.variables.get("event_time")),
    )


def snapshot_of(event: Event, seq: int, origin: int | None = None) -> Snapshot | None:
    """The snapshot of an accepted event with this sequence number; None where its body cannot be read any more.

    ``origin``  the number of its first series: where an event is replayed, its place among those of equal times is the
                one at which it was first accepted. One without any time is as new as its replay.
    """
    try:
        found = snapshot(event.body, seq, event.event_id, event.accepted_at)
    except ConnectorError:
        return None
    return found if origin in (None, seq) or not found.is_timed else msgspec.structs.replace(found, seq=origin)


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
