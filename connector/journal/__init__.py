"""The journal: what was accepted, what is open, what became of it. One contract for every engine.

States of an event::

              keep                       settle (final)
    (nothing) ────▶ pending ──▶ running ───────────────▶ done | ignored | superseded | dead
                       ▲           │ settle (waiting or held)
                       │           ▼
                       └──────  waiting | held

``pending``, ``waiting`` and ``held`` are *open* and stand in the journal; ``running`` is a pending event that a worker
has taken, so a process that dies leaves its running events pending.

The rule of order: an event has *resources* (``Event.resources``: an account, a card, ...). It waits for every earlier
open event with which it shares a resource, and may run when it is the first open one of *each* of its resources. It
waits for earlier ones only, so nothing can deadlock; it holds its place in all its resources while it waits, so who
stands behind it waits too. Nobody else waits. An event without resources runs at once.

Invariants, which ``tests/integration/journal`` holds against every engine through this interface alone:

1. ``keep`` returns after the event is kept; an engine that is ``durable`` has it on disk then (fsync).
2. Sequence numbers grow in the order of acceptance and are never used again.
3. An event whose identity is open or ended well is a duplicate; one whose identity ended dead, or is no longer
   remembered, is a new series of attempts, linked to the one before. An identity that is not known (the body has
   neither id nor ``i_event``) is never a duplicate.
4. A refusal leaves no trace: ``NoRoom`` and ``Unavailable`` are raised before anything is written, or after it was
   taken back.
5. ``settle`` and ``note`` are fenced: they count for an open event and its current attempt only. Whoever lost the
   event (it was discarded or settled, or the journal has another owner) changes nothing.
6. ``settled`` is called in the event loop's thread, in the order of the transactions, after the outcome is kept.
7. Two events that share a resource are never in the hands of workers at the same time, and are taken in the order of
   acceptance: across retries, restarts, operators' commands and backlogs larger than memory.
8. An event that can run is taken sooner or later, whatever waits, and however much.
9. A final event is open no more; its identity is remembered for ``KEEP_IDS``, its payload for ``KEEP_DONE`` or
   ``KEEP_DEAD``.
10. What a handler has done (``Step``) is kept at the latest with what is kept after it; a new series of an identity
    whose last one ended dead starts with the steps of that one that ended well.

How engines do it: ``docs/architecture.md``. ``journal.engines`` chooses one by the scheme of JOURNAL_URL.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar

from connector.events.event import Event
from connector.events.snapshot import Snapshot
from connector.journal.commands import Command, CommandResult
from connector.journal.entry import Entry
from connector.journal.queries import Query
from connector.outcome import Mark, Outcome, Step

__all__ = ["Entry", "Journal", "Kept", "Mark", "Newest", "Settled", "Step"]

Result = TypeVar("Result")

Settled = Callable[[Entry, Outcome, bool], None]
"""Told of an attempt that was settled, once that is kept: the entry, its outcome, and whether it counted (it did not
where the event was discarded or settled by somebody else meanwhile)."""


class Kept(StrEnum):
    """What ``keep`` made of an event."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    """The identity is known, and the body of the event that is kept under it differs."""


class Newest(NamedTuple):
    """What is known of a mark: the newest snapshot that was applied, and an open event behind that is newer."""

    applied: Snapshot | None = None
    behind: Snapshot | None = None


class Journal(ABC):
    """What every engine does. All methods are called in the event loop's thread."""

    durable: bool
    """Whether what is kept outlives the process."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many events are open. Kept as a counter."""

    @property
    def failure(self) -> str | None:
        """Why nothing can be kept at present; None when all is well."""
        return None

    @property
    def full(self) -> str | None:
        """Why there is no room for new events at present; None when there is."""
        return None

    def age(self, moment: float, now: float) -> float:
        """Seconds from ``moment`` to ``now`` (both since the epoch), without those that the journal has not seen."""
        return max(0.0, now - moment)

    async def lost(self) -> str:
        """Return, with the reason, when the process has to end: it is not known what was kept, or a part has failed."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    @abstractmethod
    async def open(self, settled: Settled) -> None:
        """Get ready and begin to hand out what is open. Raises StartError."""

    @abstractmethod
    async def close(self) -> None:
        """Write what is under way and let go. What is kept or settled later is refused."""

    @abstractmethod
    async def flush(self) -> None:
        """Return when everything kept and settled before is written and told; or cannot be written."""

    @abstractmethod
    async def keep(self, event: Event) -> Kept:
        """Keep ``event``. Raises NoRoom, Unavailable, Stopping."""

    @abstractmethod
    async def take(self) -> Entry:
        """The next event that may run. Its resources rest until it is settled or given back."""

    @abstractmethod
    def settle(self, entry: Entry, outcome: Outcome) -> None:
        """End the attempt that ``entry`` stands for; ``settled`` is called when it is kept."""

    @abstractmethod
    def note(self, entry: Entry, step: Step, applied: Sequence[tuple[Mark, Snapshot]] = ()) -> None:
        """A handler of a type with several has ended: in the entry's progress at once, kept with what comes next.

        ``applied``  what it has written, as in ``Outcome``: it may not run again, so no later outcome tells of it
        """

    @abstractmethod
    def give_back(self, entry: Entry, waits_for: str | None = None) -> None:
        """Return an entry as if it had not been taken: its attempt is not spent.

        It is handed out again in its turn, or, if it came before its time (``Entry.due``), when it is due. With
        ``waits_for`` it stays out of the way until ``wake(waits_for)``.
        """

    @abstractmethod
    def wake(self, waits_for: str, most: int | None = None) -> int:
        """Hand out again what was given back to wait for this: ``most`` of them, the first ones, or all.

        Returns how many these are.
        """

    @abstractmethod
    def hold(self, reason: str) -> None:
        """Hand out nothing until every reason to hold is released. Accepting goes on."""

    @abstractmethod
    def release(self, reason: str) -> None:
        """Withdraw a reason to hold."""

    @property
    @abstractmethod
    def holds(self) -> frozenset[str]:
        """Why nothing is handed out although there is work; empty when it is."""

    @abstractmethod
    async def join(self) -> None:
        """Return when nothing is left that could run now."""

    @abstractmethod
    async def newest(self, entry: Entry, mark: Mark) -> Newest:
        """What is known of ``mark`` beside ``entry`` itself. Raises Unavailable."""

    @abstractmethod
    async def ask(self, query: Query[Result]) -> Result:
        """Answer an operator's question; see ``journal.queries``. Raises Unavailable."""

    @abstractmethod
    async def command(self, command: Command) -> CommandResult:
        """Carry out an operator's command; see ``journal.commands``. Raises Unavailable."""

    @abstractmethod
    def note_target(self, reason: str) -> None:
        """Let operators see why the external system is unavailable; an empty text when it is back."""
