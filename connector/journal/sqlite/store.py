"""The embedded journal: one SQLite file, written by one thread, synced before every 202.

Tables::

    events    what was accepted, the body as it came; written once, never changed
    open, touches, marks, newest  what is not final yet, and in which order it runs, see ``order``
    outcomes  how an event ended
    attempts  what went wrong in attempts that were not the last
    progress  what the handlers of a type with several have done
    ids_N     remembered ids, see ``remembered``
    jumps     of the clock between two runs, see ``ages``
    commands  of operators in other processes, and the answers
    counters  what ``stats`` shows
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
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final

from connector import log
from connector.errors import StartError, Unavailable
from connector.events.event import Event
from connector.events.identity import own_key
from connector.events.snapshot import Snapshot
from connector.journal import Entry, Kept, Newest
from connector.journal.commands import HELD, PAUSED, PENDING, WAITING
from connector.journal.entry import NO_STEPS
from connector.journal.queries import Query
from connector.journal.sqlite import ages, copies
from connector.journal.sqlite.ages import NOTED_SECONDS, Ages
from connector.journal.sqlite.file import MIGRATIONS, JournalFile, place_of, text_of
from connector.journal.sqlite.history import History
from connector.journal.sqlite.operator import SqliteOperator, answer, unanswered
from connector.journal.sqlite.order import Order
from connector.journal.sqlite.remembered import RememberedIds
from connector.journal.sqlite.rows import insert_many, select_in
from connector.journal.sqlite.stored import Unreadable, event_of, is_text, key_of, number, readable, shown
from connector.journal.sqlite.upkeep import PRUNE_ROWS, NewestPruning, Pruning, give_back
from connector.journal.sqlite.wal import LOG_BYTES, WriteAheadLog, write_a_page
from connector.journal.store import Append, Batch, Fed, Feed, Store, StoreError
from connector.outcome import FINAL, Mark, Step

COPIES: Final = 2
"""A body takes room twice until the log is cut: in the log, and in the file."""

LEAST_ROOM: Final = 64 * 1024
"""Bytes of events; with less room than that, none is taken."""

ROOMY_BYTES: Final = 2 * LOG_BYTES
"""Room is short where less than this is left beyond MIN_FREE_DISK: the log is kept small then."""

DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""SQLite's codes of a file that is damaged."""

GIVE_BACK_REST_SECONDS: Final = 60.0
"""Rest after free pages could not be given back."""

COMMAND_SECONDS: Final = 3600.0

UNREADABLE: Final = -1
"""Stands for the attempt of a row in which there is none: whoever has the event settles it."""

STEP_STATES: Final = FINAL | {"waiting"}

SCAN_ROWS: Final = 20_000
"""Sequence numbers looked at in one transaction for events that may run: a few milliseconds."""

_log = log.get_logger()

_READ: Final = (
    "SELECT o.seq, e.event_id, e.event_type, e.lane, e.request_id, e.unique_id, e.accepted_at, e.body, o.attempt,"
    " o.due, e.earlier FROM open o LEFT JOIN events e ON e.seq = o.seq"
)


class TakenOver(sqlite3.OperationalError):
    """The file has another owner now; whatever this process would note of its events is void."""


class SqliteStore(Store):
    """A journal file and the thread's connection to it.

    ``keep_done``, ``keep_dead``, ``keep_ids``  seconds that payloads and ids are kept after the end
    ``keep_newest``  seconds that it is known what was applied last
    ``min_free_disk``  bytes of the disk that are left alone
    ``longest_wait``  seconds; at start, no retry noted by a clock that was ahead is due later than that
    ``ordering``      names the rule by which events are ordered; where the file was written under another one, the
                      resources of its open events are made anew by ``resources``
    ``upgrades``      whether a file of an older version is upgraded, after a backup; else it is refused
    """

    def __init__(
        self,
        path: Path,
        *,
        keep_done: float,
        keep_dead: float,
        keep_ids: float,
        keep_newest: float = inf,
        min_free_disk: int,
        longest_wait: float = inf,
        clock: Callable[[], float],
        ordering: str = "",
        resources: Callable[[Event], Sequence[str]] = lambda event: event.resources,
        upgrades: bool = True,
    ) -> None:
        self._file = JournalFile(path, self._back_up if upgrades else None)
        self._upgraded_from: int | None = None
        self._pruning = Pruning(keep_done=keep_done, keep_dead=keep_dead)
        self._log = WriteAheadLog(path)
        self._keep_ids = keep_ids
        self._min_free_disk = min_free_disk
        self._longest_wait = longest_wait
        self._clock = clock
        self._ordering = ordering
        self._resources = resources
        self._connection: sqlite3.Connection | None = None
        self._ids: RememberedIds | None = None
        self._open_order: Order | None = None
        self._unblocked: dict[int, None] = {}
        self._longest_kept = max(keep_done, keep_dead, keep_ids, keep_newest)
        self._newest_pruning = NewestPruning(keep_newest)
        self._ages = Ages()
        self._noted_at: float | None = None
        self._epoch = 0
        self._place: tuple[int, int] | None = None
        self._give_back_from = 0.0
        self._data_version = -1
        self._mail = False

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError("the journal file is not open")
        return self._connection

    def open(self) -> None:
        self._connection = self._file.open()
        if self._upgraded_from is not None:
            before, backup = self._upgraded_from, str(self._backup_of(self._upgraded_from))
            _log.warning(
                f"The journal was upgraded from version {before} to {len(MIGRATIONS)}; {backup} is as it was",
                action="journal.upgraded",
                version=len(MIGRATIONS),
                before=before,
                backup=backup,
            )
        try:
            self._place = place_of(self._file.path)
            self._epoch = self._db.execute("UPDATE meta SET epoch = epoch + 1 RETURNING epoch").fetchone()[0]
            self._db.execute("UPDATE meta SET away = ''")
            self._begin()
        except sqlite3.Error as fault:
            self.close()
            raise StartError(f"JOURNAL_URL: {self._file.path} cannot be opened: {text_of(fault)}") from None

    def _back_up(self, version: int) -> None:
        target = self._backup_of(version)
        try:
            copies.backup(self._file.path, target, min_free_disk=0)
        except Unavailable as error:
            raise StartError(
                f"JOURNAL_URL: {self._file.path} is of version {version} and is upgraded only after a backup beside it:"
                f" {error}"
            ) from None
        self._upgraded_from = version

    def _backup_of(self, version: int) -> Path:
        return self._file.path.with_name(f"{self._file.path.name}.v{version}")

    def close(self) -> None:
        self._log.close()
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
            self._unblocked = {}
            if batch.settles or batch.notes or batch.rests:
                self._end_attempts(batch, now)
            if batch.appends:
                self._append(batch, now)
            self._operate(batch, now)
            batch.unblocked = self._read_unblocked(batch)
            batch.results = [self._call(function) for function in batch.calls]
            if batch.feed is not None:
                batch.fed = self._feed(batch.feed)
            rows = PRUNE_ROWS + 2 * len(batch.appends)
            self._pruning.step(db, self._remembered, self.last_seq, self._ages, now, rows)
            self._note_time(now)
            self._count(batch)
            committing = True
            db.execute("COMMIT")
        except (sqlite3.Error, OSError) as fault:
            self._abandon(fault)
            raise StoreError(text_of(fault), fatal=_is_fatal(fault, committing)) from fault
        self._mail = False
        self._look_at_disk()
        self.wants_upkeep = self._log.due

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
                self._begin()
            write_a_page(self._db)
            self._look_at_disk()
        except (sqlite3.Error, OSError) as fault:
            self._abandon(fault)
            raise StoreError(text_of(fault), fatal=_is_fatal(fault)) from fault

    def upkeep(self) -> bool:
        now = self._clock()
        self._look_at_disk()
        committing = False
        try:
            db = self._db
            db.execute("BEGIN IMMEDIATE")
            self._still_owner()
            more = self._pruning.step(db, self._remembered, self.last_seq, self._ages, now, PRUNE_ROWS)
            more = self._remembered.upkeep(self._ages.cutoff(self._keep_ids, now)) or more
            more = self._newest_pruning.step(self._order, self._ages, now) or more
            self._note_time(now)
            committing = True
            db.execute("COMMIT")
            self._log.step(db)
            if self._give_back(db, now):
                more = self._log.shrinks = True
            (self._log.step if more else self._log.rest)(db)
        except (sqlite3.Error, OSError) as fault:
            self._abandon(fault)
            raise StoreError(text_of(fault), fatal=_is_fatal(fault, committing)) from fault
        self._look_at_disk()
        self.wants_upkeep = self._log.due
        return more

    def age(self, moment: float, now: float) -> float:
        return self._ages.age(moment, now)

    def _give_back(self, db: sqlite3.Connection, now: float) -> bool:
        if now < self._give_back_from:
            return False
        try:
            return give_back(db, everything=self._log.short)
        except sqlite3.OperationalError as fault:
            if _code(fault) != sqlite3.SQLITE_FULL:
                raise
            # No room to move pages in; or a damaged page that names one beyond the end of all files, as SQLite says it.
            self._give_back_from = now + GIVE_BACK_REST_SECONDS
            return False

    def note_target(self, reason: str) -> None:
        since = self._clock() if reason else None
        self._db.execute("UPDATE meta SET away = ?, away_since = iif(away = '', ?, away_since)", (reason, since))

    def newest(self, seq: int, mark: Mark, mine: Snapshot) -> Newest:
        found = self._order.newest(seq, mark, mine)
        while found.behind is not None and not self._can_be_read(found.behind.seq):
            self._order.unmark(found.behind.seq)  # it ends dead, and makes nothing pointless
            found = self._order.newest(seq, mark, mine)
        return found

    def answer(self, query: Query[Any]) -> Any:
        return History(self._db).answer(query)

    def _can_be_read(self, seq: int) -> bool:
        row = self._row(seq)
        try:
            return row is not None and bool(readable(event_of(row)))
        except Unreadable:
            return False

    def _feed(self, feed: Feed) -> Fed:
        entries: list[Entry] = []
        next_due = None
        seqs = list(feed.seqs)
        if feed.due is not None:
            due, next_due = self._order.claim_due(feed.now, feed.due)
            seqs += due
        if seqs:
            entries += self._load(seqs)
        upto = feed.after
        if feed.ahead:
            ahead, upto = self._read_ahead(feed.after, feed.ahead)
            entries += ahead
        return Fed(entries, next_due, upto)

    def _load(self, seqs: Sequence[int]) -> list[Entry]:
        """Those of these events that may run, in the order of ``seqs``."""
        rows = select_in(self._db, f"{_READ} WHERE o.state = {PENDING} AND o.blockers = 0 AND o.seq IN", seqs)
        found = {entry.seq: entry for entry in self._entries(rows)}
        return [found[seq] for seq in dict.fromkeys(seqs) if seq in found]

    def _read_ahead(self, after: int, limit: int) -> tuple[list[Entry], int]:
        (first,) = self._db.execute("SELECT min(seq) FROM open WHERE seq > ?", (after,)).fetchone()
        if first is None:
            return [], self.last_seq
        upto = min(first + SCAN_ROWS, self.last_seq)
        rows = self._db.execute(
            f"{_READ} WHERE o.seq BETWEEN ? AND ? AND o.state = {PENDING} AND o.blockers = 0 ORDER BY o.seq LIMIT ?",
            (first, upto, limit),
        ).fetchall()
        entries = self._entries(rows)
        return entries, entries[-1].seq if len(entries) == limit else upto

    def _entries(self, rows: Sequence[Sequence[Any]]) -> list[Entry]:
        steps = self._order.steps([row[0] for row in rows])
        entries: list[Entry] = []
        for row in rows:
            try:
                entry = _entry(row, steps.get(row[0], NO_STEPS))
                if isinstance(row[-1], int):
                    entry.origin = self._order.root(row[-1])
                entries.append(entry)
            except Unreadable as why:
                entries.append(self._unreadable(row, str(why)))
        return entries

    def _unreadable(self, row: Sequence[Any], why: str) -> Entry:
        """An open event that is not what was kept: it can be ended, and holds what it held until then."""
        seq, event_id, event_type, _, request_id, unique_id, accepted_at, _, attempt, _, _ = row
        if not isinstance(attempt, int) or attempt < 0:
            attempt = 0
            self._order.mend(seq)
        event_id = shown(event_id) or f"seq {seq}"
        resources = self._order.places(seq)
        traced = (shown(request_id), shown(unique_id))
        accepted = number(accepted_at, self._clock())
        event = Event(event_id, shown(event_type), resources, *traced, accepted, b"", attempt, _key=own_key(event_id))
        return Entry(event, seq, attempt=attempt, unreadable=why)

    def _read_unblocked(self, batch: Batch) -> dict[int, Entry | None]:
        """What this transaction has unblocked, read as far as there is room for it in memory."""
        unblocked = dict.fromkeys(self._unblocked)
        if batch.change is not None:
            unblocked |= dict.fromkeys(batch.change.unblocked)
        wanted = [seq for seq in unblocked if seq not in batch.cached][: batch.loadable]
        for entry in self._load(wanted) if wanted else ():
            unblocked[entry.seq] = entry
        return unblocked

    @property
    def _order(self) -> Order:
        if self._open_order is None:
            raise StoreError("the journal file is not open")
        return self._open_order

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

    def _begin(self) -> None:
        db = self._db
        self._data_version = -1  # each connection counts anew: what came before this one is looked at, too
        db.execute("BEGIN IMMEDIATE")
        self._still_owner()
        self._ids = RememberedIds(db)
        self._open_order = Order(db)
        if self._ordering:
            self._open_order.arrange(self._ordering, self._resources)
        (newest,) = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        self.last_seq = max(newest, self._ids.last_seq)
        self.open_events, self.open_bytes = db.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM open").fetchone()
        (paused,) = db.execute("SELECT paused FROM meta").fetchone()
        self.holds = [PAUSED] if paused else []
        db.execute("DELETE FROM commands WHERE made_at < ?", (self._clock() - COMMAND_SECONDS,))
        if self._noted_at is None:  # after a failure the process has the same clock
            self._noted_at = self._clock()
            self._ages = ages.begin(db, self._noted_at, self._longest_kept)
        now = self._clock()  # a clock that was set back: whatever it said, no retry is due later than the longest wait
        latest = now + self._longest_wait
        db.execute(
            "UPDATE open SET due = ? WHERE state > 0 AND state = ? AND due > ? "
            "AND EXISTS (SELECT 1 FROM attempts WHERE attempts.seq = open.seq AND ended_at > ?)",
            (latest, WAITING, latest, now),
        )
        self._order.mend_all(now)
        db.execute("COMMIT")

    def _note_time(self, now: float) -> None:
        if self._noted_at is None or now - self._noted_at >= NOTED_SECONDS:
            self._noted_at = now
            ages.note(self._db, now)

    def _still_owner(self) -> None:
        if place_of(self._file.path) != self._place:
            raise TakenOver("the journal file was deleted, moved or replaced")
        (epoch,) = self._db.execute("SELECT epoch FROM meta").fetchone()
        if epoch != self._epoch:
            raise TakenOver("another process has taken the journal over")

    def _abandon(self, fault: Exception) -> None:
        """Leave the connection in whatever state it is; the next one reads what was committed."""
        if _code(fault) in DAMAGED:
            self._file.suspect()
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _look_at_disk(self) -> None:
        try:
            disk = os.statvfs(self._file.path.parent)
        except OSError:
            return  # the next transaction finds out what is wrong
        free = disk.f_bavail * disk.f_frsize
        if self._min_free_disk:
            self.room = (free - self._log.size - self._min_free_disk) / COPIES
            nearly = self.room < LEAST_ROOM
            self.full = f"The disk of the journal is nearly full ({free >> 20} MiB left)" if nearly else None
        self._log.short = self._pruning.short = free < self._min_free_disk + ROOMY_BYTES

    def _append(self, batch: Batch, now: float) -> None:
        events = [append.event for append in batch.appends]
        keys = [event.key for event in events]
        known = self._known(events, keys)
        dead = self._ended_dead(set(known.values())) if known else set()
        kept: list[Kept] = []
        seqs: dict[bytes, int] = {}
        new: list[tuple[int, Append]] = []
        rows: list[tuple[Any, ...]] = []
        for append, event, key in zip(batch.appends, events, keys, strict=True):
            before = known.get(key)
            if key in seqs or (before is not None and before not in dead):
                kept.append(self._duplicate(event, seqs.get(key, before), rows))
                continue
            kept.append(Kept.NEW)
            self.last_seq += 1
            seq = seqs[key] = self.last_seq
            new.append((seq, append))
            rows.append(
                (
                    seq,
                    event.event_id,
                    event.event_type,
                    "\n".join(event.resources),
                    event.request_id,
                    event.unique_id,
                    event.accepted_at,
                    before,
                    event.raw,
                )
            )
        batch.kept = kept
        if not new:
            batch.entries = [None] * len(kept)
            return
        insert_many(self._db, "INSERT INTO events VALUES", 9, rows)
        self._remembered.note(seqs, now)
        earlier = {seq: before for seq, *_, before, _ in rows if before is not None}
        opened = iter(self._open_new(new, earlier))
        batch.entries = [next(opened) if each is Kept.NEW else None for each in kept]

    def _open_new(self, new: Sequence[tuple[int, Append]], earlier: Mapping[int, int]) -> list[Entry]:
        blockers = self._order.add([(seq, append.event.resources, len(append.event.raw)) for seq, append in new])
        steps: Mapping[int, Mapping[str, Step]] = {}
        origins: dict[int, int] = {}
        if earlier:
            origins = {seq: self._order.root(before) for seq, before in earlier.items()}
            self._order.copy_steps(earlier)
            steps = self._order.steps(list(earlier))
        for seq, append in new:
            if append.marks:
                self._unblocked |= dict.fromkeys(self._order.mark(seq, append.marks, origins.get(seq)))
        return [
            Entry(append.event, seq, blockers=count, progress=steps.get(seq, NO_STEPS), origin=origins.get(seq))
            for (seq, append), count in zip(new, blockers, strict=True)
        ]

    def _known(self, events: Sequence[Event], keys: Sequence[bytes]) -> dict[bytes, int]:
        """The newest series of each identity that is remembered."""
        known = self._remembered.find(keys)
        if not self._remembered.has_before:
            return known
        rest = {event.event_id: key for event, key in zip(events, keys, strict=True) if key not in known}
        for event_id, seq in self._remembered.find_before(list(rest)).items():
            row = self._row(seq)
            if row is None or _key(row) == rest[event_id]:
                known[rest[event_id]] = seq
        return known

    def _row(self, seq: int | None) -> Sequence[Any] | None:
        row: Sequence[Any] | None = self._db.execute(
            "SELECT event_id, event_type, lane, request_id, unique_id, accepted_at, body FROM events WHERE seq = ?",
            (seq,),
        ).fetchone()
        return row

    def _duplicate(self, event: Event, seq: int | None, new: Sequence[Sequence[Any]]) -> Kept:
        """Whether the body that is kept under the same identity is the same."""
        body = next((row[-1] for row in new if row[0] == seq), None)
        if body is None and (row := self._row(seq)) is not None:
            body = row[-1]
        return Kept.CONFLICT if isinstance(body, bytes) and body != event.raw else Kept.DUPLICATE

    def _ended_dead(self, seqs: set[int]) -> set[int]:
        rows = select_in(self._db, "SELECT seq FROM outcomes WHERE state = 'dead' AND seq IN", list(seqs))
        return {seq for (seq,) in rows}

    def _end_attempts(self, batch: Batch, now: float) -> None:
        entries = [entry for entry, _ in batch.settles]
        current = self._attempts_of([entry.seq for entry in entries] + [entry.seq for entry, *_ in batch.notes])
        steps = [(entry.seq, step) for entry, step, _ in batch.notes if current.get(entry.seq) == entry.attempt]
        counted: list[bool] = []
        ended: list[tuple[Any, ...]] = []
        failed: list[tuple[Any, ...]] = []
        left: list[tuple[int, Sequence[str]]] = []
        applied = [each for *_, written in batch.notes for each in written]
        for entry, outcome in batch.settles:
            counts = current.get(entry.seq) in (entry.attempt, UNREADABLE)
            counted.append(counts)
            applied += outcome.applied  # also where it does not count: what was done outside was done
            if not counts:
                continue
            del current[entry.seq]
            steps += [(entry.seq, step) for step in outcome.steps]
            if outcome.final:
                without = outcome.state == "superseded" or bool(entry.unreadable)
                attempts = max(0, entry.attempt - without)
                ended.append((entry.seq, outcome.state, now, attempts, outcome.ms, outcome.reason))
                left.append((entry.seq, entry.event.resources))
            else:
                failed.append((entry.seq, entry.attempt, now, outcome.ms, outcome.reason))
                state = WAITING if outcome.state == "waiting" else HELD
                self._db.execute(
                    "UPDATE open SET state = ?, due = ?, attempt = ? WHERE seq = ?",
                    (state, outcome.due, entry.attempt + 1, entry.seq),
                )
        batch.counted = counted
        if steps:
            self._order.step(steps)
        if applied:
            self._order.apply(applied, now)
        if ended:
            insert_many(self._db, "INSERT INTO outcomes VALUES", 6, ended)
            self._unblocked |= dict.fromkeys(self._order.end(left))
        if failed:
            insert_many(self._db, "INSERT INTO attempts VALUES", 5, failed)
        if batch.rests:
            self._order.rest([entry.seq for entry in batch.rests])

    def _attempts_of(self, seqs: Sequence[int]) -> dict[int, int]:
        """The attempt that is next, for those of ``seqs`` that are open; one step a statement, see ``rows``."""
        attempt = f"iif(typeof(attempt) = 'integer', attempt, {UNREADABLE})"
        found = select_in(self._db, f"SELECT group_concat(seq || ' ' || {attempt}) FROM open WHERE seq IN", seqs)
        pairs = [pair.split() for (text,) in found if text for pair in text.split(",")]
        return {int(seq): int(attempt) for seq, attempt in pairs}

    def _operate(self, batch: Batch, now: float) -> None:
        """Carry out commands of this process and, where another process has written to the file, its commands."""
        mail = unanswered(self._db) if self.has_mail() else ()
        if not batch.commands and not mail:
            return
        operator = SqliteOperator(self._db, self._order, self._remembered, batch, self.last_seq, now)
        batch.answers = [operator.run(command) for command in batch.commands]
        answer(self._db, operator, mail)
        batch.change = operator.change
        self.last_seq = operator.change.last_seq

    def _count(self, batch: Batch) -> None:
        add = "ON CONFLICT DO UPDATE SET count = count + excluded.count"
        insert_many(self._db, "INSERT INTO counters VALUES", 2, list(batch.counts.items()), add)


def _entry(row: Sequence[Any], steps: Mapping[str, Step]) -> Entry:
    seq, *of_event, attempt, due, _ = row
    event = readable(event_of(of_event, attempt))
    if not isinstance(due, float | None):
        raise Unreadable("the time of its next attempt cannot be read any more")
    for step in steps.values():
        if not (
            is_text(step.handler)
            and is_text(step.reason)
            and step.state in STEP_STATES
            and isinstance(step.attempts, int)
            and isinstance(step.ms, int)
        ):
            raise Unreadable("what its handlers have done cannot be read any more")
    return Entry(event, seq, attempt=attempt, due=due, progress=steps)


def _key(row: Sequence[Any]) -> bytes | None:
    try:
        return key_of(event_of(row))
    except Unreadable:
        return None


def _is_fatal(fault: Exception, committing: bool = False) -> bool:
    """Whether to end rather than to go on: the file is damaged, or it is not known whether a commit counts.

    After a failed sync the kernel may hold pages that never reach the disk and yet reads them back; only a new
    process that reads the file from the start knows what is there.
    """
    if isinstance(fault, TakenOver):
        return True
    code = _code(fault)
    return code in DAMAGED or (committing and code == sqlite3.SQLITE_IOERR)


def _code(fault: Exception) -> int:
    """SQLite's code of an error; 0 for one of somebody else."""
    return int(getattr(fault, "sqlite_errorcode", 0)) & 0xFF
