"""A disk with little room: the log and what is pruned must not fill it, and room that is free again is found."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from connector.errors import NoRoom
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.sqlite import upkeep, wal
from tests.conftest import Lines
from tests.journal_support.batches import keep, settle
from tests.journal_support.engines import DONE, TIMEOUT, Clock, sqlite_store
from tests.journal_support.events import event

MIB = 1 << 20
DISK = 120 * MIB
LEFT_ALONE = 25 * MIB


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
