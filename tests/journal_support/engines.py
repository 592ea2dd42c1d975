"""The engines that the contract is held against, and a listener that writes down what it hears."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from connector.events.event import Event
from connector.journal import Journal
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.memory import MemoryJournal
from connector.journal.sqlite.store import SqliteStore
from connector.outcome import Outcome

CAPACITY = 50
TIMEOUT = 10.0

DONE = Outcome("done", "well", ms=3)
DEAD = Outcome("dead", "never", ms=4)
HELD = Outcome("held", "ask", ms=5)


def waiting(due: float = 1010.0) -> Outcome:
    """An attempt that failed; the next one is at ``due``."""
    return Outcome("waiting", "later", due=due, ms=6)


class Clock:
    """Seconds since the epoch, as the test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Heard:
    """A listener: what it was told, in order."""

    def __init__(self) -> None:
        self.stored_events: list[Event] = []
        self.settled_events: list[tuple[Event, Outcome, bool]] = []
        self.changes: list[tuple[int, set[str], dict[str, bool]]] = []
        self.log: list[tuple[str, int]] = []
        self._grown = asyncio.Event()

    def stored(self, event: Event) -> None:
        self.stored_events.append(event)
        self.log.append(("stored", event.seq))
        self._grown.set()

    def settled(self, event: Event, outcome: Outcome, kept: bool) -> None:
        self.settled_events.append((event, outcome, kept))
        self.log.append((outcome.state if kept else "lost", event.seq))
        self._grown.set()

    def changed(self, last_seq: int, lanes: Iterable[str], holds: Mapping[str, bool]) -> None:
        self.changes.append((last_seq, set(lanes), dict(holds)))
        self._grown.set()

    async def until(self, there: Callable[[], bool]) -> None:
        """Return as soon as ``there`` holds; asked again with everything that is heard."""
        async with asyncio.timeout(TIMEOUT):
            while not there():
                self._grown.clear()
                await self._grown.wait()


def sqlite_store(path: Path, clock: Callable[[], float], **settings: Any) -> SqliteStore:
    """A store that keeps everything unless ``settings`` say otherwise."""
    keep = {"keep_done": 1e9, "keep_dead": 1e9, "keep_ids": 1e9, "min_free_disk": 0}
    return SqliteStore(path, clock=clock, **(keep | settings))


class Bench:
    """A journal of one engine under test, its listener and its clock. ``durable`` engines can be reopened."""

    def __init__(self, engine: str, folder: Path) -> None:
        self.durable = engine != "memory"
        self.clock = Clock()
        self.path = folder / "journal.db"
        self.settings: dict[str, Any] = {}
        self.heard = Heard()
        self.journal = self.make()

    def make(self, capacity: int = CAPACITY) -> Journal:
        """A new journal over the same file."""
        if not self.durable:
            return MemoryJournal(capacity)
        return GroupCommitJournal(sqlite_store(self.path, self.clock, **self.settings), capacity)

    async def open(self) -> int:
        """Open the journal; the highest sequence number in use."""
        return await self.journal.open(self.heard)

    async def reopen(self) -> int:
        """Close the journal and open the file anew, with a listener that has heard nothing."""
        await self.journal.close()
        self.heard = Heard()
        self.journal = self.make()
        return await self.open()

    async def settle(self, event: Event, outcome: Outcome) -> bool:
        """Settle and wait for the listener; whether it counted."""
        before = len(self.heard.settled_events)
        self.journal.settle(event, outcome)
        await self.heard.until(lambda: len(self.heard.settled_events) > before)
        return self.heard.settled_events[before][2]

    async def open_ids(self) -> list[str]:
        """The ids of all open events in order."""
        return [event.event_id for event in (await self.journal.read(0, 10_000)).events]
