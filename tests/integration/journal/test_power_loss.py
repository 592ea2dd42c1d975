"""No promise leaves before its sync: the files as a power cut at any moment would leave them hold every promise."""

import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from connector.errors import StartError
from connector.journal.queries import Filter, Find
from tests.journal_support.engines import Clock, sqlite_store
from tests.journal_support.faulty_disk import FaultyDisk, library
from tests.journal_support.running import handled, running
from tests.journal_support.senders import Senders
from tests.process import ROOT, environment

SYNC_OFF = """
import sqlite3
from connector.journal.sqlite.file import JournalFile
connect = JournalFile.connect
def without_sync(store):
    db = connect(store)
    db.execute("PRAGMA synchronous = OFF")
    return db
JournalFile.connect = without_sync
from tests.journal_support.handling import *
"""


def _open_ids(path: Path) -> set[str]:
    store = sqlite_store(path, Clock())
    store.open()
    try:
        return {each.event_id for each in store.answer(Find(Filter(), 1_000_000)) if each.ended_at is None}
    finally:
        store.close()


def test_journal_stopped_at_any_write_or_sync_opens_and_holds_every_promise(memory_disk: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "tests.journal_support.stopped", memory_disk],
        cwd=ROOT,
        env=environment(LD_PRELOAD=str(library())),
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    folders = sorted(memory_disk.iterdir(), key=lambda folder: int(folder.name))
    assert (folders[-1] / "promised").read_text().endswith("...\n")
    for folder in folders:
        promises = (folder / "promised").read_text().split()
        kept, asked, settled = ({line[1:] for line in promises if line[0] == mark} for mark in "+?-")
        for files in ("files", "shadow"):
            found = _open_ids(folder / files / "journal.db")
            assert kept - asked <= found, (folder.name, files)
            assert not settled & found, (folder.name, files)
            assert _events_without_a_state(folder / files / "journal.db") == 0, (folder.name, files)


def _events_without_a_state(path: Path) -> int:
    """How many events are neither open nor ended, or both."""
    with closing(sqlite3.connect(path)) as db:
        (count,) = db.execute(
            "SELECT count(*) FROM events e LEFT JOIN open o ON o.seq = e.seq LEFT JOIN outcomes x ON x.seq = e.seq"
            " WHERE (o.seq IS NULL) = (x.seq IS NULL)"
        ).fetchone()
    return int(count)


async def _burst_until_power_cut(disk: FaultyDisk, extra: dict[str, str], seconds: float) -> set[str]:
    """Send events in a burst, cut the power; the ids that were answered 202."""
    async with running(disk.files / "journal.db", extra | disk.environment) as connector:
        async with Senders(connector, connections=16, lanes=4) as senders:
            await senders.until(lambda: len(senders.accepted) > 300 * seconds)
            await connector.kill()
        return set(senders.accepted)


async def test_names_of_the_journal_and_of_folders_made_for_it_are_synced_before_the_port_opens(tmp_path: Path) -> None:
    names, folder = tmp_path / "names", tmp_path / "made"
    extra = {"LD_PRELOAD": str(library()), "DISK_NAMES": str(names), "HANDLED": str(tmp_path / "handled")}
    extra |= {"JOURNAL_URL": f"sqlite:///{folder}/deeper/journal.db"}
    async with running(tmp_path / "files" / "journal.db", extra):
        synced = names.read_text().splitlines()
    assert {str(tmp_path), str(folder), str(folder / "deeper")} <= set(synced)


@pytest.mark.parametrize("seed", range(3))
async def test_every_event_answered_202_is_there_after_a_power_cut(tmp_path: Path, seed: int) -> None:
    disk = FaultyDisk(tmp_path)
    extra = {"HANDLED": str(tmp_path / "handled")}
    accepted = await _burst_until_power_cut(disk, extra, random.Random(seed).uniform(0.2, 3))
    async with running(disk.shadow / "journal.db", extra) as connector:
        await connector.until(lambda: accepted <= {line.event_id for line in handled(tmp_path / "handled")})


async def test_power_cut_model_notices_a_journal_that_does_not_sync(tmp_path: Path) -> None:
    disk = FaultyDisk(tmp_path)
    (disk.files / "without_sync.py").write_text(SYNC_OFF)
    extra = {"HANDLED": str(tmp_path / "handled"), "HANDLERS": "without_sync", "GATE": str(disk.files)}
    accepted = await _burst_until_power_cut(disk, extra, 1)
    shutil.copytree(disk.files, tmp_path / "as-killed")
    assert accepted <= _open_ids(tmp_path / "as-killed" / "journal.db")
    try:
        left = _open_ids(disk.shadow / "journal.db")
    except StartError:
        return
    assert not accepted <= left
