"""Group commit: what comes while a transaction is under way shares the next one; nothing hangs when one fails."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connector.errors import Unavailable
from connector.events.event import Event
from connector.journal import group_commit as group
from connector.journal.group_commit import Batch, GroupCommitJournal
from connector.journal.sqlite import file
from connector.journal.sqlite import store as sqlite
from connector.journal.sqlite.store import SqliteStore
from connector.outcome import Outcome, RetryPolicy, decide, done
from tests.journal_support.engines import DONE, TIMEOUT, Clock, Heard
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
        self.batches.append((len(batch.appends), len(batch.settles), len(batch.calls)))
        self.begun.set()
        assert self.gate.wait(TIMEOUT)
        super().commit(batch)


class Setup:
    """A journal over a watched store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Watched(path)
        self.heard = Heard()
        self.journal = GroupCommitJournal(self.store, 10_000)

    def reopened(self) -> "Setup":
        return Setup(self.path)


@pytest.fixture
async def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setup]:
    monkeypatch.setattr(file, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(group, "PROBE_INTERVAL", 0.01)
    setup = Setup(tmp_path / "journal.db")
    await setup.journal.open(setup.heard)
    yield setup
    setup.store.gate.set()
    await setup.journal.close()


async def _begun(store: Watched) -> None:
    assert await asyncio.to_thread(store.begun.wait, TIMEOUT)


async def test_requests_during_a_transaction_do_not_get_one_each(setup: Setup) -> None:
    setup.store.gate.clear()
    first = asyncio.create_task(setup.journal.append(event()))
    await _begun(setup.store)
    others = [asyncio.create_task(setup.journal.append(event())) for _ in range(100)]
    read = asyncio.create_task(setup.journal.read(0, 1000))
    await asyncio.sleep(0)
    setup.store.gate.set()
    assert await asyncio.gather(first, *others) == [True] * 101
    assert len((await read).events) == 101
    assert setup.store.batches == [(1, 0, 0), (100, 0, 1)]


async def test_settling_does_not_take_a_transaction_of_its_own(setup: Setup) -> None:
    events = [event(lane=f"lane:{number}") for number in range(20)]
    await asyncio.gather(*(setup.journal.append(each) for each in events))
    setup.store.batches.clear()
    for each in events:
        setup.journal.settle(each, DONE)
    assert await setup.journal.append(event())
    assert setup.store.batches == [(1, 20, 0)]


async def test_lone_event_does_not_wait_for_a_timer(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDLE_INTERVAL", "PROBE_INTERVAL"):
        monkeypatch.setattr(group, name, 3600.0)
    async with asyncio.timeout(TIMEOUT):
        await setup.journal.append(event())
        await setup.journal.append(event())
    assert setup.store.batches == [(1, 0, 0), (1, 0, 0)]


async def test_no_answer_and_no_news_before_the_transaction_is_kept(setup: Setup) -> None:
    setup.store.gate.clear()
    first = asyncio.create_task(setup.journal.append(event()))
    await _begun(setup.store)
    assert not first.done()
    assert (setup.heard.log, setup.journal.size) == ([], 0)
    setup.store.gate.set()
    assert await first
    assert setup.heard.log == [("stored", 1)]


async def test_call_that_fails_takes_nothing_else_of_its_transaction_along(setup: Setup) -> None:
    def write_and_fail(store: Any) -> None:
        store.claim_due(9999.0, 9)
        raise ValueError("its own affair")

    waiting = event()
    await setup.journal.append(waiting)
    setup.journal.settle(waiting, Outcome("waiting", due=1.0))
    results = await asyncio.gather(
        setup.journal.append(event()),
        setup.journal.call(write_and_fail),
        setup.journal.parked_lanes(),
        return_exceptions=True,
    )
    assert results[0] is True
    assert isinstance(results[1], ValueError)
    assert results[2] == [waiting.lane]
    assert setup.journal.fault is None


async def test_fault_of_the_journals_own_code_does_not_leave_requests_hanging(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(setup.store, "_append", broken)
    with pytest.raises(Unavailable):
        await setup.journal.append(event())
    assert "KeyError" in await setup.journal.lost()
    with pytest.raises(Unavailable):
        await setup.journal.append(event())


async def test_nothing_is_written_once_it_is_not_known_what_was_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = event()
    await setup.journal.append(first)
    monkeypatch.setattr(sqlite, "_is_fatal", lambda *_: True)
    with Locked(setup.path):
        with pytest.raises(Unavailable):
            await setup.journal.append(event())
        assert "locked" in await setup.journal.lost()
    setup.journal.settle(first, DONE)
    await setup.journal.close()
    again = setup.reopened()
    await again.journal.open(again.heard)
    assert again.journal.size == 1
    await again.journal.close()


async def test_refused_events_leave_no_trace_when_the_journal_recovers(setup: Setup) -> None:
    await setup.journal.append(event("first"))
    with Locked(setup.path):
        refused = [setup.journal.append(event()) for _ in range(5)]
        assert all(isinstance(each, Unavailable) for each in await asyncio.gather(*refused, return_exceptions=True))
    async with asyncio.timeout(TIMEOUT):
        while setup.journal.fault:  # noqa: ASYNC110 - nobody is told of it but who asks
            await asyncio.sleep(0.001)
    second = event("second")
    await setup.journal.append(second)
    assert (second.seq, setup.journal.size) == (2, 2)
    assert setup.heard.log == [("stored", 1), ("stored", 2)]


async def test_fault_of_the_listener_does_not_leave_requests_hanging(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Event) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(setup.heard, "stored", broken)
    await asyncio.gather(*(setup.journal.append(event()) for _ in range(3)), return_exceptions=True)
    assert "KeyError" in await setup.journal.lost()


async def test_connection_that_breaks_in_idle_time_does_not_leave_requests_hanging(setup: Setup) -> None:
    await setup.journal.append(event("first"))
    await asyncio.to_thread(setup.store._db.close)
    await _failed(setup.journal)
    async with asyncio.timeout(TIMEOUT):
        while setup.journal.fault:  # noqa: ASYNC110 - nobody is told of it but who asks
            await asyncio.sleep(0.001)
    assert not await setup.journal.append(event("first"))
    assert await setup.journal.append(event("second"))


async def test_fault_of_the_upkeep_does_not_leave_requests_hanging(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> bool:
        raise KeyError("a bug")

    monkeypatch.setattr(setup.store, "upkeep", broken)
    assert "KeyError" in await setup.journal.lost()
    with pytest.raises(Unavailable):
        await setup.journal.append(event())


async def test_outcome_with_text_that_is_no_unicode_does_not_stop_the_journal(setup: Setup) -> None:
    policy = RetryPolicy()
    dead = decide(OSError("no file \udcff"), attempt=50, age=1e9, now=0, chance=0, ms=0, policy=policy)
    for outcome in (done("wrote \udcff", 1), dead):
        each = event()
        await setup.journal.append(each)
        setup.journal.settle(each, outcome)
    await setup.heard.until(lambda: len(setup.heard.settled_events) == 2)
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
        while journal.fault is None:  # noqa: ASYNC110 - nobody is told of it but who asks
            await asyncio.sleep(0.001)


async def test_journal_recovers_by_itself_and_notes_what_was_settled_meanwhile(setup: Setup) -> None:
    first = event()
    await setup.journal.append(first)
    with Locked(setup.path):
        with pytest.raises(Unavailable):
            await setup.journal.append(event("refused"))
        assert "locked" in str(setup.journal.fault)
        setup.journal.settle(first, DONE)
    await setup.heard.until(lambda: bool(setup.heard.settled_events))
    assert not setup.journal.fault
    assert setup.journal.size == 0
    assert (await setup.journal.read(0, 9)).events == []
    assert await setup.journal.append(event("refused"))


async def test_failed_journal_tries_again_after_a_rest_and_not_at_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "PROBE_INTERVAL", 3600.0)
    first = event()
    await setup.journal.append(first)
    with Locked(setup.path):
        setup.journal.settle(first, DONE)
        await _failed(setup.journal)
    for _ in range(100):
        await asyncio.sleep(0)
    assert setup.journal.fault is not None
    assert setup.store.batches == [(1, 0, 0), (0, 1, 0)]


async def test_close_during_a_fault_makes_a_last_try_at_what_was_settled(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "PROBE_INTERVAL", 3600.0)
    first = event()
    await setup.journal.append(first)
    with Locked(setup.path):
        setup.journal.settle(first, DONE)
        await _failed(setup.journal)
    await setup.journal.close()
    again = setup.reopened()
    await again.journal.open(again.heard)
    assert again.journal.size == 0
    await again.journal.close()


async def test_close_during_a_fault_that_stays_does_not_hang(setup: Setup) -> None:
    first = event()
    await setup.journal.append(first)
    with Locked(setup.path):
        setup.journal.settle(first, DONE)
        await _failed(setup.journal)
        async with asyncio.timeout(TIMEOUT):
            await setup.journal.close()
    again = setup.reopened()
    await again.journal.open(again.heard)
    assert again.journal.size == 1
    await again.journal.close()


async def test_owner_that_was_replaced_changes_nothing_and_has_to_end(setup: Setup) -> None:
    first = event()
    await setup.journal.append(first)
    with sqlite3.connect(setup.path) as other:
        other.execute("UPDATE meta SET epoch = epoch + 1")
    other.close()
    setup.journal.settle(first, DONE)
    with pytest.raises(Unavailable):
        await setup.journal.append(event("late"))
    assert await setup.journal.lost() == "another process has taken the journal over"
    commits = len(setup.store.batches)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(setup.store.batches) == commits
    await setup.journal.close()
    again = setup.reopened()
    await again.journal.open(again.heard)
    assert [each.event_id for each in (await again.journal.read(0, 9)).events] == [first.event_id]
    await again.journal.close()


async def test_replaced_owner_does_not_keep_the_new_one_from_writing(setup: Setup) -> None:
    with sqlite3.connect(setup.path, isolation_level=None) as other:
        other.execute("UPDATE meta SET epoch = epoch + 1")
        with pytest.raises(Unavailable):
            await setup.journal.append(event())
        other.execute("PRAGMA busy_timeout = 0")
        other.execute("UPDATE meta SET epoch = epoch + 1")
    other.close()


async def test_folder_that_vanishes_does_not_leave_requests_hanging(setup: Setup, tmp_path: Path) -> None:
    setup.path.parent.rename(tmp_path.with_name("elsewhere"))
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*(setup.journal.append(event()) for _ in range(3)), return_exceptions=True)
    tmp_path.with_name("elsewhere").rename(setup.path.parent)
