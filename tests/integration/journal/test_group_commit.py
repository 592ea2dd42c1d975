"""Group commit: what comes while a transaction is under way shares the next one; nothing hangs when one fails."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from connector.errors import NoRoom, Unavailable
from connector.events.event import Event
from connector.journal import Entry, Kept
from connector.journal import group_commit as group
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.queries import Filter, Find, ReadStats
from connector.journal.sqlite import file
from connector.journal.sqlite import store as sqlite
from connector.journal.sqlite.store import SqliteStore
from connector.journal.store import Batch
from connector.outcome import Outcome, RetryPolicy, decide, done
from tests.journal_support.engines import DONE, TIMEOUT, Clock
from tests.journal_support.events import event


class Watched(SqliteStore):
    """A store whose transactions are counted, and held up while ``gate`` is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, keep_done=1e9, keep_dead=1e9, keep_ids=1e9, min_free_disk=0, clock=Clock())
        self.batches: list[tuple[int, int, int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()

    def commit(self, batch: Batch) -> None:
        size = (len(batch.appends), len(batch.settles), len(batch.calls))
        if any(size):  # else it only reads what the scheduler wants
            self.batches.append(size)
            self.begun.set()
            assert self.gate.wait(TIMEOUT)
        super().commit(batch)


class Setup:
    """A journal over a watched store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Watched(path)
        self.settled: list[tuple[Entry, Outcome, bool]] = []
        self.journal = GroupCommitJournal(self.store, capacity=10_000, queue_size=1000, clock=Clock())

    async def open(self) -> None:
        await self.journal.open(self.hear)

    def hear(self, entry: Entry, outcome: Outcome, counted: bool) -> None:
        self.settled.append((entry, outcome, counted))

    async def reopened(self) -> "Setup":
        again = Setup(self.path)
        await again.open()
        return again

    async def taken(self, event: Event) -> Entry:
        """Keep an event and take it."""
        assert await self.journal.keep(event) is Kept.NEW
        async with asyncio.timeout(TIMEOUT):
            return await self.journal.take()

    async def until(self, there: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not there():  # noqa: ASYNC110 - nobody is told of it but who asks
                await asyncio.sleep(0.001)


@pytest.fixture
async def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setup]:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(group, "PROBE_INTERVAL", 0.01)
    setup = Setup(tmp_path / "journal.db")
    await setup.open()
    yield setup
    setup.store.gate.set()
    await setup.journal.close()


async def _begun(store: Watched) -> None:
    assert await asyncio.to_thread(store.begun.wait, TIMEOUT)


async def test_requests_during_a_transaction_do_not_get_one_each(setup: Setup) -> None:
    setup.store.gate.clear()
    first = asyncio.create_task(setup.journal.keep(event()))
    await _begun(setup.store)
    others = [asyncio.create_task(setup.journal.keep(event())) for _ in range(100)]
    read = asyncio.create_task(setup.journal.ask(Find(Filter(), 1000)))
    await asyncio.sleep(0)
    setup.store.gate.set()
    assert await asyncio.gather(first, *others) == [Kept.NEW] * 101
    assert len(await read) == 101
    assert setup.store.batches == [(1, 0, 0), (100, 0, 1)]


async def test_settling_does_not_take_a_transaction_of_its_own(setup: Setup) -> None:
    entries = [await setup.taken(event(lane=f"lane:{number}")) for number in range(20)]
    setup.store.batches.clear()
    for each in entries:
        setup.journal.settle(each, DONE)
    assert await setup.journal.keep(event(lane="lane:99")) is Kept.NEW
    assert setup.store.batches == [(1, 20, 0)]


async def test_lone_event_does_not_wait_for_a_timer(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDLE_INTERVAL", "PROBE_INTERVAL"):
        monkeypatch.setattr(group, name, 3600.0)
    async with asyncio.timeout(TIMEOUT):
        await setup.journal.keep(event())
        await setup.journal.keep(event())
    assert setup.store.batches == [(1, 0, 0), (1, 0, 0)]


async def test_no_answer_and_no_news_before_the_transaction_is_kept(setup: Setup) -> None:
    setup.store.gate.clear()
    first = asyncio.create_task(setup.journal.keep(event()))
    await _begun(setup.store)
    assert not first.done()
    taking = asyncio.create_task(setup.journal.take())
    await asyncio.sleep(0)
    assert (taking.done(), setup.journal.size) == (False, 0)
    setup.store.gate.set()
    assert await first is Kept.NEW
    entry = await taking
    setup.store.begun.clear()
    setup.store.gate.clear()
    setup.journal.settle(entry, DONE)
    await _begun(setup.store)
    assert (setup.settled, setup.journal.size) == ([], 1)
    setup.store.gate.set()
    await setup.until(lambda: bool(setup.settled))
    assert setup.journal.size == 0


async def test_call_that_fails_takes_nothing_else_of_its_transaction_along(setup: Setup) -> None:
    def write_and_fail(store: Any) -> None:
        store._order.claim_due(9999.0, 9)
        raise ValueError("its own affair")

    waiting = await setup.taken(event())
    setup.journal.settle(waiting, Outcome("waiting", due=9000.0))
    results = await asyncio.gather(
        setup.journal.keep(event()),
        setup.journal.call(write_and_fail),
        setup.journal.ask(Find(Filter(state="waiting"), 9)),
        return_exceptions=True,
    )
    assert results[0] is Kept.NEW
    assert isinstance(results[1], ValueError)
    assert isinstance(results[2], list)
    assert [each.seq for each in results[2]] == [waiting.seq]
    assert setup.journal.failure is None


async def test_fault_of_the_journals_own_code_does_not_leave_requests_hanging(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(setup.store, "_append", broken)
    with pytest.raises(Unavailable):
        await setup.journal.keep(event())
    assert "KeyError" in await setup.journal.lost()
    with pytest.raises(Unavailable):
        await setup.journal.keep(event())


async def test_nothing_is_written_once_it_is_not_known_what_was_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await setup.taken(event())
    monkeypatch.setattr(sqlite, "_is_fatal", lambda *_: True)
    with Locked(setup.path):
        with pytest.raises(Unavailable):
            await setup.journal.keep(event())
        assert "locked" in await setup.journal.lost()
    setup.journal.settle(first, DONE)
    await setup.journal.close()
    again = await setup.reopened()
    assert again.journal.size == 1
    await again.journal.close()


async def test_refused_events_leave_no_trace_when_the_journal_recovers(setup: Setup) -> None:
    await setup.journal.keep(event("first"))
    with Locked(setup.path):
        refused = [setup.journal.keep(event()) for _ in range(5)]
        assert all(isinstance(each, Unavailable) for each in await asyncio.gather(*refused, return_exceptions=True))
    async with asyncio.timeout(TIMEOUT):
        while setup.journal.failure:  # noqa: ASYNC110 - nobody is told of it but who asks
            await asyncio.sleep(0.001)
    await setup.journal.keep(event("second"))
    assert setup.journal.size == 2
    found = await setup.journal.ask(Find(Filter(), 9))
    assert [(each.seq, each.event_id) for each in found] == [(2, "second"), (1, "first")]


async def test_fault_of_the_listener_does_not_leave_requests_hanging(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("a bug")

    entry = await setup.taken(event())
    monkeypatch.setattr(setup.journal, "_settled", broken)
    setup.journal.settle(entry, DONE)
    await asyncio.gather(*(setup.journal.keep(event()) for _ in range(3)), return_exceptions=True)
    assert "KeyError" in await setup.journal.lost()


async def test_connection_that_breaks_in_idle_time_does_not_leave_requests_hanging(setup: Setup) -> None:
    await setup.journal.keep(event("first"))
    await asyncio.to_thread(setup.store._db.close)
    await _failed(setup.journal)
    async with asyncio.timeout(TIMEOUT):
        while setup.journal.failure:  # noqa: ASYNC110 - nobody is told of it but who asks
            await asyncio.sleep(0.001)
    assert await setup.journal.keep(event("first")) is Kept.DUPLICATE
    assert await setup.journal.keep(event("second")) is Kept.NEW


async def test_fault_of_the_upkeep_does_not_leave_requests_hanging(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> bool:
        raise KeyError("a bug")

    monkeypatch.setattr(setup.store, "upkeep", broken)
    assert "KeyError" in await setup.journal.lost()
    with pytest.raises(Unavailable):
        await setup.journal.keep(event())


async def test_outcome_with_text_that_is_no_unicode_does_not_stop_the_journal(setup: Setup) -> None:
    policy = RetryPolicy()
    dead = decide(OSError("no file \udcff"), attempt=50, age=1e9, now=0, chance=0, ms=0, policy=policy)
    for outcome in (done("wrote \udcff", 1), dead):
        setup.journal.settle(await setup.taken(event(lane=f"lane:{outcome.state}")), outcome)
    await setup.until(lambda: len(setup.settled) == 2)
    assert setup.journal.size == 0


class Locked:
    """Another program holds the write lock of the file."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._db.close()


async def _failed(journal: GroupCommitJournal) -> None:
    async with asyncio.timeout(TIMEOUT):
        while journal.failure is None:  # noqa: ASYNC110 - nobody is told of it but who asks
            await asyncio.sleep(0.001)


async def test_journal_recovers_by_itself_and_notes_what_was_settled_meanwhile(setup: Setup) -> None:
    first = await setup.taken(event())
    with Locked(setup.path):
        with pytest.raises(Unavailable):
            await setup.journal.keep(event("refused"))
        assert "locked" in str(setup.journal.failure)
        setup.journal.settle(first, DONE)
    await setup.until(lambda: bool(setup.settled))
    assert not setup.journal.failure
    assert setup.journal.size == 0
    assert [each.state for each in await setup.journal.ask(Find(Filter(), 9))] == ["done"]
    assert await setup.journal.keep(event("refused")) is Kept.NEW


async def test_outcome_that_met_the_failure_itself_is_noted_without_waiting_for_another_event(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "IDLE_INTERVAL", 3600.0)
    first = await setup.taken(event())
    with Locked(setup.path):
        setup.journal.settle(first, DONE)
        await _failed(setup.journal)
    await setup.until(lambda: bool(setup.settled))
    assert setup.journal.size == 0


async def test_failed_journal_tries_again_after_a_rest_and_not_at_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "PROBE_INTERVAL", 3600.0)
    first = await setup.taken(event())
    with Locked(setup.path):
        setup.journal.settle(first, DONE)
        await _failed(setup.journal)
    for _ in range(100):
        await asyncio.sleep(0)
    assert setup.journal.failure is not None
    assert setup.store.batches == [(1, 0, 0), (0, 1, 0)]


async def test_close_during_a_fault_makes_a_last_try_at_what_was_settled(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "PROBE_INTERVAL", 3600.0)
    first = await setup.taken(event())
    with Locked(setup.path):
        setup.journal.settle(first, DONE)
        await _failed(setup.journal)
    await setup.journal.close()
    again = await setup.reopened()
    assert again.journal.size == 0
    await again.journal.close()


async def test_close_during_a_fault_that_stays_does_not_hang(setup: Setup) -> None:
    first = await setup.taken(event())
    with Locked(setup.path):
        setup.journal.settle(first, DONE)
        await _failed(setup.journal)
        async with asyncio.timeout(TIMEOUT):
            await setup.journal.close()
    again = await setup.reopened()
    assert again.journal.size == 1
    await again.journal.close()


async def test_event_that_the_disk_has_no_room_for_is_refused_and_said_until_there_is_room(setup: Setup) -> None:
    setup.store.room = 20_000
    with pytest.raises(NoRoom):
        await setup.journal.keep(event(padding=50_000))
    assert "no room for an event of" in str(setup.journal.full)
    assert await setup.journal.keep(event()) is Kept.NEW
    setup.store.room = 100_000
    assert setup.journal.full is None
    answers = [setup.journal.keep(event(padding=50_000)) for _ in range(3)]
    refused = [each for each in await asyncio.gather(*answers, return_exceptions=True) if isinstance(each, NoRoom)]
    assert len(refused) == 2


async def test_owner_that_was_replaced_changes_nothing_and_has_to_end(setup: Setup) -> None:
    first = await setup.taken(event())
    with sqlite3.connect(setup.path) as other:
        other.execute("UPDATE meta SET epoch = epoch + 1")
    other.close()
    setup.journal.settle(first, DONE)
    with pytest.raises(Unavailable):
        await setup.journal.keep(event("late"))
    assert await setup.journal.lost() == "another process has taken the journal over"
    commits = len(setup.store.batches)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(setup.store.batches) == commits
    await setup.journal.close()
    again = await setup.reopened()
    found = await again.journal.ask(Find(Filter(), 9))
    assert [(each.event_id, each.state) for each in found] == [(first.event.event_id, "pending")]
    await again.journal.close()


async def test_owner_that_was_replaced_while_the_disk_failed_changes_nothing_and_has_to_end(setup: Setup) -> None:
    first = await setup.taken(event())
    with sqlite3.connect(setup.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        setup.journal.settle(first, DONE)
        await _failed(setup.journal)
        other.execute("UPDATE meta SET epoch = epoch + 1")
        other.execute("INSERT INTO commands (made_at, command) VALUES (-1e9, 'for the new owner')")
        other.execute("COMMIT")
        assert await setup.journal.lost() == "another process has taken the journal over"
        await setup.journal.close()
        assert other.execute("SELECT count(*) FROM commands").fetchone() == (1,)
    other.close()
    again = await setup.reopened()
    assert [each.state for each in await again.journal.ask(Find(Filter(), 9))] == ["pending"]
    await again.journal.close()


async def test_replaced_owner_does_not_keep_the_new_one_from_writing(setup: Setup) -> None:
    with sqlite3.connect(setup.path, isolation_level=None) as other:
        other.execute("UPDATE meta SET epoch = epoch + 1")
        with pytest.raises(Unavailable):
            await setup.journal.keep(event())
        other.execute("PRAGMA busy_timeout = 0")
        other.execute("UPDATE meta SET epoch = epoch + 1")
    other.close()


async def test_folder_that_vanishes_does_not_leave_requests_hanging(setup: Setup, tmp_path: Path) -> None:
    setup.path.parent.rename(tmp_path.with_name("elsewhere"))
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*(setup.journal.keep(event()) for _ in range(3)), return_exceptions=True)
    tmp_path.with_name("elsewhere").rename(setup.path.parent)


async def test_journal_whose_task_is_cancelled_leaves_no_request_hanging_and_has_to_end(setup: Setup) -> None:
    setup.store.gate.clear()
    request = asyncio.create_task(setup.journal.keep(event()))
    await _begun(setup.store)
    (pump,) = (task for task in asyncio.all_tasks() if task.get_name() == "journal")
    pump.cancel()  # as a handler does that cancels every task
    with pytest.raises(Unavailable):
        await request
    assert "CancelledError" in await setup.journal.lost()
    with pytest.raises(Unavailable):
        await setup.journal.keep(event())


async def test_outage_of_the_target_that_begins_or_ends_while_the_journal_has_failed_is_noted_after_it(
    setup: Setup,
) -> None:
    async def away() -> str | None:
        found = (await setup.journal.ask(ReadStats())).target_away
        return None if found is None else found.reason

    async def fail_and_recover(reason: str) -> None:
        with Locked(setup.path):
            with pytest.raises(Unavailable):
                await setup.journal.keep(event())
            setup.journal.note_target(reason)
        await setup.until(lambda: setup.journal.failure is None)

    setup.journal.note_target("down before")
    await fail_and_recover("down before")
    assert await away() == "down before"
    await fail_and_recover("")
    assert await away() is None
    await fail_and_recover("down meanwhile")
    assert await away() == "down meanwhile"
