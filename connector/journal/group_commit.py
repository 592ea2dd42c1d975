"""The journal of one process over a store: everything that comes while a transaction is under way shares the next one.

The event loop's side gathers what is kept, settled, asked and commanded; one thread of its own carries it out, a batch
a transaction. There is no timer: a lone event starts a transaction at once, and under load the batches grow by
themselves to what arrives while the disk syncs. What the scheduler wants to read travels with the batches, a bounded
piece in each: accepting, retries and reading on take turns.

::

    healthy ──a transaction fails──▶ failed ──a probe succeeds (one a second)──▶ healthy
       └───────it is not known what was kept───────┴──▶ lost (the process has to end)

    healthy: events are kept; failed: they are refused with 503, settled events are kept in memory and noted later;
    lost: nothing is written any more, since it could come after something that is not there
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from connector import log
from connector.errors import NoRoom, Stopping, Unavailable
from connector.events.event import Event
from connector.events.snapshot import Snapshot, snapshot, snapshot_of, times_ahead
from connector.facts import facts
from connector.journal import Entry, Journal, Kept, Newest, Settled
from connector.journal.commands import Change, Command, CommandResult
from connector.journal.queries import Query
from connector.journal.scheduler import MAX_BYTES, Scheduler
from connector.journal.store import EVENT_BYTES, Append, Batch, Store, StoreError
from connector.outcome import Mark, Outcome, Step

PROBE_INTERVAL: Final = 1.0
"""Seconds between tries to write again after a failure."""

IDLE_INTERVAL: Final = 0.25
"""Seconds after which a store that has had nothing to do is given time for its own upkeep."""

SAID: Final = 20
"""Results of a command that its log line shows."""

Result = TypeVar("Result")

_logger = log.get_logger()


def no_marks(_: Event) -> Sequence[Mark]:
    """What handlers without ``latest_only`` write."""
    return ()


class GroupCommitJournal(Journal):
    """A journal over a store that this process owns.

    ``capacity``    the most events that may be open
    ``capacity_bytes``  the most bytes that their bodies may have
    ``queue_size``  events held in memory
    ``queue_bytes``  bytes of their bodies, one event more may pass it
    ``clock``       seconds since the epoch, steady while the process runs
    ``marks``       what the ``latest_only`` handlers of an event would write
    """

    def __init__(
        self,
        store: Store,
        *,
        capacity: int,
        queue_size: int,
        clock: Callable[[], float],
        capacity_bytes: int = MAX_BYTES,
        queue_bytes: int = MAX_BYTES,
        marks: Callable[[Event], Sequence[Mark]] = no_marks,
    ) -> None:
        self.durable = store.durable
        self._store = store
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._open_bytes = 0
        self._clock = clock
        self._marks = marks
        self._scheduler = Scheduler(queue_size, clock, queue_bytes)
        self._thread = None if store.in_loop else ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._settled: Settled = _nobody
        self._batch = Batch()
        self._kept: list[asyncio.Future[Kept]] = []
        self._answers: list[asyncio.Future[Any]] = []
        self._under_way = 0
        self._bytes = self._bytes_under_way = self._refused = 0
        self._work = asyncio.Event()
        self._lost: asyncio.Future[str]
        self._pump: asyncio.Task[None] | None = None
        self._size = 0
        self._fault: str | None = None
        self._target: str | None = None
        self._closing = False
        self._close_wanted = asyncio.Event()

    @property
    def size(self) -> int:
        return self._size

    @property
    def failure(self) -> str | None:
        return self._fault

    @property
    def full(self) -> str | None:
        if (full := self._full()) is not None:
            return full
        if self._refused > self._store.room:
            return f"The disk of the journal has no room for an event of {self._refused >> 10} KiB"
        return None

    def _full(self) -> str | None:
        """Why no event is taken, however small."""
        if self._size + self._under_way + len(self._batch.appends) >= self._capacity:
            return "The backlog is full; send the event again later"
        return self._store.full

    @property
    def in_memory(self) -> int:
        """How many events are held in memory."""
        return self._scheduler.in_memory

    def age(self, moment: float, now: float) -> float:
        return self._store.age(moment, now)

    async def lost(self) -> str:
        return await asyncio.shield(self._lost)

    async def open(self, settled: Settled) -> None:
        self._lost = asyncio.get_running_loop().create_future()
        await self._in_thread(self._store.open)
        self._settled = settled
        self._size, self._open_bytes = self._store.open_events, self._store.open_bytes
        self._scheduler.open(self._store.last_seq)
        for reason in self._store.holds:
            self._scheduler.hold(reason)
        self._pump = asyncio.create_task(self._run(), name="journal")

    async def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._work.set()
        self._close_wanted.set()
        if self._pump is not None:
            await self._pump
            await self._in_thread(self._store.close)
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    async def flush(self) -> None:
        with contextlib.suppress(Unavailable, Stopping):
            await self.call(lambda _: None)

    async def keep(self, event: Event) -> Kept:
        self._check()
        if (full := self._full()) is not None and not self._store.knows(event):
            raise NoRoom(full)
        size = len(event.raw) + EVENT_BYTES
        arriving = self._bytes + self._bytes_under_way + size
        if arriving > self._store.room:
            self._refused = size
            raise NoRoom("The disk of the journal has no room for this event; send it again later")
        if self._open_bytes + arriving > self._capacity_bytes and not self._store.knows(event):
            raise NoRoom("The backlog has as many bytes as MAX_BACKLOG_BYTES allows; send the event again later")
        self._bytes += size
        future: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        marks = self._marked(event)
        self._batch.appends.append(Append(event, marks))
        self._kept.append(future)
        self._work.set()
        kept = await future
        if marks and kept is Kept.NEW:
            for path in times_ahead(event.body, event.accepted_at):
                facts.time_ahead(event, path)
        return kept

    async def take(self) -> Entry:
        entry = await self._scheduler.take()
        if self._scheduler.hungry:
            self._work.set()
        return entry

    def settle(self, entry: Entry, outcome: Outcome) -> None:
        self._batch.settles.append((entry, outcome))
        self._work.set()

    def note(self, entry: Entry, step: Step, applied: Sequence[tuple[Mark, Snapshot]] = ()) -> None:
        self._batch.notes.append((entry, step, applied))
        entry.progress = {**entry.progress, step.handler: step}  # it may be given back and taken before that is kept
        self._work.set()

    def give_back(self, entry: Entry, waits_for: str | None = None) -> None:
        if self._scheduler.give_back(entry, waits_for):
            self._batch.rests.append(entry)
            self._work.set()

    def wake(self, waits_for: str, most: int | None = None) -> int:
        self._work.set()
        return self._scheduler.wake(waits_for, most)

    def hold(self, reason: str) -> None:
        self._scheduler.hold(reason)

    def release(self, reason: str) -> None:
        self._scheduler.release(reason)

    @property
    def holds(self) -> frozenset[str]:
        return self._scheduler.holds

    async def join(self) -> None:
        await self._scheduler.join()

    async def newest(self, entry: Entry, mark: Mark) -> Newest:
        mine = snapshot_of(entry.event, entry.seq, entry.origin)
        if mine is None:
            return Newest()
        return await self.call(lambda store: store.newest(entry.seq, mark, mine))

    async def ask(self, query: Query[Result]) -> Result:
        answer: Result = await self.call(lambda store: store.answer(query))
        return answer

    async def command(self, command: Command) -> CommandResult:
        self._check()
        future: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()
        self._batch.commands.append(command)
        self._answers.insert(len(self._batch.commands) - 1, future)
        self._work.set()
        return await future

    def note_target(self, reason: str) -> None:
        self._target = reason
        if self._closing or self._fault is not None:
            return  # an outage of the disk is what operators look at then; this one is noted after it
        self._call(lambda store: store.note_target(reason)).add_done_callback(lambda noted: noted.exception())

    async def call(self, function: Callable[[Any], Result]) -> Result:
        """Run ``function(store)`` within the next transaction. Raises Unavailable, or what it raised."""
        self._check()
        return await self._call(function)

    def _call(self, function: Callable[[Any], Result]) -> "asyncio.Future[Result]":
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._batch.calls.append(function)
        self._answers.append(future)
        self._work.set()
        return future

    def _check(self) -> None:
        if self._closing:
            raise Stopping
        if self._fault is not None:
            raise Unavailable(f"The event cannot be kept: {self._fault}")

    def _marked(self, event: Event) -> Any:
        marks = self._marks(event)
        if not marks:
            return ()
        mine = snapshot(event.body, 0, event.event_id, event.accepted_at)
        return tuple((mark, mine) for mark in marks)

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        if self._thread is None:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _run(self) -> None:
        try:
            await self._take_turns()
        except BaseException as error:  # whatever it is, such as a cancellation of all tasks: nobody is left waiting
            _logger.exception("The journal has an error of its own", action="journal.fault")
            self._fail(StoreError(f"{type(error).__name__} in the journal", fatal=True), [])
            if not isinstance(error, (Exception, asyncio.CancelledError)):
                raise

    async def _take_turns(self) -> None:
        while not self._closing or self._work.is_set():
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
        """Wait for something to write, or for the scheduler to want something."""
        self._batch.feed = self._scheduler.wants()
        if self._batch.feed is None and not self._work.is_set():
            due = self._scheduler.next_due
            left = IDLE_INTERVAL if due is None else due - self._clock()
            with contextlib.suppress(TimeoutError):  # what is overdue waits for room: that wakes the journal
                async with asyncio.timeout(min(left, IDLE_INTERVAL) if left > 0 else IDLE_INTERVAL):
                    await self._work.wait()
            self._batch.feed = self._scheduler.wants()
        found = self._work.is_set() or self._batch.feed is not None
        self._work.clear()
        return found

    async def _commit(self) -> None:
        batch, self._batch = self._batch, Batch()
        kept, self._kept = self._kept, []
        answers, self._answers = self._answers, []
        batch.marked = self._marked
        batch.loadable = self._scheduler.loadable(len(batch.settles))
        batch.cached = self._scheduler.cached
        batch.running = self._scheduler.running
        self._under_way = len(batch.appends)
        self._bytes, self._bytes_under_way = 0, self._bytes
        try:
            started = time.monotonic()
            await self._in_thread(self._store.commit, batch)
            facts.committed(batch.kept.count(Kept.NEW), time.monotonic() - started)
            self._tell(batch, kept, answers)
        except StoreError as error:
            self._keep_for_later(batch)
            self._fail(error, [*kept, *answers])
        except BaseException as error:
            own = StoreError(f"{type(error).__name__} in the journal", fatal=True)
            self._fail(own, [*kept, *answers])
            raise
        finally:
            self._under_way = self._bytes_under_way = 0

    def _keep_for_later(self, batch: Batch) -> None:
        """What workers have done is noted as soon as it can be written."""
        self._batch.settles[:0] = batch.settles
        self._batch.notes[:0] = batch.notes
        self._batch.rests[:0] = batch.rests

    def _tell(
        self, batch: Batch, kept: Sequence["asyncio.Future[Kept]"], answers: Sequence["asyncio.Future[Any]"]
    ) -> None:
        """Tell what was kept; in the order of the transaction, since what ends makes room for what comes."""
        for (entry, outcome), counted in zip(batch.settles, batch.counted, strict=True):
            if counted and outcome.final:
                self._size -= 1
                self._open_bytes -= len(entry.event.raw)
            self._scheduler.ended(entry, outcome.due if counted else None)
            self._settled(entry, outcome, counted)
        self._tell_kept(batch, kept)
        if batch.change is not None:
            self._scheduler.gone(batch.change.gone)
        for seq, unblocked in batch.unblocked.items():
            self._scheduler.unblocked(seq, unblocked)
        if batch.change is not None:
            self._tell_change(batch.change)
        if batch.feed is not None and batch.fed is not None:
            self._scheduler.fed(batch.feed, batch.fed)
        for answer, result in zip(answers, [*batch.answers, *batch.results], strict=True):
            _resolve(answer, result)

    def _tell_kept(self, batch: Batch, kept: Sequence["asyncio.Future[Kept]"]) -> None:
        for future, verdict, new in zip(kept, batch.kept, batch.entries, strict=True):
            if not future.done():  # done already: the client has gone, the event stays
                future.set_result(verdict)
            if new is not None:
                self._size += 1
                self._open_bytes += len(new.event.raw)
                self._scheduler.accepted(new)

    def _tell_change(self, change: Change) -> None:
        for verb, results in change.acts:
            facts.operated(verb, len(results), {"results": dict(list(results.items())[:SAID])})
        self._size += change.open_events
        self._open_bytes += change.open_bytes
        self._scheduler.added(change.last_seq)
        for reason, held in change.holds.items():
            (self._scheduler.hold if held else self._scheduler.release)(reason)

    def _fail(self, error: StoreError, futures: Sequence["asyncio.Future[Any]"]) -> None:
        self._fault = fault = str(error)
        _logger.error(f"The journal cannot be written: {fault}", action="journal.failed", reason=fault)
        late = [*self._kept, *self._answers]
        self._kept, self._answers = [], []
        self._batch.appends, self._batch.commands, self._batch.calls = [], [], []
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
        if self._target is not None:
            self.note_target(self._target)
        _logger.info("The journal can be written again", action="journal.recovered")

    async def _upkeep(self) -> None:
        try:
            while await self._in_thread(self._store.upkeep) and not self._work.is_set():
                pass
        except StoreError as error:
            self._fail(error, [])


def _resolve(answer: "asyncio.Future[Any]", result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _nobody(_: Entry, __: Outcome, ___: bool) -> None:
    """Nobody is told."""
