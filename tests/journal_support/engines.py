"""The engines that the contract is held against, and a bench on which one of them is tried."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from connector.events.event import Event
from connector.journal import Entry, Journal, Kept, Mark
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.memory import MemoryStore
from connector.journal.sqlite.store import SqliteStore
from connector.outcome import Outcome
from tests.journal_support.logged import LoggedStore
from tests.journal_support.simplest import SimplestJournal

CAPACITY = 50
QUEUE = 20
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


def sqlite_store(path: Path, clock: Callable[[], float], **settings: Any) -> SqliteStore:
    """A store that keeps everything unless ``settings`` say otherwise."""
    keep = {"keep_done": 1e9, "keep_dead": 1e9, "keep_ids": 1e9, "min_free_disk": 0}
    return SqliteStore(path, clock=clock, **(keep | settings))


def marks_of(event: Event) -> Sequence[Mark]:
    """What the handlers of the bench's events write.

    ``*/Latest`` has a ``latest_only`` handler; that of ``*/Elsewhere`` writes something that is not among the resources
    by which its events are ordered.
    """
    if event.event_type.endswith("/Elsewhere"):
        return [Mark("handler", "elsewhere")]
    if not event.event_type.endswith("/Latest"):
        return ()
    return [Mark("handler", resource) for resource in event.resources]


def _memory(bench: "Bench") -> Journal:
    return _over(MemoryStore(bench.clock), bench)


def _sqlite(bench: "Bench") -> Journal:
    return _over(sqlite_store(bench.path, bench.clock, **bench.settings), bench)


def _over(store: Any, bench: "Bench") -> Journal:
    size = {"capacity": CAPACITY, "queue_size": bench.queue_size}
    return GroupCommitJournal(store, clock=bench.clock, marks=marks_of, **size)


def _logged(bench: "Bench") -> Journal:
    return _over(LoggedStore(bench.path, bench.clock), bench)


def _simplest(bench: "Bench") -> Journal:
    return SimplestJournal(CAPACITY, bench.clock, marks_of)


ENGINES: Final[Mapping[str, Callable[["Bench"], Journal]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "logged": _logged,
    "simplest": _simplest,
}
"""A further engine is a line here, and passes the suite."""


class Bench:
    """A journal of one engine under test and its clock. ``durable`` engines can be reopened.

    ``settled``, ``threads``  what was told of attempts that ended, and in which threads
    """

    def __init__(self, engine: str, folder: Path, queue_size: int = QUEUE) -> None:
        self.engine = engine
        self.clock = Clock()
        self.path = folder / "journal.db"
        self.queue_size = queue_size
        self.settings: dict[str, Any] = {}
        self.settled: list[tuple[Entry, Outcome, bool]] = []
        self.threads: set[int] = set()
        self._told = asyncio.Event()
        self.journal = ENGINES[engine](self)

    @property
    def durable(self) -> bool:
        """Whether it can be reopened."""
        return self.journal.durable

    async def open(self) -> None:
        """Open the journal."""
        await self.journal.open(self._tell)

    async def reopen(self) -> None:
        """Close the journal and open the file anew."""
        await self.journal.close()
        self.journal = ENGINES[self.engine](self)
        await self.open()

    async def keep(self, *events: Event) -> list[Kept]:
        """Keep events at the same time."""
        return await asyncio.gather(*(self.journal.keep(each) for each in events))

    async def take(self) -> Entry:
        """The next event, which has to come."""
        async with asyncio.timeout(TIMEOUT):
            return await self.journal.take()

    async def take_all(self) -> list[Entry]:
        """Everything that can be taken without settling anything."""
        found: list[Entry] = []
        while (entry := await self.take_if_there()) is not None:
            found.append(entry)
        return found

    async def take_if_there(self) -> Entry | None:
        """The next event; None where none can be taken now."""
        taking = asyncio.ensure_future(self.journal.take())
        for _ in range(6):  # what can be taken may have to be read first
            await self.journal.flush()
            await asyncio.sleep(0)
            if taking.done():
                return taking.result()
        taking.cancel()
        await asyncio.wait({taking})
        return None if taking.cancelled() else taking.result()

    async def later(self, seconds: float) -> None:
        """Move the clock on and have the journal look at it."""
        self.clock.now += seconds
        await self.journal.flush()

    async def settle(self, entry: Entry, outcome: Outcome) -> bool:
        """Settle and wait until it is kept; whether it counted."""
        before = len(self.settled)
        self.journal.settle(entry, outcome)
        await self.until(lambda: len(self.settled) > before)
        return self.settled[before][2]

    async def until(self, there: Callable[[], bool]) -> None:
        """Return as soon as ``there`` holds; asked again with everything that is settled."""
        async with asyncio.timeout(TIMEOUT):
            while not there():
                self._told.clear()
                await self._told.wait()

    def _tell(self, entry: Entry, outcome: Outcome, counted: bool) -> None:
        self.settled.append((entry, outcome, counted))
        self.threads.add(threading.get_ident())
        self._told.set()
