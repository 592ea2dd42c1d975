"""The embedded journal: one SQLite file, written by one thread, synced before every 202.

Tables::

    events    what was accepted, the body as it came; written once, never changed
    open      what is not final yet: pending (0), waiting (1), held (2); the attempt that is next
    outcomes  how an event ended
    attempts  what went wrong in attempts that were not the last
    ids_N     remembered ids, see ``remembered``
    meta      the epoch of the owner

Rules of the file:

1. WAL with ``synchronous=FULL``: a transaction is synced before it counts. What a power cut leaves of the next one
   fails its checksums and is not there.
2. One process owns the file. It holds a lock on ``<file>.lock`` as long as it lives, and raises ``meta.epoch`` when it
   opens the file: should the lock have failed (a network disk), the older owner's next transaction finds a foreign
   epoch and does not happen.
3. A row of ``open`` exists exactly as long as its event is open; ``settle`` finds it by seq and attempt, or not at all.
4. Pruning moves in steps of a few rows and only over events that are final. Pages set free are used again; those
   beyond a quarter of the file are given back.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import IO, Any, Final

from connector.errors import InUse, StartError
from connector.event import Event
from connector.journal import Page
from connector.journal.group import Batch, Store, StoreError
from connector.journal.operate import (
    HELD,
    PAUSED,
    PENDING,
    WAITING,
    Operator,
    answer,
    unanswered,
)
from connector.journal.remembered import SCHEMA as IDS_SCHEMA
from connector.journal.remembered import RememberedIds, key_of
from connector.journal.rows import execute_in, insert_many, select_in
from connector.newest import Snapshot
from connector.outcome import FINAL, Outcome

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
)
"""What makes a file of version n one of version n + 1; the version is SQLite's ``user_version``."""

PAGE_CACHE_KIB: Final = 32 * 1024
CHECKPOINT_EVENTS: Final = 8000
"""Events noted between checkpoints: some 60 MB of write-ahead log."""

BUSY_SECONDS: Final = 5.0
QUICK_CHECK_BYTES: Final = 256 * 1024**2
"""A file up to this size is checked whole at start, a larger one only where what is open stands."""

PRUNE_ROWS: Final = 100
PRUNE_REST_SECONDS: Final = 10.0
VACUUM_PAGES: Final = 200
DISK_CHECK_SECONDS: Final = 1.0
COUNT_SECONDS: Final = 1.0
MAIL_SECONDS: Final = 0.1
COMMAND_SECONDS: Final = 3600.0

_READ: Final = (
    "SELECT e.seq, e.event_id, e.event_type, e.lane, e.request_id, e.unique_id, e.accepted_at, e.body, o.attempt,"
    f" CASE o.state WHEN {HELD} THEN 9e999 ELSE o.due END"
    " FROM open o JOIN events e ON e.seq = o.seq"
)


class TakenOver(sqlite3.OperationalError):
    """The file has another owner now; whatever this process would note of its events is void."""


class SqliteStore(Store):
    """A journal file and the thread's connection to it.

    ``keep_done``, ``keep_dead``, ``keep_ids``  seconds that payloads and ids are kept after the end
    ``min_free_disk``  bytes of the disk that are left alone
    ``longest_wait``  seconds; at start, no retry is due later than that, whatever the clock said before
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_done: float,
        keep_dead: float,
        keep_ids: float,
        min_free_disk: int,
        longest_wait: float = inf,
        clock: Callable[[], float],
    ) -> None:
        self._path = path
        self._keep_done = keep_done
        self._keep_dead = keep_dead
        self._keep_ids = keep_ids
        self._min_free_disk = min_free_disk
        self._longest_wait = longest_wait
        self._clock = clock
        self._lock: IO[str] | None = None
        self._connection: sqlite3.Connection | None = None
        self._ids: RememberedIds | None = None
        self._epoch = 0
        self._pruned_to = 0
        self._next_prune = 0.0
        self._disk_checked = 0.0
        self._counts: Counter[str] = Counter()
        self._counted = 0.0
        self._data_version = -1
        self._mail = False
        self._looked_for_mail = 0.0
        self._unchecked = 0
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._checkpoint: Future[None] | None = None

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError("the journal file is not open")
        return self._connection

    def open(self) -> None:
        try:
            made = [folder for folder in self._path.parents if not folder.exists()]
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._own()
            self._check()
            self._connect()
            self._migrate()
            self._epoch = self._db.execute("UPDATE meta SET epoch = epoch + 1 RETURNING epoch").fetchone()[0]
            self._load()
            for folder in [self._path, *made]:
                _sync(folder.parent)
        except (sqlite3.Error, OSError) as fault:
            self.close()
            raise StartError(f"JOURNAL_URL: {self._path} cannot be opened: {_text(fault)}{_way_out(fault)}") from None
        except StartError:
            self.close()
            raise

    def close(self) -> None:
        self._aside.shutdown(wait=True)
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._write_counts()
                self._counts.clear()
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def commit(self, batch: Batch) -> None:
        now = self._clock()
        committing = False
        try:
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            self._still_owner()
            if batch.appends:
                batch.stored = self._append(batch.appends, now)
            if batch.settles:
                batch.kept = self._settle(batch.settles, now)
            self._operate(batch, now)
            batch.results = [self._call(function) for function in batch.calls]
            self._prune(now, PRUNE_ROWS + 2 * len(batch.appends))
            counting = now - self._counted >= COUNT_SECONDS
            if counting:
                self._write_counts()
            committing = True
            db.execute("COMMIT")
        except (sqlite3.Error, OSError) as fault:
            self._abandon()
            raise StoreError(_text(fault), fatal=_is_fatal(fault, committing)) from fault
        if counting:
            self._counts.clear()
            self._counted = now
        self._count(batch)
        self._mail = False
        self._unchecked += len(batch.appends) + len(batch.settles)
        self.wants_upkeep = self._unchecked >= CHECKPOINT_EVENTS and (
            self._checkpoint is None or self._checkpoint.done()
        )
        self._look_at_disk(now)

    def has_mail(self) -> bool:
        if self._connection is None:
            return False
        try:
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return True  # the next transaction finds out what is wrong
        self._mail = self._mail or version != self._data_version
        self._data_version = version
        return self._mail

    def recover(self) -> None:
        try:
            if self._connection is None:
                self._connect()
                self._load()
            self._still_owner()
            self._db.execute("UPDATE meta SET epoch = epoch")
            self._look_at_disk(self._clock())
        except (sqlite3.Error, OSError) as fault:
            self._abandon()
            raise StoreError(_text(fault), fatal=_is_fatal(fault)) from fault

    def upkeep(self) -> bool:
        now = self._clock()
        self._look_at_disk(now)
        committing = False
        try:
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            self._still_owner()
            self._write_counts()
            more = self._prune(now, PRUNE_ROWS)
            more = self._remembered.upkeep(now - self._keep_ids) or more
            committing = True
            db.execute("COMMIT")
            self._counts.clear()
            self._move_log_to_file()
            return more or self._give_back()
        except (sqlite3.Error, OSError) as fault:
            self._abandon()
            raise StoreError(_text(fault), fatal=_is_fatal(fault, committing)) from fault

    def read(self, after: int, limit: int) -> Page:
        rows = self._db.execute(f"{_READ} WHERE o.seq > ? ORDER BY o.seq LIMIT ?", (after, limit)).fetchall()
        events = [_event(row) for row in rows]
        return Page(events, events[-1].seq if len(events) == limit else self.last_seq)

    def read_lanes(self, lanes: Sequence[str], upto: int, limit: int) -> Mapping[str, Sequence[Event]]:
        query = f"{_READ} WHERE o.lane = ? AND o.seq <= ? ORDER BY o.seq LIMIT ?"
        return {
            lane: [_event(row) for row in self._db.execute(query, (lane, upto, limit)).fetchall()] for lane in lanes
        }

    def parked_lanes(self) -> Sequence[str]:
        rows = self._db.execute("SELECT DISTINCT lane FROM open INDEXED BY open_due WHERE state > 0").fetchall()
        return [lane for (lane,) in rows]

    def claim_due(self, now: float, limit: int) -> tuple[Sequence[str], float | None]:
        # ``state > 0`` stands there word for word, since only then SQLite takes the partial index.
        due = self._db.execute(
            "SELECT seq, lane FROM open WHERE state > 0 AND state = ? AND due <= ? ORDER BY due LIMIT ?",
            (WAITING, now, limit),
        ).fetchall()
        execute_in(self._db, f"UPDATE open SET state = {PENDING}, due = NULL WHERE seq IN", [seq for seq, _ in due])
        (next_due,) = self._db.execute("SELECT min(due) FROM open WHERE state > 0 AND state = ?", (WAITING,)).fetchone()
        return [lane for _, lane in due], next_due

    def newest(self, lane: str, handler: str) -> Snapshot | None:
        row = self._db.execute(
            "SELECT updated, created, happened, seq, event_id FROM newest WHERE lane = ? AND handler = ?",
            (lane, handler),
        ).fetchone()
        return Snapshot(*row) if row else None

    def _call(self, function: Callable[[Any], Any]) -> Any:
        """What ``function`` returns, or what it raised; then nothing of what it did counts."""
        self._db.execute("SAVEPOINT call")
        try:
            result = function(self)
        except (sqlite3.Error, OSError, StoreError):
            raise
        except Exception as fault:  # noqa: BLE001 - its caller's, not the journal's
            self._db.execute("ROLLBACK TO call")
            result = fault
        self._db.execute("RELEASE call")
        return result

    @property
    def _remembered(self) -> RememberedIds:
        if self._ids is None:
            raise StoreError("the journal file is not open")
        return self._ids

    def _move_log_to_file(self) -> None:
        """Checkpoint: the greater part on a connection aside while commits go on, the rest in between two of them.

        Only when a checkpoint has met the end of the log does the log start from its beginning again.
        """
        if self._unchecked < CHECKPOINT_EVENTS:
            return
        if self._checkpoint is None:
            self._checkpoint = self._aside.submit(_checkpoint, self._path)
        elif self._checkpoint.done():
            self._checkpoint = None
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._unchecked = 0
            self.wants_upkeep = False

    def _own(self) -> None:
        lock = Path(f"{self._path}.lock").open("a+")  # noqa: SIM115 - held as long as the journal is open
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read(100).strip() or "another process"
            lock.close()
            raise InUse(f"JOURNAL_URL: {self._path} is in use by {owner}; one process owns a journal") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {os.uname().nodename}")
        lock.flush()
        self._lock = lock

    def _connect(self) -> None:
        db = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=1024
        )
        self._connection = db
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise sqlite3.OperationalError("the file system does not allow a write-ahead log")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA cache_size = -{PAGE_CACHE_KIB}")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA foreign_keys = OFF")

    def _check(self) -> None:
        """Look at the file without writing to it. Raises StartError, DatabaseError where it is damaged."""
        if not self._path.exists():
            return
        try:
            # Read-only, so that the write-ahead log of a damaged file is not moved into it at the end.
            self._look_into(f"{self._path.absolute().as_uri()}?mode=ro")
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            self._look_into(self._path.absolute().as_uri())  # stopped while it was made: there is something to undo

    def _look_into(self, uri: str) -> None:
        with contextlib.closing(sqlite3.connect(uri, timeout=BUSY_SECONDS, isolation_level=None, uri=True)) as db:
            application, version, tables = db.execute(
                "SELECT (SELECT application_id FROM pragma_application_id),"
                " (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)"
            ).fetchone()
            if tables and application != APPLICATION_ID:
                raise StartError(f"JOURNAL_URL: {self._path} is an SQLite file of something else, no journal")
            if version > len(MIGRATIONS):
                raise StartError(
                    f"JOURNAL_URL: {self._path} was written by a newer connector (version {version} of the journal,"
                    f" this one knows {len(MIGRATIONS)}); run that one, or take another file"
                )
            if tables:
                whole = self._path.stat().st_size <= QUICK_CHECK_BYTES
                (verdict,) = db.execute("PRAGMA quick_check(1)" if whole else "PRAGMA quick_check(open)").fetchone()
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict.splitlines()[-1])

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            self._db.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {number}; COMMIT;"
            )

    def _load(self) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        self._ids = RememberedIds(db)
        (newest,) = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        self.last_seq = max(newest, self._ids.last_seq)
        (self.open_events,) = db.execute("SELECT count(*) FROM open").fetchone()
        (paused,) = db.execute("SELECT paused FROM meta").fetchone()
        self.holds = [PAUSED] if paused else []
        db.execute("DELETE FROM commands WHERE made_at < ?", (self._clock() - COMMAND_SECONDS,))
        latest = self._clock() + self._longest_wait
        db.execute("UPDATE open SET due = ? WHERE state > 0 AND state = ? AND due > ?", (latest, WAITING, latest))
        db.execute("COMMIT")
        self._pruned_to = 0

    def _still_owner(self) -> None:
        (epoch,) = self._db.execute("SELECT epoch FROM meta").fetchone()
        if epoch != self._epoch:
            raise TakenOver("another process has taken the journal over")

    def _abandon(self) -> None:
        """Leave the connection in whatever state it is; the next one reads what was committed."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _look_at_disk(self, now: float) -> None:
        if now - self._disk_checked < DISK_CHECK_SECONDS:
            return
        self._disk_checked = now
        try:
            disk = os.statvfs(self._path.parent)
        except OSError:
            return  # the next transaction finds out what is wrong
        free = disk.f_bavail * disk.f_frsize
        self.full = (
            f"The disk of the journal is nearly full ({free >> 20} MiB left)" if free < self._min_free_disk else None
        )

    def _append(self, events: Sequence[Event], now: float) -> list[bool]:
        keys = [key_of(event.event_id) for event in events]
        known = self._remembered.find(keys)
        earlier = self._ended_dead(set(known.values())) if known else set()
        stored: list[bool] = []
        seqs: dict[bytes, int] = {}
        rows: list[tuple[Any, ...]] = []
        for event, key in zip(events, keys, strict=True):
            before = known.get(key)
            new = key not in seqs and (before is None or before in earlier)
            stored.append(new)
            if not new:
                continue
            self.last_seq += 1
            event.seq = seqs[key] = self.last_seq
            rows.append(
                (
                    event.seq,
                    event.event_id,
                    event.event_type,
                    event.lane,
                    event.request_id,
                    event.unique_id,
                    event.accepted_at,
                    before,
                    event.raw,
                )
            )
        if rows:
            insert_many(self._db, "INSERT INTO events VALUES", 9, rows)
            insert_many(
                self._db,
                "INSERT INTO open (seq, lane, state, attempt) VALUES",
                4,
                [(r[0], r[3], PENDING, 1) for r in rows],
            )
            self._remembered.note(seqs, now)
        return stored

    def _ended_dead(self, seqs: set[int]) -> set[int]:
        rows = select_in(self._db, "SELECT seq FROM outcomes WHERE state = 'dead' AND seq IN", list(seqs))
        return {seq for (seq,) in rows}

    def _settle(self, settles: Sequence[tuple[Event, Outcome]], now: float) -> list[bool]:
        seqs = [event.seq for event, _ in settles]
        current = self._attempts_of(seqs)
        kept: list[bool] = []
        ended: list[tuple[Any, ...]] = []
        failed: list[tuple[Any, ...]] = []
        applied: list[tuple[Any, ...]] = []
        for event, outcome in settles:
            counts = current.pop(event.seq, None) == event.attempt
            kept.append(counts)
            if not counts:
                continue
            row = (event.seq, event.attempt, now, outcome.ms, outcome.reason)
            if outcome.state in FINAL:
                attempts = event.attempt - (outcome.state == "superseded")  # which is without an attempt
                ended.append((event.seq, outcome.state, now, attempts, outcome.ms, outcome.reason))
            else:
                failed.append(row)
                state = WAITING if outcome.state == "waiting" else HELD
                self._db.execute(
                    "UPDATE open SET state = ?, due = ?, attempt = attempt + 1 WHERE seq = ?",
                    (state, outcome.due, event.seq),
                )
            if outcome.applied is not None:
                applied.append((event.lane, outcome.handler, *outcome.applied.times, event.seq, event.event_id))
        if applied:
            insert_many(self._db, "INSERT OR REPLACE INTO newest VALUES", 7, applied)
        if ended:
            execute_in(self._db, "DELETE FROM open WHERE seq IN", [row[0] for row in ended])
            insert_many(self._db, "INSERT INTO outcomes VALUES", 6, ended)
        if failed:
            insert_many(self._db, "INSERT INTO attempts VALUES", 5, failed)
        return kept

    def _attempts_of(self, seqs: Sequence[int]) -> dict[int, int]:
        """The attempt that is next, for those of ``seqs`` that are open; one step a statement, see ``rows``."""
        found = select_in(self._db, "SELECT group_concat(seq || ' ' || attempt) FROM open WHERE seq IN", seqs)
        pairs = [pair.split() for (text,) in found if text for pair in text.split(",")]
        return {int(seq): int(attempt) for seq, attempt in pairs}

    def _operate(self, batch: Batch, now: float) -> None:
        """Carry out commands of this process and, where another process has written to the file, its commands."""
        mail = unanswered(self._db) if self.has_mail() else ()
        if not batch.commands and not mail:
            return
        operator = Operator(self._db, self._remembered, self.last_seq, now)
        batch.answers = [operator.run(command) for command in batch.commands]
        answer(self._db, operator, mail)
        batch.change = operator.change
        self.last_seq = operator.change.last_seq

    def _count(self, batch: Batch) -> None:
        """Count what has happened; the file has the counts of a second ago at the latest."""
        for (_, outcome), kept in zip(batch.settles, batch.kept, strict=True):
            if kept:
                self._counts["retried" if outcome.state == "waiting" else outcome.state] += 1
        if batch.appends:
            new = sum(batch.stored)
            self._counts["accepted"] += new
            self._counts["duplicate"] += len(batch.appends) - new
        if batch.change is not None:
            self._counts.update(batch.change.counts)

    def _write_counts(self) -> None:
        rows = [(name, count) for name, count in self._counts.items() if count]
        add = "ON CONFLICT DO UPDATE SET count = count + excluded.count"
        insert_many(self._db, "INSERT INTO counters VALUES", 2, rows, add)

    def _prune(self, now: float, limit: int) -> bool:
        """Take events whose time is over out of the file, looking at ``limit`` of them; whether there are more.

        A round goes through the ended events in order, up to those that cannot be over yet, and then rests.
        """
        if now < self._next_prune:
            return False
        rows = self._db.execute(
            "SELECT o.seq, o.state, o.ended_at, e.accepted_at, e.event_id"
            " FROM outcomes o JOIN events e ON e.seq = o.seq WHERE o.seq > ? ORDER BY o.seq LIMIT ?",
            (self._pruned_to, limit),
        ).fetchall()
        keep = {"dead": self._keep_dead}
        over = [row for row in rows if row[2] < now - keep.get(row[1], self._keep_done)]
        self._forget([row[0] for row in over])
        # Nobody could tell any more that they ended dead, and would take the next attempt for a duplicate.
        self._remembered.forget({key_of(row[4]): row[0] for row in over if row[1] == "dead"})
        if len(rows) == limit and rows[-1][3] <= now - min(self._keep_done, self._keep_dead):
            self._pruned_to = rows[-1][0]
            return True
        self._pruned_to = 0
        self._next_prune = now + PRUNE_REST_SECONDS
        return False

    def _forget(self, seqs: Sequence[int]) -> None:
        if seqs:
            self._remembered.record(self.last_seq)
        for table in ("events", "outcomes", "attempts"):
            execute_in(self._db, f"DELETE FROM {table} WHERE seq IN", seqs)

    def _give_back(self) -> bool:
        free, pages = self._db.execute(
            "SELECT (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_count FROM pragma_page_count)"
        ).fetchone()
        if free < VACUUM_PAGES or free * 4 < pages:
            return False
        # Not ``execute``: it takes a statement without columns for done after its first step, which is one page.
        self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        return True


def _sync(folder: Path) -> None:
    """Make the names in ``folder`` outlive a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _checkpoint(path: Path) -> None:
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _event(row: Sequence[Any]) -> Event:
    seq, event_id, event_type, lane, request_id, unique_id, accepted_at, body, attempt, due = row
    return Event(
        event_id, event_type, lane, request_id, unique_id, accepted_at, body, seq=seq, attempt=attempt, due=due
    )


def _text(fault: Exception) -> str:
    if isinstance(fault, OSError):
        return fault.strerror or type(fault).__name__
    return str(fault)


def _way_out(fault: Exception) -> str:
    if isinstance(fault, sqlite3.DatabaseError) and not isinstance(fault, sqlite3.OperationalError):
        return (
            ". The file is damaged; nothing was changed. Copy it and its -wal file, rescue what can be read with"
            " `sqlite3 FILE .recover`, put a backup in its place or point JOURNAL_URL at a new file"
        )
    return ""


def _is_fatal(fault: Exception, committing: bool = False) -> bool:
    """Whether to end rather than to go on: the file is damaged, or it is not known whether a commit counts.

    After a failed sync the kernel may hold pages that never reach the disk and yet reads them back; only a new
    process that reads the file from the start knows what is there.
    """
    if isinstance(fault, TakenOver):
        return True
    code = getattr(fault, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or (committing and code == sqlite3.SQLITE_IOERR)
