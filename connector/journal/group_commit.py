"""Group commit: everything that comes while a transaction is under way shares the next one.

The event loop's side gathers appended events, settled events and calls; one thread of its own carries them out, a
batch a transaction. There is no timer: a lone event starts a transaction at once, and under load the batches grow by
themselves to what arrives while the disk syncs.

::

    healthy ──a transaction fails──▶ failed ──a probe succeeds (one a second)──▶ healthy
       └───────it is not known what was kept───────┴──▶ lost (the process has to end)

    healthy: appends are taken; failed: they are refused with 503, settled events are kept and noted later;
    lost: nothing is written any more, since it could come after something that is not there
"""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from connector import log
from connector.errors import NoRoom, Stopping, Unavailable
from connector.events.event import Event
from connector.events.snapshot import Snapshot
from connector.facts import facts
from connector.journal import Journal, Listener, Page
from connector.journal.sqlite.operator import Answer, Change, Command
from connector.outcome import Outcome

PROBE_INTERVAL: Final = 1.0
"""Seconds between tries to write again after a failure."""

IDLE_INTERVAL: Final = 0.25
"""Seconds after which a store that has had nothing to do is given time for its own upkeep."""

Result = TypeVar("Result")

_logger = log.get_logger()


@dataclass(slots=True)
class Batch:
    """What one transaction does, in this order, and what came of it.

    ``stored``   for each appended event, whether it is new
    ``kept``     for each settled event, whether it counted
    ``answers``  to the commands of operators, and in ``change`` what they have changed
    ``results``  of the calls, an exception where one failed
    """

    appends: list[Event] = field(default_factory=list)
    settles: list[tuple[Event, Outcome]] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    calls: list[Callable[[Any], Any]] = field(default_factory=list)
    stored: Sequence[bool] = ()
    kept: Sequence[bool] = ()
    results: Sequence[Any] = ()
    answers: Sequence[Answer] = ()
    change: Change | None = None


class StoreError(Exception):
    """The store cannot write or read now; what the batch wanted has not happened.

    ``fatal``: or it is not known whether it has; the process must end and read the store anew.
    """

    def __init__(self, text: str, *, fatal: bool = False) -> None:
        super().__init__(text)
        self.fatal = fatal


class Store(ABC):
    """The thread's side: one engine's storage. Methods are called from one thread, one at a time."""

    last_seq = 0
    open_events = 0
    full: str | None = None
    """Why there is no room although the backlog is within bounds, such as a full disk."""

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

    @abstractmethod
    def commit(self, batch: Batch) -> None:
        """Carry out the batch as one durable transaction and fill in its results. Raises StoreError."""

    @abstractmethod
    def has_mail(self) -> bool:
        """Whether another process may have left commands that the next transaction will carry out."""

    @abstractmethod
    def recover(self) -> None:
        """Try whether writing works again. Raises StoreError."""

    @abstractmethod
    def upkeep(self) -> bool:
        """Do a small step of upkeep (pruning, checkpoint); whether there is more to do. Raises StoreError."""

    @abstractmethod
    def read(self, after: int, limit: int) -> Page:
        """As ``Journal.read``."""

    @abstractmethod
    def read_lanes(self, lanes: Sequence[str], upto: int, limit: int) -> Mapping[str, Sequence[Event]]:
        """As ``Journal.read_lanes``."""

    @abstractmethod
    def parked_lanes(self) -> Sequence[str]:
        """As ``Journal.parked_lanes``."""

    @abstractmethod
    def claim_due(self, now: float, limit: int) -> tuple[Sequence[str], float | None]:
        """As ``Journal.claim_due``."""

    @abstractmethod
    def note_target(self, away: str) -> None:
        """As ``Journal.note_target``."""

    @abstractmethod
    def newest(self, lane: str, handler: str) -> Snapshot | None:
        """As ``Journal.newest``."""


class GroupCommitJournal(Journal):
    """A durable journal over a store. ``capacity`` is the most events that may be open."""

    durable = True

    def __init__(self, store: Store, capacity: int) -> None:
        self._store = store
        self._capacity = capacity
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._listener: Listener | None = None
        self._appends: list[tuple[Event, asyncio.Future[bool]]] = []
        self._under_way = 0
        self._settles: list[tuple[Event, Outcome]] = []
        self._calls: list[tuple[Callable[[Any], Any], asyncio.Future[Any]]] = []
        self._work = asyncio.Event()
        self._lost: asyncio.Future[str]
        self._pump: asyncio.Task[None] | None = None
        self._size = 0
        self._fault: str | None = None
        self._closing = False
        self._close_wanted = asyncio.Event()

    @property
    def size(self) -> int:
        return self._size

    @property
    def fault(self) -> str | None:
        return self._fault

    async def lost(self) -> str:
        return await asyncio.shield(self._lost)

    async def open(self, listener: Listener) -> int:
        self._lost = asyncio.get_running_loop().create_future()
        await self._in_thread(self._store.open)
        self._listener = listener
        self._size = self._store.open_events
        listener.changed(self._store.last_seq, (), dict.fromkeys(self._store.holds, True))
        self._pump = asyncio.create_task(self._run(), name="journal")
        return self._store.last_seq

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._work.set()
        self._close_wanted.set()
        if self._pump is not None:
            await self._pump
            await self._in_thread(self._store.close)
        self._thread.shutdown(wait=False)

    async def append(self, event: Event) -> bool:
        if self._closing:
            raise Stopping
        if self._fault is not None:
            raise Unavailable(f"The event cannot be kept: {self._fault}")
        if self._size + self._under_way + len(self._appends) >= self._capacity:
            raise NoRoom("The backlog is full; send the event again later")
        if self._store.full is not None:
            raise NoRoom(self._store.full)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._appends.append((event, future))
        self._work.set()
        return await future

    def settle(self, event: Event, outcome: Outcome) -> None:
        self._settles.append((event, outcome))
        self._work.set()

    async def flush(self) -> None:
        with contextlib.suppress(Unavailable):
            await self.call(lambda _: None)

    async def call(self, function: Callable[[Any], Result]) -> Result:
        """Run ``function(store)`` within the next transaction. Raises Unavailable, or what it raised."""
        if self._closing:
            raise Stopping
        if self._fault is not None:
            raise Unavailable(self._fault)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._calls.append((function, future))
        self._work.set()
        return await future

    async def read(self, after: int, limit: int) -> Page:
        return await self.call(lambda store: store.read(after, limit))

    async def read_lanes(self, lanes: Sequence[str], upto: int, limit: int) -> Mapping[str, Sequence[Event]]:
        return await self.call(lambda store: store.read_lanes(lanes, upto, limit))

    async def parked_lanes(self) -> Sequence[str]:
        return await self.call(lambda store: store.parked_lanes())

    async def claim_due(self, now: float, limit: int) -> tuple[Sequence[str], float | None]:
        return await self.call(lambda store: store.claim_due(now, limit))

    def note_target(self, away: str) -> None:
        if self._closing or self._fault is not None:
            return  # an outage of the disk is what operators look at then
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda noted: noted.exception())  # nobody waits for it
        self._calls.append((lambda store: store.note_target(away), future))
        self._work.set()

    async def newest(self, lane: str, handler: str) -> Snapshot | None:
        return await self.call(lambda store: store.newest(lane, handler))

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _run(self) -> None:
        try:
            await self._take_turns()
        except Exception as fault:  # whatever is wrong here, nobody is left waiting
            _logger.exception("The journal has a fault of its own", action="journal.fault")
            self._fail(StoreError(f"{type(fault).__name__} in the journal", fatal=True), [])

    async def _take_turns(self) -> None:
        while not self._closing or self._appends or self._settles or self._calls:
            if self._lost.done():
                break
            if self._fault is not None:
                await self._probe()
                if self._closing and self._fault is not None:
                    break  # what is settled but not noted is handled again after the next start
            elif await self._has_work():
                await self._commit()
                if self._store.wants_upkeep and self._fault is None:
                    await self._upkeep()
            elif await self._in_thread(self._store.has_mail):
                await self._commit()
            else:
                await self._upkeep()

    async def _has_work(self) -> bool:
        try:
            async with asyncio.timeout(IDLE_INTERVAL):
                await self._work.wait()
        except TimeoutError:
            return False
        self._work.clear()
        return True

    async def _commit(self) -> None:
        appends, self._appends = self._appends, []
        settles, self._settles = self._settles, []
        calls, self._calls = self._calls, []
        batch = Batch([event for event, _ in appends], settles, calls=[function for function, _ in calls])
        self._under_way = len(appends)
        started = time.monotonic()
        try:
            await self._in_thread(self._store.commit, batch)
            facts.committed(sum(batch.stored), time.monotonic() - started)
            self._tell(batch, appends, calls)
        except StoreError as error:
            self._settles = settles + self._settles
            self._fail(error, [future for _, future in appends] + [future for _, future in calls])
        except Exception as fault:
            own = StoreError(f"{type(fault).__name__} in the journal", fatal=True)
            self._fail(own, [future for _, future in appends] + [future for _, future in calls])
            raise
        finally:
            self._under_way = 0

    def _tell(
        self,
        batch: Batch,
        appends: Sequence[tuple[Event, "asyncio.Future[bool]"]],
        calls: Sequence[tuple[Callable[[Any], Any], "asyncio.Future[Any]"]],
    ) -> None:
        self._tell_listener(batch, [future for _, future in appends])
        for (_, answer), result in zip(calls, batch.results, strict=True):
            if answer.done():
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    def _tell_listener(self, batch: Batch, futures: Sequence["asyncio.Future[bool]"]) -> None:
        listener = self._listener
        assert listener is not None  # noqa: S101 - for the type checker: the pump runs after ``open``
        for event, new, future in zip(batch.appends, batch.stored, futures, strict=True):
            if not future.done():  # done already: the client has gone, the event stays
                future.set_result(new)
            if new:
                self._size += 1
                listener.stored(event)
        for (event, outcome), kept in zip(batch.settles, batch.kept, strict=True):
            if kept and outcome.final:
                self._size -= 1
            listener.settled(event, outcome, kept)
        if batch.change is not None:
            self._size += batch.change.open_events
            listener.changed(batch.change.last_seq, batch.change.lanes, batch.change.holds)

    def _fail(self, error: StoreError, futures: Sequence["asyncio.Future[Any]"]) -> None:
        self._fault = fault = str(error)
        _logger.error(f"The journal cannot be written: {fault}", action="journal.failed", reason=fault)
        late = [future for _, future in self._appends] + [future for _, future in self._calls]
        self._appends, self._calls = [], []
        for future in [*futures, *late]:
            if not future.done():
                future.set_exception(Unavailable(f"The event cannot be kept: {fault}"))
        if error.fatal and not self._lost.done():
            self._lost.set_result(fault)

    async def _probe(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROBE_INTERVAL):
                await self._close_wanted.wait()
        try:
            await self._in_thread(self._store.recover)
        except StoreError as error:
            if error.fatal:
                self._fail(error, [])
            return
        self._fault = None
        self._work.set()
        _logger.info("The journal can be written again", action="journal.recovered")

    async def _upkeep(self) -> None:
        try:
            while await self._in_thread(self._store.upkeep) and not self._work.is_set():
                pass
        except StoreError as error:
            self._fail(error, [])
