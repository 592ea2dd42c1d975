"""The storage side of an embedded journal: what one transaction does, and what an engine's store has to offer.

``GroupCommitJournal`` gathers a batch in the event loop; the store carries it out as one transaction, in the thread of
the journal, or in the loop itself where it touches no disk (``in_loop``).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import inf
from typing import Any, Final, NamedTuple

from connector.events.event import Event
from connector.events.snapshot import Snapshot
from connector.journal import Entry, Kept, Newest
from connector.journal.commands import Change, Command, CommandResult
from connector.journal.queries import Query
from connector.outcome import Mark, Outcome, Step

Marks = tuple[tuple[Mark, Snapshot], ...]

EVENT_BYTES: Final = 2048
"""What an event takes besides its body: its ids, what it touches, its outcome."""


class Append(NamedTuple):
    """An event to keep, and what its ``latest_only`` handlers would write (the snapshots have no ``seq`` yet)."""

    event: Event
    marks: Marks = ()


class Feed(NamedTuple):
    """What the scheduler wants to read: events that may run and are not in memory.

    ``due``    so many of those that wait and are due at ``now`` become pending again (None: it does not ask)
    ``seqs``   these events, as far as they may still run
    ``after``, ``ahead``  at most ``ahead`` events above the sequence number ``after``
    """

    now: float
    due: int | None = None
    seqs: Sequence[int] = ()
    after: int = 0
    ahead: int = 0


class Fed(NamedTuple):
    """What was read. ``upto``: up to this sequence number there is nothing else above ``Feed.after`` that may run."""

    entries: Sequence[Entry] = ()
    next_due: float | None = None
    upto: int = 0


@dataclass(slots=True)
class Batch:
    """What one transaction does, in this order, and what came of it.

    ``marked``     what the ``latest_only`` handlers of a replayed event would write, as in ``Append``
    ``loadable``   so many events that the transaction unblocks may be read at once, unless they are in ``cached``
    ``running``    events that workers have in their hands
    ``counted``    for each note and settle, whether it counted
    ``kept``, ``entries``  for each append, what was made of it, and its entry if it is new
    ``unblocked``  sequence numbers that may run now, and their entries as far as they were read
    ``answers``    to the commands of this process, and in ``change`` what all commands have changed
    ``results``    of the calls, an exception where one failed
    """

    settles: list[tuple[Entry, Outcome]] = field(default_factory=list)
    notes: list[tuple[Entry, Step, Sequence[tuple[Mark, Snapshot]]]] = field(default_factory=list)
    rests: list[Entry] = field(default_factory=list)
    appends: list[Append] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    calls: list[Callable[[Any], Any]] = field(default_factory=list)
    feed: Feed | None = None
    marked: Callable[[Event], Marks] = lambda _: ()
    loadable: int = 0
    cached: Container[int] = ()
    running: Container[int] = ()
    counted: Sequence[bool] = ()
    kept: Sequence[Kept] = ()
    entries: Sequence[Entry | None] = ()
    unblocked: Mapping[int, Entry | None] = field(default_factory=dict)
    answers: Sequence[CommandResult] = ()
    change: Change | None = None
    results: Sequence[Any] = ()
    fed: Fed | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """What it adds to the counters (``queries.COUNTERS``), once its results are filled in."""
        counts: dict[str, int] = dict(self.change.counts) if self.change is not None else {}
        settled = zip(self.settles, self.counted, strict=True)
        ended = (_COUNTED.get(outcome.state, outcome.state) for (_, outcome), counted in settled if counted)
        kept = ("accepted" if each is Kept.NEW else "duplicate" for each in self.kept)
        for name in chain(ended, kept):
            counts[name] = counts.get(name, 0) + 1
        return counts


_COUNTED: Final = {"waiting": "retried"}
"""Outcomes that are counted under another name than that of their state."""


class StoreError(Exception):
    """The store cannot write or read now; what the batch wanted has not happened.

    ``fatal``: or it is not known whether it has; the process must end and read the store again.
    """

    def __init__(self, text: str, *, fatal: bool = False) -> None:
        super().__init__(text)
        self.fatal = fatal


class Store(ABC):
    """One engine's storage. Methods are called one at a time, from one thread."""

    durable = True
    in_loop = False
    """Whether its methods return at once, so that they are called in the event loop's thread."""

    last_seq = 0
    open_events = 0
    open_bytes = 0
    """Bytes of the bodies of open events."""

    full: str | None = None
    """Why there is no room although the backlog is within bounds, such as a full disk."""

    room: float = inf
    """Bytes of events that there is room for: of each its body, and ``EVENT_BYTES``."""

    holds: Sequence[str] = ()
    """Why nothing was to be delivered when the store was closed last."""

    wants_upkeep = False
    """Whether ``upkeep`` is due although there is work."""

    @abstractmethod
    def open(self) -> None:
        """Raises StartError."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""

    def knows(self, event: Event) -> bool:
        """Whether an event is a duplicate, where that can be told without a transaction: such a one needs no room."""
        return False

    @abstractmethod
    def commit(self, batch: Batch) -> None:
        """Carry out the batch as one durable transaction and fill in its results. Raises StoreError."""

    def has_mail(self) -> bool:
        """Whether another process may have left commands that the next transaction will carry out."""
        return False

    def recover(self) -> None:  # noqa: B027 - a store that cannot fail has nothing to recover from
        """Try whether writing works again. Raises StoreError."""

    def upkeep(self) -> bool:
        """Do a small step of upkeep (pruning, checkpoint); whether there is more to do. Raises StoreError."""
        return False

    def age(self, moment: float, now: float) -> float:
        """As ``Journal.age``. May be called in another thread."""
        return max(0.0, now - moment)

    @abstractmethod
    def newest(self, seq: int, mark: Mark, mine: Snapshot) -> Newest:
        """As ``Journal.newest`` for the event ``seq`` with the snapshot ``mine``. Within a transaction."""

    @abstractmethod
    def answer(self, query: Query[Any]) -> Any:
        """As ``Journal.ask``. Within a transaction."""

    @abstractmethod
    def note_target(self, reason: str) -> None:
        """As ``Journal.note_target``. Within a transaction."""
