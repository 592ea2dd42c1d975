"""The write-ahead log: moved into the file before it grows large, cut when there is nothing else to do.

::

    large ──▶ greater part moved aside, commits go on ──▶ rest moved between two commits ──▶ used from its start
    idle, or room on the disk short ──▶ all moved, and the log cut to one page

Rules:

1. What counts is the size of the log on disk, whatever has written to it: events, outcomes, pruning, pages given back.
   The first commit after everything was moved uses the log from its start, and cuts it to ``LOG_BYTES``
   (``journal_size_limit``), so a log that is larger holds more than ``LOG_BYTES``.
2. The log is moved here and nowhere else: no connection checkpoints by itself. While pages move, nothing can make
   another connection use the log from its start, neither of this process nor of a command: the lock of the writer is
   held, or a reader pins the log. Where that happens, SQLite before 3.51.3 can damage the file (sqlite.org/wal.html,
   "The WAL-Reset Bug").
3. A pin holds only if it reads from the log. Once all is moved, a reader reads the file alone and pins nothing; so a
   page is written just before.
4. A reader elsewhere, such as a copy under way, can hold the log back. Then it grows; a line says so, and it is cut
   once the reader has gone.
"""

import contextlib
import os
import sqlite3
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from connector import log

LOG_BYTES: Final = 48 * 1024**2
"""The log is used again up to this size: overwriting it is faster than letting it grow anew."""

MARGIN_BYTES: Final = 8 * 1024**2
"""It is moved into the file when it is larger than ``LOG_BYTES`` by so much."""

SHORT_BYTES: Final = 1024**2
"""Where room is short, it is moved and cut when it is larger than this."""

IDLE_BYTES: Final = 256 * 1024
"""Where there is nothing else to do, likewise."""

HELD_BYTES: Final = 4 * LOG_BYTES
"""A log that is larger is held back by a reader."""

HELD_REST_SECONDS: Final = 1.0
"""Rest after a reader was in the way: each try goes through the whole log."""

_READ_LOCKS: Final = range(123, 128)

_logger = log.get_logger()


class WriteAheadLog:
    """The log of the journal file at ``path``. ``step`` and ``rest`` run in the journal's thread between transactions.

    ``short``    whether room on the disk is short
    ``shrinks``  whether pages were given back: the file is shorter once the log has been moved into it
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = f"{path}-wal"
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._moving: Future[None] | None = None
        self._held = False
        self._behind_since: float | None = None
        self._again_at = 0.0
        self.short = False
        self.shrinks = False

    @property
    def size(self) -> int:
        """Bytes of the log on the disk."""
        try:
            return os.stat(self._file).st_size  # noqa: PTH116 - asked with every transaction: a Path costs more
        except OSError:
            return 0

    @property
    def due(self) -> bool:
        """Whether there is something for ``step`` to do although there is other work."""
        if self._moving is not None:
            return self._moving.done()
        if self._behind_since is not None and time.monotonic() < self._again_at:
            return False
        return self.size > (SHORT_BYTES if self.short else LOG_BYTES + MARGIN_BYTES)

    def step(self, db: sqlite3.Connection) -> None:
        """Begin to move the log into the file, or bring that to its end. Raises sqlite3.Error."""
        if not self.due:
            return
        if self._moving is not None:
            self._moving = None
            self._move(db)
        elif self.short:
            self._cut(db)
        else:
            write_a_page(db)
            self._moving = self._aside.submit(_move_pinned, self._path, _pin(self._path))

    def rest(self, db: sqlite3.Connection) -> None:
        """Cut the log: there is nothing else to do. Raises sqlite3.Error."""
        if self._moving is not None:
            self.step(db)
        elif self.size > (0 if self.shrinks else IDLE_BYTES):
            self._cut(db)

    def close(self) -> None:
        """Wait for what runs aside."""
        self._aside.shutdown(wait=True)

    def _move(self, db: sqlite3.Connection) -> bool:
        """Move the log while ``db`` keeps every writer out; whether all of it was moved."""
        db.execute("BEGIN IMMEDIATE")
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None)) as mover:
                _, pages, moved = mover.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            db.execute("COMMIT")
        if pages == moved:
            self._behind_since = None
        else:
            self._behind_since = self._behind_since or time.time()
            self._again_at = time.monotonic() + HELD_REST_SECONDS
        self._say_if_held()
        return bool(pages == moved)

    def _cut(self, db: sqlite3.Connection) -> None:
        if not self._move(db):
            return
        self.shrinks = False
        db.execute("PRAGMA journal_size_limit = 0").fetchall()
        try:
            write_a_page(db)
        finally:
            db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}").fetchall()

    def _say_if_held(self) -> None:
        size = self.size
        if size > HELD_BYTES and not self._held:
            who = _readers(Path(f"{self._path}-shm"))
            since = datetime.fromtimestamp(self._behind_since or time.time(), UTC)
            _logger.warning(
                f"{' and '.join(who) or 'A program that reads'} holds the journal's log back since"
                f" {since:%Y-%m-%dT%H:%M:%SZ}: it has grown to {size >> 20} MiB; end that program ({self._path})",
                action="journal.log_held",
                size=size,
                processes=who,
            )
        self._held = size > HELD_BYTES


def _readers(index: Path) -> list[str]:
    """Other processes that read the journal, by their locks on the log's index; none where the system does not tell.

    SQLite, "WAL-mode File Format", 2.3.1: a reader holds a shared lock on one of the bytes 123 to 127.
    """
    found: list[str] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        inode = str(index.stat().st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            _, _, _, kind, process, file, first, _ = line.split()[:8]
            is_reader = kind == "READ" and file.rpartition(":")[2] == inode and int(first) in _READ_LOCKS
            if is_reader and int(process) not in (0, -1, os.getpid()):
                with contextlib.suppress(OSError):
                    name = Path(f"/proc/{process}/comm").read_text().strip()
                    found.append(f"process {process} ({name})")
    return sorted(set(found))


def leave_log(db: sqlite3.Connection) -> None:
    """Let a connection write to the log and never move it: that is done here. Raises sqlite3.Error."""
    db.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    db.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}").fetchall()


def write_a_page(db: sqlite3.Connection) -> None:
    """Commit a page that says what it said before. Raises sqlite3.Error where nothing can be written.

    An ``UPDATE`` that changes no value would write nothing; the version of the file is written always.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    db.execute(f"PRAGMA user_version = {version}")


def _pin(path: Path) -> sqlite3.Connection:
    """A reader of what is in the log by now: no connection uses the log from its start while it reads."""
    pin = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    pin.execute("BEGIN")
    pin.execute("SELECT epoch FROM meta").fetchone()
    return pin


def _move_pinned(path: Path, pin: sqlite3.Connection) -> None:
    """Move what was in the log when ``pin`` began to read, while other connections write."""
    with closing(pin), contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
