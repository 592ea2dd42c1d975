"""Journal and workers of a connector without its server, on a clock that the test sets."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec

from connector.delivery.workers import Workers
from connector.events.event import Event
from connector.events.schema import Schema
from connector.handlers import Handlers, handler_of
from connector.journal import Kept
from connector.journal.commands import Command, CommandResult, Verb
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.queries import Filter, Find, Series
from connector.journal.sqlite import history
from connector.outcome import RetryPolicy
from tests import events
from tests.journal_support.engines import Clock, sqlite_store

PATIENCE = 10.0
AT_ONCE = RetryPolicy(base=0.0, longest=0.0, max_attempts=1000, max_age=1e9)
SCHEMA = Schema(["data.event_type"])


class Delivery:
    """A connector's inside over the journal file in ``folder``; the file outlives a ``restart``."""

    def __init__(
        self,
        folder: Path,
        *functions: Callable[[Event], Any],
        queue_size: int = 100,
        workers: int = 4,
        timeout: float = 30.0,
        policy: RetryPolicy = AT_ONCE,
        hold_dead: bool = False,
    ) -> None:
        self.path = folder / "journal.db"
        self.clock = Clock()
        self._handlers = Handlers([handler_of(function) for function in functions])
        self._make: Callable[[], Workers] = lambda: Workers(
            self.journal,
            self._handlers,
            policy,
            count=workers,
            timeout=timeout,
            hold_dead=hold_dead,
            clock=self.clock,
        )
        self._queue_size = queue_size
        self._longest_wait = policy.longest

    async def start(self) -> None:
        """Open the journal and begin to work."""
        store = sqlite_store(self.path, self.clock, longest_wait=self._longest_wait)
        self.journal = GroupCommitJournal(
            store, capacity=1_000_000, queue_size=self._queue_size, clock=self.clock, marks=self._handlers.marks
        )
        self.workers = self._make()
        await self.journal.open(lambda *_: None)
        self.workers.start()

    async def stop(self, patience: float = 0.0) -> int:
        """Cut off what runs after ``patience`` seconds and close; how many events were cut off."""
        cut_off = await self.workers.drain(patience, everything=False)
        await self.journal.flush()
        await self.journal.close()
        return cut_off

    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()

    async def accept(self, event_id: str, i_account: int = 1, event_type: str = "SIM/Updated", **fields: Any) -> bool:
        """Accept an event of this subscriber; whether it is new."""
        body = events.of_subscriber(i_account, event_id, event_type) | fields
        event = SCHEMA.parse(events.encode(body), "request", "unique", self.clock.now)
        return await self.journal.keep(event) is Kept.NEW

    async def later(self, seconds: float) -> None:
        """Move the clock on and have the journal look at it."""
        self.clock.now += seconds
        await self.journal.flush()

    async def command(self, verb: Verb, *names: str) -> dict[str, str]:
        """Leave a command in the journal as another process does; the answer."""
        text = msgspec.json.encode(Command(verb, list(names))).decode()
        with closing(sqlite3.connect(self.path, timeout=5.0, isolation_level=None)) as db:
            query = "INSERT INTO commands (made_at, command) VALUES (?, ?) RETURNING number"
            (number,) = db.execute(query, (self.clock.now, text)).fetchone()
            while True:
                await self.journal.flush()
                (answer,) = db.execute("SELECT answer FROM commands WHERE number = ?", (number,)).fetchone()
                if answer is not None:
                    return msgspec.json.decode(answer, type=CommandResult).results

    def find(self, **wanted: Any) -> list[Series]:
        """What stands in the history, the oldest first."""
        with history.connect(self.path) as past:
            return past.ask(Find(Filter(**wanted), 100_000))[::-1]

    def states(self) -> dict[str, str]:
        """The state of each event."""
        return {series.event_id: series.state for series in self.find()}

    async def until(self, there: Callable[[], bool]) -> None:
        """Return as soon as ``there`` holds; asked again after each transaction."""
        async with asyncio.timeout(PATIENCE):
            while not there():
                await self.journal.flush()
                await asyncio.sleep(0.001)

    async def become(self, **states: str) -> None:
        """Return when these events have these states."""
        await self.until(lambda: self.states().items() >= states.items())

    async def quiet(self) -> None:
        """Return when there is nothing that could be run now."""
        async with asyncio.timeout(PATIENCE):
            await self.journal.join()


@asynccontextmanager
async def delivering(folder: Path, *functions: Callable[[Event], Any], **options: Any) -> AsyncIterator[Delivery]:
    """A started ``Delivery``."""
    delivery = Delivery(folder, *functions, **options)
    await delivery.start()
    try:
        yield delivery
    finally:
        await delivery.stop()


def ids(events_or_series: Sequence[Event | Series]) -> list[str]:
    """The event ids."""
    return [each.event_id for each in events_or_series]
