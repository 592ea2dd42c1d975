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
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final

from connector.errors import StartError
from connector.events.event import Event
from connector.events.snapshot import Snapshot
from connector.journal import Page
from connector.journal.group_commit import Batch, Store, StoreError
from connector.journal.sqlite.file import JournalFile, text_of
from connector.journal.sqlite.operator import (
    HELD,
    PAUSED,
    PENDING,
    WAITING,
    Operator,
    answer,
    unanswered,
)
from connector.journal.sqlite.remembered import RememberedIds, key_of
from connector.journal.sqlite.rows import execute_in, insert_many, select_in
from connector.journal.sqlite.upkeep import PRUNE_ROWS, Checkpoints, Pruning, give_back
from connector.outcome import FINAL, Outcome

DISK_CHECK_SECONDS: Final = 1.0
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
    ``longest_wait``  seconds; at start, no retry noted by a clock that was ahead is due later than that
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
        self._file = JournalFile(path)
        self._pruning = Pruning(keep_done=keep_done, keep_dead=keep_dead)
        self._checkpoints = Checkpoints(path)
        self._keep_ids = keep_ids
        self._min_free_disk = min_free_disk
        self._longest_wait = longest_wait
        self._clock = clock
        self._connection: sqlite3.Connection | None = None
        self._ids: RememberedIds | None = None
        self._epoch = 0
        self._disk_checked = 0.0
        self._data_version = -1
        self._mail = False

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError("the journal file is not open")
        return self._connection

    def open(self) -> None:
        self._connection = self._file.open()
        try:
            self._epoch = self._db.execute("UPDATE meta SET epoch = epoch + 1 RETURNING epoch").fetchone()[0]
            self._load()
        except sqlite3.Error as fault:
            self.close()
            raise StartError(f"JOURNAL_URL: {self._file.path} cannot be opened: {text_of(fault)}") from None

    def close(self) -> None:
        self._checkpoints.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._file.close()

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
            self._pruning.step(db, self._remembered, self.last_seq, now, PRUNE_ROWS + 2 * len(batch.appends))
            self._count(batch)
            committing = True
            db.execute("COMMIT")
        except (sqlite3.Error, OSError) as fault:
            self._abandon()
            raise StoreError(text_of(fault), fatal=_is_fatal(fault, committing)) from fault
        self._mail = False
        size = sum([len(event.raw) for event in batch.appends])
        self._checkpoints.note(len(batch.appends) + len(batch.settles), size)
        self.wants_upkeep = self._checkpoints.due
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
                self._connection = self._file.connect()
                self._load()
            self._still_owner()
            self._db.execute("UPDATE meta SET epoch = epoch")
            self._look_at_disk(self._clock())
        except (sqlite3.Error, OSError) as fault:
            self._abandon()
            raise StoreError(text_of(fault), fatal=_is_fatal(fault)) from fault

    def upkeep(self) -> bool:
        now = self._clock()
        self._look_at_disk(now)
        committing = False
        try:
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            self._still_owner()
            more = self._pruning.step(db, self._remembered, self.last_seq, now, PRUNE_ROWS)
            more = self._remembered.upkeep(now - self._keep_ids) or more
            committing = True
            db.execute("COMMIT")
            self._checkpoints.step(db)
            self.wants_upkeep = self._checkpoints.due
            return more or give_back(db)
        except (sqlite3.Error, OSError) as fault:
            self._abandon()
            raise StoreError(text_of(fault), fatal=_is_fatal(fault, committing)) from fault

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

    def note_target(self, away: str) -> None:
        since = self._clock() if away else None
        self._db.execute("UPDATE meta SET away = ?, away_since = iif(away = '', ?, away_since)", (away, since))

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

    def _load(self) -> None:
        db = self._db
        self._data_version = -1  # each connection counts anew: what came before this one is looked at, too
        db.execute("BEGIN IMMEDIATE")
        self._ids = RememberedIds(db)
        (newest,) = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        self.last_seq = max(newest, self._ids.last_seq)
        (self.open_events,) = db.execute("SELECT count(*) FROM open").fetchone()
        (paused,) = db.execute("SELECT paused FROM meta").fetchone()
        self.holds = [PAUSED] if paused else []
        db.execute("UPDATE meta SET away = ''")
        db.execute("DELETE FROM commands WHERE made_at < ?", (self._clock() - COMMAND_SECONDS,))
        now = self._clock()  # a clock that was set back: whatever it said, no retry is due later than the longest wait
        latest = now + self._longest_wait
        db.execute(
            "UPDATE open SET due = ? WHERE state > 0 AND state = ? AND due > ? "
            "AND EXISTS (SELECT 1 FROM attempts WHERE attempts.seq = open.seq AND ended_at > ?)",
            (latest, WAITING, latest, now),
        )
        db.execute("COMMIT")

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
            disk = os.statvfs(self._file.path.parent)
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
            for mark, snapshot in outcome.applied:
                applied.append((mark.resource, mark.name, *snapshot.times, event.seq, event.event_id))
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
        settled = zip(batch.settles, batch.kept, strict=True)
        counts: Counter[str] = Counter(outcome.state for (_, outcome), kept in settled if kept)
        counts["retried"] = counts.pop("waiting", 0)
        if batch.appends:
            counts["accepted"] = sum(batch.stored)
            counts["duplicate"] = len(batch.appends) - counts["accepted"]
        if batch.change is not None:
            counts.update(batch.change.counts)
        rows = [(name, count) for name, count in counts.items() if count]
        add = "ON CONFLICT DO UPDATE SET count = count + excluded.count"
        insert_many(self._db, "INSERT INTO counters VALUES", 2, rows, add)


def _event(row: Sequence[Any]) -> Event:
    seq, event_id, event_type, lane, request_id, unique_id, accepted_at, body, attempt, due = row
    return Event(
        event_id, event_type, (lane,), request_id, unique_id, accepted_at, body, seq=seq, attempt=attempt, due=due
    )


def _is_fatal(fault: Exception, committing: bool = False) -> bool:
    """Whether to end rather than to go on: the file is damaged, or it is not known whether a commit counts.

    After a failed sync the kernel may hold pages that never reach the disk and yet reads them back; only a new
    process that reads the file from the start knows what is there.
    """
    if isinstance(fault, TakenOver):
        return True
    code = getattr(fault, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or (committing and code == sqlite3.SQLITE_IOERR)
