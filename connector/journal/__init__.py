"""The journal: what was accepted, what is open, what became of it. One contract for every engine.

States of an event::

              append                      settle (final)
    (nothing) ──────▶ pending ──▶ running ──────────────▶ done | ignored | superseded | dead
                         ▲           │ settle (waiting or held)
                         │           ▼
                         └──────  waiting | held

``pending``, ``waiting`` and ``held`` stand in the journal; ``running`` is a pending event that the process which
owns the journal has in its hands, so a process that dies leaves its running events pending.

Invariants, which ``tests/integration/journal`` holds against every engine:

1. ``append`` returns after the event is kept; an engine that is ``durable`` has it on disk then (fsync).
2. Sequence numbers grow in the order of acceptance and are never used again.
3. An ``event_id`` that is open or ended well is a duplicate; one that ended dead, or that is no longer
   remembered, is accepted as a new series of attempts, linked to the old one.
4. A refusal leaves no trace: ``NoRoom`` and ``Unavailable`` are raised before anything is written, or after it
   was taken back.
5. ``settle`` is fenced: it counts for an open event and its current attempt only. Whoever lost the event (it
   was discarded, settled, or the journal has another owner) changes nothing.
6. The listener hears of stored and of settled events in the order of their transactions, in the event loop's
   thread, and only after the transaction is kept.
7. A settled final event is open no more; its id is remembered for ``KEEP_IDS``, its payload for ``KEEP_DONE`` or
   ``KEEP_DEAD``.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from connector.events.event import Event
from connector.events.snapshot import Snapshot
from connector.outcome import Outcome


class Listener(Protocol):
    """Who is told what the journal has kept: the lanes."""

    def stored(self, event: Event) -> None:
        """``event`` is kept and has its ``seq``."""

    def settled(self, event: Event, outcome: Outcome, kept: bool) -> None:
        """The outcome of ``event`` is kept; or was not, since another had settled the event (``kept`` is False)."""

    def changed(self, last_seq: int, lanes: Iterable[str], holds: Mapping[str, bool]) -> None:
        """An operator's change is kept: new events up to ``last_seq``, lanes to look at again, holds to set or lift."""


class Page(NamedTuple):
    """Open events in order of acceptance, and the sequence number up to which there are no others."""

    events: Sequence[Event]
    upto: int


class Journal(ABC):
    """What every engine does. All methods are called in the event loop's thread."""

    durable: bool
    """Whether what is kept outlives the process."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many events are open. Kept as a counter."""

    @property
    def fault(self) -> str | None:
        """Why nothing can be kept at present; None when all is well."""
        return None

    async def lost(self) -> str:
        """Return, with the reason, when the process has to end because it cannot know what was kept."""
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    @abstractmethod
    async def open(self, listener: Listener) -> int:
        """Get ready; returns the highest sequence number in use. Raises StartError."""

    @abstractmethod
    async def close(self) -> None:
        """Write what is under way and let go. Events appended or settled later are refused."""

    @abstractmethod
    async def append(self, event: Event) -> bool:
        """Keep ``event`` and set its ``seq``: True; False when its id is a duplicate. Raises NoRoom, Unavailable."""

    @abstractmethod
    async def flush(self) -> None:
        """Return when everything appended and settled before is kept and the listener knows; or cannot be kept."""

    @abstractmethod
    def settle(self, event: Event, outcome: Outcome) -> None:
        """Note the outcome of the attempt that ``event`` stands for; the listener is told when it is kept."""

    @abstractmethod
    async def read(self, after: int, limit: int) -> Page:
        """At most ``limit`` open events with a sequence number above ``after``."""

    @abstractmethod
    async def read_lanes(self, lanes: Sequence[str], upto: int, limit: int) -> Mapping[str, Sequence[Event]]:
        """The first ``limit`` open events of each of these lanes, up to sequence number ``upto``."""

    @abstractmethod
    async def parked_lanes(self) -> Sequence[str]:
        """The lanes whose head is waiting or held."""

    @abstractmethod
    async def claim_due(self, now: float, limit: int) -> tuple[Sequence[str], float | None]:
        """Make waiting events that are due pending again: their lanes, and when the next one is due."""

    @abstractmethod
    def note_target(self, away: str) -> None:
        """Let operators see why the external system seems to be away; an empty text when it is back."""

    @abstractmethod
    async def newest(self, lane: str, handler: str) -> Snapshot | None:
        """The newest snapshot of this lane that ``handler`` has applied, as its settled outcomes said."""
