"""The journal's file: its tables, its lock, whether it is sound, and how an older one is brought up to date."""

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from connector.errors import InUse, StartError
from connector.journal.sqlite.ages import SCHEMA as AGES_SCHEMA
from connector.journal.sqlite.remembered import SCHEMA as IDS_SCHEMA
from connector.journal.sqlite.sound import check_read, check_whole
from connector.journal.sqlite.stored import read_text
from connector.journal.sqlite.wal import leave_log

APPLICATION_ID: Final = 0x4E535053
"""Marks the file as a journal ("NSPS")."""

MIGRATIONS: Final = (
    f"""
    CREATE TABLE meta (epoch INTEGER NOT NULL);
    INSERT INTO meta VALUES (0);
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL, event_type TEXT NOT NULL, lane TEXT NOT NULL,
        request_id TEXT NOT NULL, unique_id TEXT NOT NULL, accepted_at REAL NOT NULL, earlier INTEGER,
        body BLOB NOT NULL
    );
    CREATE TABLE open (
        seq INTEGER PRIMARY KEY, lane TEXT NOT NULL, state INTEGER NOT NULL, attempt INTEGER NOT NULL, due REAL
    );
    CREATE INDEX open_lane ON open (lane, seq);
    CREATE INDEX open_due ON open (state, due) WHERE state > 0;
    CREATE TABLE outcomes (
        seq INTEGER PRIMARY KEY, state TEXT NOT NULL, ended_at REAL NOT NULL, attempt INTEGER NOT NULL,
        ms INTEGER NOT NULL, reason TEXT NOT NULL
    );
    CREATE TABLE attempts (
        seq INTEGER NOT NULL, attempt INTEGER NOT NULL, ended_at REAL NOT NULL, ms INTEGER NOT NULL,
        reason TEXT NOT NULL, PRIMARY KEY (seq, attempt)
    ) WITHOUT ROWID;
    {IDS_SCHEMA}
    """,
    """
    CREATE TABLE newest (
        lane TEXT NOT NULL, handler TEXT NOT NULL, updated REAL, created REAL, happened REAL, seq INTEGER NOT NULL,
        event_id TEXT NOT NULL, PRIMARY KEY (lane, handler)
    ) WITHOUT ROWID;
    CREATE TABLE counters (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE commands (
        number INTEGER PRIMARY KEY, made_at REAL NOT NULL, command TEXT NOT NULL, answer TEXT
    );
    ALTER TABLE meta ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
    """,
    """
    ALTER TABLE meta ADD COLUMN away TEXT NOT NULL DEFAULT '';
    ALTER TABLE meta ADD COLUMN away_since REAL;
    """,
    """
    ALTER TABLE meta ADD COLUMN ordering TEXT NOT NULL DEFAULT '';
    ALTER TABLE generations ADD COLUMN by_event_id INTEGER NOT NULL DEFAULT 0;
    UPDATE generations SET by_event_id = 1;
    ALTER TABLE open ADD COLUMN blockers INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE touches (resource TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (resource, seq)) WITHOUT ROWID;
    INSERT INTO touches SELECT lane, seq FROM open;
    UPDATE open SET blockers = 1 WHERE seq NOT IN (SELECT min(seq) FROM touches GROUP BY resource);
    DROP INDEX open_lane;
    ALTER TABLE open DROP COLUMN lane;
    ALTER TABLE newest RENAME COLUMN lane TO resource;
    ALTER TABLE newest RENAME COLUMN handler TO name;
    CREATE TABLE marks (
        resource TEXT NOT NULL, name TEXT NOT NULL, seq INTEGER NOT NULL, updated REAL, created REAL, happened REAL,
        event_id TEXT NOT NULL, PRIMARY KEY (resource, name, seq)
    ) WITHOUT ROWID;
    CREATE INDEX marks_seq ON marks (seq);
    CREATE TABLE progress (
        seq INTEGER NOT NULL, handler TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL,
        ms INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (seq, handler)
    ) WITHOUT ROWID;
    """,
    f"""
    {AGES_SCHEMA}
    ALTER TABLE newest ADD COLUMN applied_at REAL;
    ALTER TABLE marks ADD COLUMN origin INTEGER;
    """,
    """
    ALTER TABLE open ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
    UPDATE open SET bytes = coalesce((SELECT length(body) FROM events WHERE events.seq = open.seq), 0);
    """,
)
"""What makes a file of version n one of version n + 1; the version is SQLite's ``user_version``."""

PAGE_CACHE_KIB: Final = 32 * 1024
BUSY_SECONDS: Final = 5.0
QUICK_CHECK_BYTES: Final = 256 * 1024**2
"""A file up to this size is checked whole at start, a larger one only where what is open stands."""


PRIVATE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700
OTHERS: Final = 0o077

HEADER_BYTES: Final = 100
"""The least that an SQLite file begins with (SQLite, "Database File Format", 1.3)."""

COMPANIONS: Final = ("", "-wal", "-shm", "-journal", ".lock")
"""What belongs to a journal, by the end of its name."""

_OWNED: Final[set[tuple[int, int] | None]] = set()
"""The lock files that this process holds, by device and inode."""


class JournalFile:
    """A journal file that one process owns, by a lock on ``<file>.lock``, from ``open`` to ``close``."""

    def __init__(self, path: Path, before_upgrade: Callable[[int], None] | None = None) -> None:
        """``before_upgrade`` is told of a file of an older version, and which; without it such a file is refused."""
        self.path = path
        self._before_upgrade = before_upgrade
        self.restored = path.with_name(f"{path.name}-restored")
        self._suspect = path.with_name(f"{path.name}-suspect")
        self._made: list[Path] = []
        self._lock: int | None = None
        self._owned: tuple[int, int] | None = None

    def open(self) -> sqlite3.Connection:
        """Own the file, made where there is none, and connect to it. Raises StartError; then it is closed again."""
        db: sqlite3.Connection | None = None
        try:
            self.own()
            self.finish_restore()
            self._make()
            self._check()
            self._may_upgrade()
            self._shut_out_others()
            db = self.connect()
            self._migrate(db)
            for folder in [self.path, *self._made]:
                sync(folder.parent)
            self._suspect.unlink(missing_ok=True)
        except (sqlite3.Error, OSError, StartError) as fault:
            if db is not None:
                db.close()
            self.close()
            if isinstance(fault, StartError):
                raise
            raise StartError(f"JOURNAL_URL: {self.path} cannot be opened: {text_of(fault)}{_way_out(fault)}") from None
        return db

    def own(self) -> None:
        """Be the one process that may write the file, in a folder that is made where there is none.

        Raises InUse, StartError, OSError.
        """
        self._made = [folder for folder in self.path.parents if not folder.exists()]
        for folder in reversed(self._made):
            folder.mkdir(mode=PRIVATE_FOLDER)
        self._own()

    def finish_restore(self) -> None:
        """Let the file that a restore has made ready take the journal's place. Raises OSError.

        The log of the former journal is gone for good before that, whenever the power is cut.
        """
        if not self.restored.exists():
            return
        for companion in ("-wal", "-shm", "-journal", "-running", "-suspect"):
            Path(f"{self.path}{companion}").unlink(missing_ok=True)
        sync(self.path.parent)
        self.restored.replace(self.path)
        sync(self.path.parent)

    def suspect(self) -> None:
        """Have the next start check the whole file: damage was met."""
        with contextlib.suppress(OSError):
            os.close(os.open(self._suspect, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE))

    def close(self) -> None:
        """Leave the file to others."""
        if self._lock is not None:
            os.close(self._lock)
            _OWNED.discard(self._owned)
            self._lock = None

    def connect(self) -> sqlite3.Connection:
        """A connection that syncs every transaction. Raises sqlite3.Error."""
        db = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=1024
        )
        db.text_factory = read_text
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise sqlite3.OperationalError("the file system does not allow a write-ahead log")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
        db.execute("PRAGMA secure_delete = FAST")  # some builds write zeros over all that is pruned, into the log
        leave_log(db)
        db.execute("PRAGMA foreign_keys = OFF")
        return db

    def _own(self) -> None:
        """Take the lock of the process: children that a handler forks do not have it, whatever becomes of us.

        Such a lock does not keep a second opener of the same process away, and is lost when any descriptor of its file
        is closed here: whoever is in ``_OWNED`` is refused before the file is opened.
        """
        path = Path(f"{self.path}.lock")
        if place_of(path) in _OWNED:
            raise InUse(f"JOURNAL_URL: {self.path} is in use by {_here()}; one process owns a journal")
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        found = os.fstat(lock)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:  # the file of somebody else, by another name
            os.close(lock)
            raise StartError(f"JOURNAL_URL: {path} is a link, or no file; remove it, or take another path")
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            owner = os.read(lock, 100).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise InUse(f"JOURNAL_URL: {self.path} is in use by {owner}; one process owns a journal") from None
        os.ftruncate(lock, 0)
        os.write(lock, _here().encode())
        self._lock = lock
        self._owned = place_of(path)
        _OWNED.add(self._owned)

    def _make(self) -> None:
        """Make the file, which nobody else may read; SQLite gives the log beside it the same rights."""
        if not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))

    def _shut_out_others(self) -> None:
        """Close a journal of before, which others may read, to them; one that is not ours stays as it is."""
        for companion in COMPANIONS:
            path = Path(f"{self.path}{companion}")
            with contextlib.suppress(FileNotFoundError, PermissionError):
                if path.stat().st_mode & OTHERS:
                    path.chmod(PRIVATE)

    def _check(self) -> None:
        """Look at the file without writing to it. Raises StartError, DatabaseError where it is damaged."""
        size = self.path.stat().st_size
        if 0 < size < HEADER_BYTES and not Path(f"{self.path}-journal").exists():  # SQLite would write over it
            raise sqlite3.DatabaseError("file is not a database")
        try:
            # Read-only, so that the write-ahead log of a damaged file is not moved into it at the end.
            self._look_into(f"{self.path.absolute().as_uri()}?mode=ro")
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            self._look_into(self.path.absolute().as_uri())  # stopped while it was made: there is something to undo

    def _look_into(self, uri: str) -> None:
        whole = self.path.stat().st_size <= QUICK_CHECK_BYTES or self._suspect.exists()
        with contextlib.closing(sqlite3.connect(uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True)) as db:
            look_into(db, self.path, whole=whole)

    def _may_upgrade(self) -> None:
        version = version_of(self.path)
        if not 0 < version < len(MIGRATIONS):
            return
        if self._before_upgrade is None:
            raise StartError(f"JOURNAL_URL: {of_older_version(self.path, version)}")
        self._before_upgrade(version)

    def _migrate(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            db.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {number}; COMMIT;"
            )


def look_into(db: sqlite3.Connection, path: Path, *, whole: bool) -> None:
    """Check that ``db``, the file at ``path``, is a journal that this version knows, and sound, ``whole`` or in part.

    Raises StartError, DatabaseError where it is damaged.
    """
    application, version, tables = db.execute(
        "SELECT (SELECT application_id FROM pragma_application_id),"
        " (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)"
    ).fetchone()
    if tables and application != APPLICATION_ID:
        raise StartError(f"JOURNAL_URL: {path} is an SQLite file of something else, no journal")
    if version > len(MIGRATIONS):
        raise StartError(
            f"JOURNAL_URL: {path} was written by a newer connector (version {version} of the journal,"
            f" this one knows {len(MIGRATIONS)}); run that one, or take another file"
        )
    if tables:
        (check_whole if whole else check_read)(db)


def version_of(path: Path) -> int:
    """The version of a journal file; 0 of an empty one. Raises sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as db:
        leave_log(db)
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def of_older_version(path: Path, version: int) -> str:
    """Why a command does not write to a file of an older version: the older connector could not open it any more."""
    return (
        f"{path} was written by an older connector (version {version} of the journal, this one writes"
        f" {len(MIGRATIONS)}) and was left as it is: use that connector's own commands, or start this connector on it,"
        " which upgrades it and keeps a backup"
    )


def place_of(path: Path) -> tuple[int, int] | None:
    """Which file stands at a path, by device and inode; None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _here() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}"


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, outlive a power cut."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def text_of(fault: Exception) -> str:
    """What to tell of a fault of SQLite or of the operating system."""
    if isinstance(fault, OSError):
        return fault.strerror or type(fault).__name__
    return str(fault)


def _way_out(fault: Exception) -> str:
    if isinstance(fault, sqlite3.DatabaseError) and not isinstance(fault, sqlite3.OperationalError):
        return (
            ". The file is damaged; nothing was changed. `python -m connector restore BACKUP` puts a backup (made by"
            " `python -m connector backup FILE`) in its place and keeps this one aside; or point JOURNAL_URL at a new"
            " file. `sqlite3 FILE .recover` gives what can still be read, with its -wal file beside it"
        )
    return ""
