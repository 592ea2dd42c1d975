"""Backup and restore of a journal file: each copy is whole, checked, for its owner alone, and takes its name at once.

::

    backup    journal ──one snapshot──▶ .FILE.part-PID ──checked──▶ FILE
    restore   FILE ──one snapshot──▶ journal-restoring ──checked──▶ journal-restored ──▶ journal
                                     the former journal and its log are kept aside before that

A copy is made through SQLite, so what stands in the log is in it, and has no log of its own. Where a restore is cut off
once ``journal-restored`` is there, the next start or restore brings it to its end (``JournalFile.finish_restore``): no
moment has the log of the former journal beside the restored file.
"""

import contextlib
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from connector.errors import StartError, Unavailable
from connector.journal.outside import Copied, Restored
from connector.journal.sqlite.file import (
    APPLICATION_ID,
    COMPANIONS,
    PRIVATE,
    JournalFile,
    look_into,
    place_of,
    sync,
    text_of,
)

TRIES: Final = 40
"""A file that another program locks is tried so often, four times a second."""

_ID_AT: Final = slice(68, 72)
"""Where the header of an SQLite file has its application id (SQLite, "Database File Format", 1.3)."""


def backup(journal: Path, target: Path, *, min_free_disk: int) -> Copied:
    """Copy the journal to ``target``, also while a connector writes it; an older backup there is replaced.

    ``min_free_disk``: bytes that are left alone where the target is on the journal's disk. Raises Unavailable.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - a link at the end is replaced, not followed
    _check_target(journal, target)
    part = target.with_name(f".{target.name}.part-{os.getpid()}")
    try:
        _check_room(journal, target, min_free_disk)
        copied = _copy(journal, part)
        part.replace(target)
        sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"no backup was made at {target}: {text_of(error)}") from None
    finally:
        _remove(part)
    return copied


def restore(journal: Path, source: Path) -> Restored:
    """Put a copy of the backup ``source`` in the journal's place; the former one is kept aside with its log.

    Raises StartError where a connector runs, Unavailable where the backup cannot be used; then nothing was changed.
    """
    if not source.is_file():
        raise Unavailable(f"{source} is no file")
    if place_of(source) == place_of(journal):
        raise Unavailable(f"{source} is the journal itself")
    file = JournalFile(journal)
    part = journal.with_name(f"{journal.name}-restoring")
    try:
        file.own()
        file.finish_restore()
        _remove(part)
        copied = _copy(source, part)
        kept = _keep_aside(journal)
        _give_to_owner(journal, part)
        part.replace(file.restored)
        sync(journal.parent)
        file.finish_restore()
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"{source} was not restored: {text_of(error)}") from None
    finally:
        _remove(part)
        file.close()
    return Restored(copied, kept)


def _copy(source: Path, target: Path) -> Copied:
    """Make ``target`` a checked copy of a journal. Raises OSError, sqlite3.Error, Unavailable."""
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE))
    tries = iter(range(TRIES))

    def patiently(_: int, left: int, __: int) -> None:
        if left and next(tries, None) is None:
            raise Unavailable(f"{source} is locked by another program")

    with closing(_read_only(source)) as old, closing(sqlite3.connect(target, isolation_level=None)) as new:
        old.backup(new, progress=patiently)  # in one step: others go on writing, and the copy is of one moment
        new.execute("PRAGMA journal_mode = DELETE").fetchall()  # no log beside it
        try:
            look_into(new, source, whole=True)
        except StartError as error:
            raise Unavailable(str(error).removeprefix("JOURNAL_URL: ")) from None
        events, pending = new.execute("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM open)").fetchone()
    sync(target)
    return Copied(events, pending, target.stat().st_size)


def _read_only(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    if not Path(f"{path}-wal").exists() and not os.access(path.parent, os.W_OK):
        uri += "&immutable=1"  # a folder in which SQLite can make nothing, such as a backup on a read-only disk
    return sqlite3.connect(uri, timeout=5.0, isolation_level=None, uri=True)


def _check_target(journal: Path, target: Path) -> None:
    if not journal.exists():
        raise Unavailable(f"{journal} does not exist")
    ours = {place_of(Path(f"{journal}{companion}")) for companion in COMPANIONS}
    try:
        found = target.lstat()
    except OSError:
        return
    if (found.st_dev, found.st_ino) in ours:
        raise Unavailable(f"{target} belongs to the journal itself")
    if not stat.S_ISREG(found.st_mode):
        raise Unavailable(f"{target} is no file")
    with target.open("rb") as file:
        if found.st_size and int.from_bytes(file.read(100)[_ID_AT]) != APPLICATION_ID:
            raise Unavailable(f"{target} is something else than a backup of a journal; it is not written over")


def _check_room(journal: Path, target: Path, min_free_disk: int) -> None:
    with closing(_read_only(journal)) as db:
        (needed,) = db.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
    disk = os.statvfs(target.parent)
    same = target.parent.stat().st_dev == journal.parent.stat().st_dev
    free = disk.f_bavail * disk.f_frsize - (min_free_disk if same else 0)
    if free < needed:
        left = f" beyond MIN_FREE_DISK, {min_free_disk >> 20} MiB" if same and min_free_disk else ""
        raise Unavailable(f"a backup needs {needed >> 20} MiB; {target.parent} has {max(free, 0) >> 20} MiB{left}")


def _keep_aside(journal: Path) -> Path | None:
    """Give the journal and its log a second name."""
    if not journal.exists():
        return None
    kept = journal.with_name(f"{journal.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    for companion in ("", "-wal"):
        file = Path(f"{journal}{companion}")
        if not file.exists():
            continue
        try:
            Path(f"{kept}{companion}").hardlink_to(file)
        except OSError:  # a file system without hard links
            shutil.copy2(file, f"{kept}{companion}")
    return kept


def _give_to_owner(journal: Path, restored: Path) -> None:
    """Where root restores, the files belong to whom the folder belongs to: the connector's user."""
    owner = (journal if journal.exists() else journal.parent).stat()
    for path in (restored, Path(f"{journal}.lock")):
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)


def _remove(part: Path) -> None:
    for companion in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            Path(f"{part}{companion}").unlink(missing_ok=True)
