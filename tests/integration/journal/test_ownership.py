"""Who owns a journal file, and who may read it."""

import os
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from connector.errors import StartError
from tests.journal_support.batches import keep
from tests.journal_support.engines import Clock, sqlite_store
from tests.journal_support.events import event

FORKS_AND_DIES = """
import os, sys, time
from pathlib import Path
from tests.journal_support.engines import Clock, sqlite_store
store = sqlite_store(Path(sys.argv[1]), Clock())
store.open()
child = os.fork()
if not child:
    os.close(1)
    os.close(2)
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), 9)
"""

OPENS = """
import sys
from pathlib import Path
from tests.journal_support.engines import Clock, sqlite_store
sqlite_store(Path(sys.argv[1]), Clock()).open()
"""


def test_children_that_outlive_the_process_do_not_keep_its_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    died = subprocess.run([sys.executable, "-c", FORKS_AND_DIES, path], capture_output=True, text=True, check=False)
    child = int(died.stdout)
    try:
        store = sqlite_store(path, Clock())
        store.open()
        store.close()
    finally:
        os.kill(child, 9)


def test_second_opener_of_the_same_process_is_refused_and_the_first_stays_owner(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    store = sqlite_store(path, Clock())
    store.open()
    with closing(store):
        for _ in range(2):
            with pytest.raises(StartError, match="in use by process"):
                sqlite_store(path, Clock()).open()
        other = subprocess.run(
            [
                sys.executable,
                "-c",
                OPENS,
                path,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "in use by process" in other.stderr
        assert keep(store, event())


def test_journal_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = tmp_path / "made" / "too" / "journal.db"
        store = sqlite_store(path, Clock())
        store.open()
        keep(store, event())
        rights = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        folders = [stat.S_IMODE(each.stat().st_mode) for each in (path.parent, path.parent.parent)]
        store.close()
    finally:
        os.umask(before)
    assert set(rights) == {"journal.db", "journal.db-wal", "journal.db-shm", "journal.db.lock"}
    assert set(rights.values()) == {0o600}
    assert folders == [0o700, 0o700]


@pytest.mark.parametrize("content", ["x", "a note of 40 bytes, the only copy of it", "n" * 99])
def test_short_file_that_is_no_journal_is_not_written_over(tmp_path: Path, content: str) -> None:
    victim, link = tmp_path / "victim", tmp_path / "journal.db"
    victim.write_text(content)
    victim.chmod(0o644)
    link.symlink_to(victim)
    for path in (victim, link):
        with pytest.raises(StartError, match="not a database"):
            sqlite_store(path, Clock()).open()
        assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == (content, 0o644)


def test_journal_of_before_that_others_may_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    store = sqlite_store(path, Clock())
    store.open()
    keep(store, event())
    store.close()
    for each in tmp_path.iterdir():
        each.chmod(0o644)
    store = sqlite_store(path, Clock())
    store.open()
    keep(store, event())
    rights = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    store.close()
    assert set(rights.values()) == {0o600}, rights


def test_hard_link_at_the_place_of_the_lock_is_not_emptied(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("the only copy of something")
    (tmp_path / "journal.db.lock").hardlink_to(victim)
    with pytest.raises(StartError, match="link"):
        sqlite_store(tmp_path / "journal.db", Clock()).open()
    assert victim.read_text() == "the only copy of something"


def test_link_at_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("the only copy of something")
    (tmp_path / "journal.db.lock").symlink_to(victim)
    with pytest.raises(StartError):
        sqlite_store(tmp_path / "journal.db", Clock()).open()
    assert victim.read_text() == "the only copy of something"
