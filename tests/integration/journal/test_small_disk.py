"""A disk with little room: the log and what is pruned must not fill it, and room that is free again is found."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connector.errors import NoRoom
from connector.journal.commands import Command
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.sqlite import outside, upkeep, wal
from connector.journal.sqlite.wal import WriteAheadLog
from connector.journal.store import Batch, StoreError
from tests.conftest import Lines
from tests.journal_support.batches import keep, settle
from tests.journal_support.engines import DONE, TIMEOUT, Clock, sqlite_store
from tests.journal_support.events import event

MIB = 1 << 20
DISK = 120 * MIB
LEFT_ALONE = 25 * MIB


READER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN")
db.execute("SELECT count(*) FROM events").fetchone()
print("reading", flush=True)
sys.stdin.read()
"""


class SmallDisk:
    """A disk of ``DISK`` bytes that has the journal on it and nothing else; how little of it was ever left."""

    def __init__(self, path: Path) -> None:
        self._files = [path, Path(f"{path}-wal")]
        self.least = DISK

    def statvfs(self, _: object) -> SimpleNamespace:
        """What the operating system says of it."""
        used = sum(each.stat().st_size for each in self._files if each.exists())
        self.least = min(self.least, DISK - used)
        return SimpleNamespace(f_bavail=DISK - used, f_frsize=1)


@pytest.fixture
def path(memory_disk: Path) -> Path:
    return memory_disk / "journal.db"


@pytest.fixture
def disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    disk = SmallDisk(path)
    monkeypatch.setattr(os, "statvfs", disk.statvfs)
    monkeypatch.setattr(upkeep, "PRUNE_REST_SECONDS", 0.0)
    return disk


@pytest.fixture
async def journal(path: Path, disk: SmallDisk) -> AsyncIterator[tuple[GroupCommitJournal, Clock]]:
    clock = Clock()
    store = sqlite_store(path, clock, min_free_disk=LEFT_ALONE, keep_done=60)
    journal = GroupCommitJournal(store, capacity=10**6, queue_size=1000, clock=clock)
    await journal.open(lambda *_: None)
    yield journal, clock
    await journal.close()


@pytest.mark.parametrize("size", [60_000, 1_000_000])
async def test_small_disk_that_was_filled_is_used_again_when_its_events_are_over(
    journal: tuple[GroupCommitJournal, Clock], disk: SmallDisk, size: int
) -> None:
    journal_, clock = journal
    for _ in range(2):
        refused = 0
        while not refused:
            answers = await asyncio.gather(
                *(journal_.keep(event(padding=size, accepted_at=clock.now)) for _ in range(16)), return_exceptions=True
            )
            refused = sum(isinstance(each, NoRoom) for each in answers)
        assert journal_.size * size > 15 * MIB
        while journal_.size:
            journal_.settle(await journal_.take(), DONE)
            await journal_.flush()
        clock.now += 120
        async with asyncio.timeout(2 * TIMEOUT):
            while disk.statvfs(None).f_bavail < DISK - 10 * MIB:  # noqa: ASYNC110 - the disk tells nobody
                await asyncio.sleep(0.01)
        await journal_.flush()
        assert journal_.full is None
    assert disk.least >= 20 * MIB


@pytest.mark.usefixtures("disk")
def test_pruning_alone_does_not_let_the_log_grow(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "LOG_BYTES", MIB)
    monkeypatch.setattr(wal, "MARGIN_BYTES", MIB)
    clock, largest = Clock(), 0
    with closing(sqlite_store(path, clock, keep_done=60)) as store:
        store.open()
        for _ in range(20):
            entries = keep(store, *(event(padding=20_000, accepted_at=clock.now) for _ in range(50)))
            settle(store, *((entry, DONE) for entry in entries))
            while store.wants_upkeep:
                store.upkeep()
        clock.now += 120
        while store.upkeep():
            largest = max(largest, Path(f"{path}-wal").stat().st_size)
    assert largest < 8 * MIB


def test_idle_journal_gives_its_log_back(path: Path) -> None:
    clock = Clock()
    with closing(sqlite_store(path, clock)) as store:
        store.open()
        keep(store, *(event(padding=20_000) for _ in range(200)))
        assert Path(f"{path}-wal").stat().st_size > MIB
        while store.upkeep():
            pass
        assert Path(f"{path}-wal").stat().st_size < 16 * 1024


def test_reader_that_holds_the_log_back_is_told_and_the_log_is_cut_when_it_has_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: Lines
) -> None:
    monkeypatch.setattr(wal, "HELD_BYTES", MIB)
    clock = Clock()
    with closing(sqlite_store(path, clock)) as store:
        store.open()
        keep(store, event())
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM events").fetchone()
            keep(store, *(event(padding=20_000) for _ in range(200)))
            while store.upkeep():
                pass
            assert Path(f"{path}-wal").stat().st_size > MIB
            assert [line["action"] for line in log_lines()] == ["journal.log_held"]
        while store.upkeep():
            pass
        assert Path(f"{path}-wal").stat().st_size < 16 * 1024


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_process_that_holds_the_log_back_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: Lines
) -> None:
    monkeypatch.setattr(wal, "HELD_BYTES", MIB)
    with closing(sqlite_store(path, Clock())) as store:
        store.open()
        keep(store, event())
        with subprocess.Popen(
            [sys.executable, "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reading\n"
            keep(store, *(event(padding=20_000) for _ in range(200)))
            while store.upkeep():
                pass
            (line,) = log_lines()
            assert f"process {reader.pid} (" in line["message"]
            reader.communicate()
        while store.upkeep():
            pass
        assert Path(f"{path}-wal").stat().st_size < 16 * 1024


def test_disk_that_stays_full_does_not_count_as_recovered(small_disk: Path) -> None:
    with closing(sqlite_store(small_disk / "journal.db", Clock())) as store:
        store.open()
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize))
        with pytest.raises(StoreError, match="full"):
            keep(store, *(event(padding=20_000) for _ in range(1000)))
        with pytest.raises(StoreError, match="full"):
            store.recover()
        ballast.unlink()
        store.recover()
        keep(store, event())


def _start_of(log: Path) -> bytes:
    """What is drawn anew each time that a log is used from its start (SQLite, "WAL Format", salt-1 and salt-2)."""
    return log.read_bytes()[16:24]


@pytest.fixture
def log(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[WriteAheadLog, sqlite3.Connection]]:
    """A log that is large enough to be moved, and the connection that writes it."""
    monkeypatch.setattr(wal, "LOG_BYTES", MIB)
    monkeypatch.setattr(wal, "MARGIN_BYTES", 0)
    store = sqlite_store(path, Clock())
    store.open()
    keep(store, event(padding=2 * MIB))
    yield store._log, store._db
    store.close()


def _until_moved(log: WriteAheadLog) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not log.due:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_log_is_used_from_its_start_although_commits_never_pause(
    path: Path, log: tuple[WriteAheadLog, sqlite3.Connection]
) -> None:
    file, before = Path(f"{path}-wal"), _start_of(Path(f"{path}-wal"))
    log_, db = log
    held = threading.Event()
    log_._aside.submit(held.wait, TIMEOUT)
    log_.step(db)
    wal.write_a_page(db)
    held.set()
    _until_moved(log_)
    wal.write_a_page(db)
    log_.step(db)
    assert _start_of(file) == before
    wal.write_a_page(db)
    assert _start_of(file) != before
    assert file.stat().st_size <= MIB


def test_no_commit_uses_the_log_from_its_start_while_it_is_moved_aside(
    path: Path, log: tuple[WriteAheadLog, sqlite3.Connection]
) -> None:
    log_, db = log
    log_._move(db)  # all of it: the next commit may use the log from its start
    held, before = threading.Event(), _start_of(Path(f"{path}-wal"))
    log_._aside.submit(held.wait, TIMEOUT)
    log_.step(db)
    after = _start_of(Path(f"{path}-wal"))  # of the page that was written before
    for _ in range(3):
        wal.write_a_page(db)
        assert _start_of(Path(f"{path}-wal")) == after != before
    held.set()
    _until_moved(log_)
    log_.step(db)
    wal.write_a_page(db)
    assert _start_of(Path(f"{path}-wal")) != after


def test_nobody_writes_while_the_log_is_moved_between_two_commits(
    path: Path, log: tuple[WriteAheadLog, sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    log_, db = log
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    tried = []

    def connect_and_try(*arguments: Any, **named: Any) -> sqlite3.Connection:
        with closing(connect(path, timeout=0, isolation_level=None)) as command:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                command.execute("BEGIN IMMEDIATE")
            tried.append(command)
        return connect(*arguments, **named)

    monkeypatch.setattr(sqlite3, "connect", connect_and_try)
    assert log_._move(db)
    assert tried


def test_command_to_a_running_connector_does_not_move_the_log(path: Path) -> None:
    with closing(sqlite_store(path, Clock())) as store:
        store.open()
        keep(store, event(padding=20 * MIB))  # so much that SQLite would move it by itself
        size = path.stat().st_size
        sending = outside.send(sqlite_store(path, Clock()), path, Command("pause", []))
        command = threading.Thread(target=asyncio.run, args=(sending,))
        command.start()
        while command.is_alive():
            store.commit(Batch())
            command.join(0.01)
        assert path.stat().st_size == size
        assert store._db.execute("SELECT paused FROM meta").fetchone() == (1,)
