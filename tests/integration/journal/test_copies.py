"""Backup and restore: a copy is whole or not there, and no moment of a restore loses or mixes two journals."""

import asyncio
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connector.errors import InUse, StartError, Unavailable
from connector.journal.queries import Filter, Find
from connector.journal.sqlite import copies, file
from connector.journal.sqlite.file import MIGRATIONS
from connector.journal.sqlite.store import SqliteStore
from connector.journal.store import StoreError
from tests.journal_support.batches import keep, settle
from tests.journal_support.engines import DONE, Clock, sqlite_store
from tests.journal_support.events import event
from tests.journal_support.running import on_journal, running
from tests.journal_support.senders import Senders
from tests.process import ROOT, environment


@pytest.fixture
def path(memory_disk: Path) -> Path:
    return memory_disk / "journal.db"


def _fill(path: Path, *names: str) -> None:
    with closing(sqlite_store(path, Clock())) as store:
        store.open()
        keep(store, *(event(name, lane=f"lane:{name}") for name in names))


def _states(path: Path) -> dict[str, str]:
    """The state of each event, as a start finds them."""
    with closing(sqlite_store(path, Clock())) as store:
        store.open()
        return {each.event_id: each.state for each in store.answer(Find(Filter(), 1_000_000))}


def _killed_with_a_log(path: Path, *names: str) -> None:
    """A journal whose last events stand in its log alone, as a kill leaves it."""
    with closing(sqlite_store(path.with_name("alive.db"), Clock())) as store:
        store.open()
        keep(store, *(event(name, lane=f"lane:{name}") for name in names))
        for companion in ("", "-wal"):
            shutil.copy(f"{store._file.path}{companion}", f"{path}{companion}")
    assert Path(f"{path}-wal").stat().st_size > 0


def _tree(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if not each.name.endswith((".lock", "-shm"))}


async def _command(journal: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "connector",
        *arguments,
        env=environment(**on_journal(journal)),
        cwd=journal.parent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, error = await process.communicate()
    assert process.returncode == 0, error
    return said.decode()


async def test_backup_under_load_has_everything_that_was_answered_202_before_it(tmp_path: Path) -> None:
    journal, target = tmp_path / "files" / "journal.db", tmp_path / "backup.db"
    async with running(journal) as connector, Senders(connector, connections=4, lanes=4) as senders:
        await senders.until(lambda: len(senders.accepted) > 200)
        before = set(senders.accepted)
        said = await _command(journal, "backup", str(target))
        await senders.until(lambda: len(senders.accepted) > len(before) + 100)
    assert re.search(r"[\d,]+ events, [\d,]+ of them open, .* MiB; checked", said)
    assert before <= set(_states(target))


def test_backup_is_one_file_for_its_owner_alone(path: Path) -> None:
    target = path.with_name("backup.db")
    _fill(path, "one", "two")
    before = os.umask(0)
    try:
        copied = copies.backup(path, target, min_free_disk=0)
    finally:
        os.umask(before)
    assert copied == (2, 2, target.stat().st_size)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not [each.name for each in path.parent.iterdir() if "backup" in each.name and each != target]


def test_backup_replaces_an_older_one_and_nothing_else(path: Path) -> None:
    folder = path.parent
    other, link, older = folder / "text", folder / "link", folder / "older.db"
    _fill(path, "one")
    other.write_text("somebody else's")
    link.symlink_to(other)
    copies.backup(path, older, min_free_disk=0)
    _fill(path, "two")
    assert copies.backup(path, older, min_free_disk=0).events == 2
    with closing(sqlite3.connect(folder / "foreign.db")) as db:
        db.execute("CREATE TABLE t (x)")
    before = _tree(folder)
    for target in (path, Path(f"{path}.lock"), other, link, folder, folder / "foreign.db", folder / "no" / "such"):
        with pytest.raises(Unavailable):
            copies.backup(path, target, min_free_disk=0)
    assert _tree(folder) == before


def test_backup_of_a_damaged_journal_is_refused_and_the_older_one_stays(path: Path) -> None:
    target = path.with_name("backup.db")
    _fill(path, *(f"event-{number}" for number in range(300)))
    copies.backup(path, target, min_free_disk=0)
    whole = target.read_bytes()
    _damage(path, 5)
    with pytest.raises(Unavailable, match=r"backup\.db"):
        copies.backup(path, target, min_free_disk=0)
    assert target.read_bytes() == whole
    assert not list(path.parent.glob(".*part*"))


def _damage(path: Path, page: int) -> None:
    with path.open("r+b") as file_:
        file_.seek(page * 4096)
        file_.write(b"\xa5" * 4096)


def test_backup_that_has_no_room_is_refused_before_it_takes_any(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(path, "one")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=50 << 20, f_frsize=1))
    with pytest.raises(Unavailable, match="MIN_FREE_DISK"):
        copies.backup(path, path.with_name("backup.db"), min_free_disk=50 << 20)
    copies.backup(path, path.with_name("backup.db"), min_free_disk=0)


def test_restore_is_refused_while_a_connector_runs(path: Path) -> None:
    backup = path.with_name("backup.db")
    with closing(sqlite_store(path, Clock())) as store:
        store.open()
        copies.backup(path, backup, min_free_disk=0)
        before = _tree(path.parent)
        with pytest.raises(InUse):
            copies.restore(path, backup)
        assert _tree(path.parent) == before
        keep(store, event())


def test_restore_keeps_the_former_journal_whole_and_its_log_away_from_the_restored_one(path: Path) -> None:
    _fill(path, "backed-up")
    backup = path.with_name("backup.db")
    copies.backup(path, backup, min_free_disk=0)
    path.unlink()
    _killed_with_a_log(path, "later-1", "later-2")
    kept = copies.restore(path, backup).kept
    assert not Path(f"{path}-wal").exists()
    assert _states(path) == {"backed-up": "pending"}
    assert kept is not None
    assert set(_states(kept)) == {"later-1", "later-2"}


def test_restore_of_what_is_no_sound_backup_changes_nothing(path: Path) -> None:
    folder = path.parent
    _fill(path, *(f"event-{number}" for number in range(300)))
    damaged, newer, text, empty = (folder / name for name in ("damaged.db", "newer.db", "text", "empty"))
    for each in (damaged, newer):
        copies.backup(path, each, min_free_disk=0)
    _damage(damaged, 5)
    with closing(sqlite3.connect(newer)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    text.write_text("no database" * 1000)
    empty.touch()
    before = _tree(folder)
    for source in (damaged, newer, text, empty, folder, folder / "missing", path):
        with pytest.raises(Unavailable):
            copies.restore(path, source)
    assert _tree(folder) == before


def test_lost_or_damaged_journal_is_replaced(path: Path) -> None:
    backup = path.with_name("backup.db")
    _fill(path, "one")
    copies.backup(path, backup, min_free_disk=0)
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StartError, match="connector restore"):
        _states(path)
    kept = copies.restore(path, backup).kept
    assert kept is not None
    assert kept.read_bytes() == b"garbage" * 1000
    assert _states(path) == {"one": "pending"}
    path.unlink()
    assert copies.restore(path, backup).kept is None
    assert _states(path) == {"one": "pending"}


def test_restored_journal_does_not_blame_its_events_for_the_deaths_of_others(path: Path) -> None:
    backup, running_ = path.with_name("backup.db"), Path(f"{path}-running")
    _fill(path, "one")
    copies.backup(path, backup, min_free_disk=0)
    running_.write_bytes(b"what ran when the process died, by the numbers of the former journal")
    copies.restore(path, backup)
    assert not running_.exists()


def _killed_at(call: int, journal: Path, backup: Path) -> bool:
    """Restore in a process that is killed before its n-th change of a name; whether it came to that."""
    child = os.fork()
    if child == 0:
        left = [call]

        def counted(function: Any) -> Any:
            def then(*arguments: Any, **named: Any) -> Any:
                left[0] -= 1
                if not left[0]:
                    os._exit(137)
                return function(*arguments, **named)

            return then

        for module, name in ((os, "unlink"), (os, "replace"), (os, "link"), (os, "fsync"), (os, "chown")):
            setattr(module, name, counted(getattr(module, name)))
        copies.restore(journal, backup)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 137


def test_restore_that_is_killed_anywhere_leaves_the_former_journal_or_the_restored_one(memory_disk: Path) -> None:
    found, call = [], 0
    while True:
        call += 1
        folder = memory_disk / str(call)
        folder.mkdir()
        journal, backup = folder / "journal.db", folder / "backup.db"
        _fill(journal, "backed-up")
        copies.backup(journal, backup, min_free_disk=0)
        journal.unlink()
        _killed_with_a_log(journal, "later-1", "later-2")
        killed = _killed_at(call, journal, backup)
        found.append(set(_states(journal)))
        assert found[-1] in ({"backed-up"}, {"later-1", "later-2"})
        kept = list(folder.glob("journal.db.before-*Z"))
        if found[-1] == {"backed-up"}:
            assert set(_states(kept[-1])) == {"later-1", "later-2"}
        copies.restore(journal, backup)
        assert set(_states(journal)) == {"backed-up"}
        if not killed:
            break
    assert call > 8
    assert found[0] != found[-1]


def _tidy(store: SqliteStore) -> None:
    while store.upkeep():
        pass


def test_damage_met_while_running_has_the_whole_file_checked_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "QUICK_CHECK_BYTES", 0)
    monkeypatch.setattr("connector.journal.sqlite.sound._READ", {})
    clock = Clock()
    with closing(sqlite_store(path, clock)) as store:
        store.open()
        entries = keep(store, *(event(padding=3000, lane=f"lane:{number}") for number in range(50)))
        settle(store, *((entry, DONE) for entry in entries))
    for page in range(20, 40):
        _damage(path, page)
    with closing(sqlite_store(path, clock, keep_done=1)) as store:
        store.open()
        clock.now += 100
        with pytest.raises(StoreError, match="malformed"):
            _tidy(store)
    with pytest.raises(StartError, match="damaged"):
        _states(path)


def test_the_documented_steps_restore_a_backup(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("\n## Upgrade, back up\n")[2].partition("\n## ")[0]
    (steps,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    back_up, restore = steps.split("# stop the connector")
    (tmp_path / "data").mkdir()
    journal = tmp_path / "data" / "journal.db"
    _fill(journal, "one")
    here = Path(sys.executable).parent
    env = environment(JOURNAL_URL="sqlite:///data/journal.db", MIN_FREE_DISK="0", PATH=f"{here}:/usr/bin:/bin")

    def run(lines: str) -> None:
        subprocess.run(["sh", "-e", "-c", lines], cwd=tmp_path, env=env, check=True, capture_output=True)

    run(back_up)
    journal.unlink()
    _killed_with_a_log(journal, "two")
    run(restore)
    assert _states(journal) == {"one": "pending"}
