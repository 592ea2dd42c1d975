"""The write-ahead log: moved into the file before it grows large, cut when there is nothing else to do.

::

    large ──▶ greater part moved aside, commits go on ──▶ rest moved between two commits ──▶ used from its start
    idle, or room on the disk short ──▶ all moved, and the log cut to nothing

Rules:

1. What counts is the size of the log on disk, whatever has written to it: events, outcomes, pruning, pages given back.
   After each whole checkpoint SQLite cuts the log to ``LOG_BYTES`` (``journal_size_limit``) and uses it from its start,
   so a log that is larger holds more than ``LOG_BYTES``.
2. While a connection aside moves pages, a reader pins the log, so that no commit uses it from its start meanwhile:
   before version 3.51.3 SQLite can damage the file where one connection does that while another moves pages (release
   notes of 3.51.3, "WAL-reset bug"). Every other checkpoint is made by the connection that writes.
3. A reader elsewhere, such as a copy under way, can hold the log back. Then it grows; a line says so, and it is cut
   once the reader has gone.
"""

import contextlib
import os
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor
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
        return self.size > (SHORT_BYTES if self.short else LOG_BYTES + MARGIN_BYTES)

    def step(self, db: sqlite3.Connection) -> None:
        """Begin to move the log into the file, or bring that to its end. Raises sqlite3.Error."""
        if not self.due:
            return
        if self.short and self._moving is None:
            self._cut(db)
        elif self._moving is None:
            self._moving = self._aside.submit(_move_pinned, self._path)
        else:
            self._moving = None
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._say_if_held()

    def rest(self, db: sqlite3.Connection) -> None:
        """Cut the log: there is nothing else to do. Raises sqlite3.Error."""
        if self._moving is not None:
            self.step(db)
        elif self.size > (0 if self.shrinks else IDLE_BYTES):
            self._cut(db)

    def close(self) -> None:
        """Wait for what runs aside."""
        self._aside.shutdown(wait=True)

    def _cut(self, db: sqlite3.Connection) -> None:
        (busy,) = db.execute("SELECT timeout FROM pragma_busy_timeout").fetchone()
        db.execute("PRAGMA busy_timeout = 0").fetchall()  # a reader that is in the way is not waited for
        try:
            with contextlib.suppress(sqlite3.OperationalError):
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self.shrinks = False
        finally:
            db.execute(f"PRAGMA busy_timeout = {busy}").fetchall()
        self._say_if_held()

    def _say_if_held(self) -> None:
        size = self.size
        if size > HELD_BYTES and not self._held:
            _logger.warning(
                f"A reader holds the journal's log back: it has grown to {size >> 20} MiB; end the program that reads"
                f" {self._path}",
                action="journal.log_held",
                size=size,
            )
        self._held = size > HELD_BYTES


def _move_pinned(path: Path) -> None:
    """Move what is in the log by now, while other connections write, and let none of them use it from its start."""
    with contextlib.suppress(sqlite3.Error), contextlib.ExitStack() as stack:
        pin, mover = (
            stack.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None))) for _ in range(2)
        )
        pin.execute("BEGIN")
        pin.execute("SELECT epoch FROM meta").fetchone()
        mover.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
