"""What an operator may ask of a journal, as values; each says in its type what the answer is."""

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

import msgspec

OPEN: Final = ("pending", "waiting", "held")
STATES: Final = (*OPEN, "done", "ignored", "superseded", "dead")

COUNTERS: Final = ("accepted", "duplicate", "retried", "held", "done", "ignored", "superseded", "dead", "replayed")
"""What every engine counts over the journal's life (``Batch.counts`` for those that commit batches)."""

Result = TypeVar("Result", covariant=True)


class Query(msgspec.Struct, Generic[Result], frozen=True):
    """A question with an answer of the type ``Result``."""


class Series(msgspec.Struct, frozen=True):
    """One series of attempts at an event, the newest attempt's reason included. Times in seconds since the epoch."""

    seq: int
    event_id: str
    event_type: str
    resources: list[str]
    state: str
    accepted_at: float
    ended_at: float | None
    attempts: int
    reason: str
    due: float | None
    ms: int
    request_id: str
    unique_id: str
    earlier: int | None


class Attempt(msgspec.Struct, frozen=True):
    """An attempt that was not the last."""

    attempt: int
    ended_at: float
    ms: int
    reason: str


class StepTaken(msgspec.Struct, frozen=True):
    """What a handler of a type with several has done."""

    handler: str
    state: str
    attempts: int
    ms: int
    reason: str


class Blocked(msgspec.Struct, frozen=True):
    """An event that is tried again later or held, and how many wait behind it, directly or in turn."""

    resources: list[str]
    event_id: str
    event_type: str
    state: str
    since: float
    due: float | None
    attempts: int
    reason: str
    behind: int


class TargetAway(msgspec.Struct, frozen=True):
    """Why the external system is unavailable, and since when."""

    reason: str
    since: float | None


class Stats(msgspec.Struct, frozen=True):
    """What is open now by state, when the oldest of it came, and counters over the journal's life."""

    paused: bool
    target_away: TargetAway | None
    open: dict[str, int]
    oldest_open_at: float | None
    total: dict[str, int]


def totals(counts: Mapping[str, int]) -> dict[str, int]:
    """``Stats.total``: every counter, also one that nothing has counted yet."""
    return dict.fromkeys(COUNTERS, 0) | {name: count for name, count in counts.items() if count}


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: all given conditions hold. Times are seconds since the epoch, of acceptance.

    ``resource`` may leave out what kind of id it is, and the environment: ``1001`` for ``i_account:1001@1``.
    ``id_begins``: events whose id is this, or begins so.
    ``latest``: only the latest series of attempts at each event.
    """

    state: str | None = None
    event_type: str | None = None
    resource: str | None = None
    event_id: str | None = None
    id_begins: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    latest: bool = False


class Find(Query[list[Series]], frozen=True):
    """At most ``limit`` series, the newest first or the oldest first."""

    wanted: Filter
    limit: int
    oldest_first: bool = False


class CountFound(Query[dict[str, int]], frozen=True):
    """How many series a filter finds, by type and state as one text each, such as ``SIM/Updated dead``."""

    wanted: Filter


class SeriesOf(Query[list[Series]], frozen=True):
    """All series of attempts at all events that bear this event id, the newest first."""

    event_id: str


class IdsThatBegin(Query[list[str]], frozen=True):
    """At most ``limit`` of the ids that are kept and begin so, sorted."""

    beginning: str
    limit: int


class AttemptsOf(Query[list[Attempt]], frozen=True):
    """The failed attempts of a series."""

    seq: int


class StepsOf(Query[list[StepTaken]], frozen=True):
    """What the handlers have done for a series; empty for a type with one handler."""

    seq: int


class BodyOf(Query[bytes], frozen=True):
    """The body of a series as it came; empty where it is no longer kept."""

    seq: int


class FindBlocked(Query[list[Blocked]], frozen=True):
    """Events that wait for their retry or are held, the longest blocked first."""

    limit: int


class ReadStats(Query[Stats], frozen=True):
    """What is open, and the counters."""
