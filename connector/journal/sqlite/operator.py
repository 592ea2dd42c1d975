"""An operator's commands on an SQLite journal: the rows that they change.

Every change runs within a transaction of the journal's owner. A command from another process is put into the table
``commands`` and answered there.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import structs

from connector.journal.commands import Command, CommandResult, OpenEvent, Operator
from connector.journal.sqlite.order import Order
from connector.journal.sqlite.remembered import RememberedIds
from connector.journal.sqlite.rows import touches
from connector.journal.sqlite.stored import event_of, key_of, readable, shown
from connector.journal.store import Batch


class SqliteOperator(Operator):
    """Commands within one transaction, that of ``batch``; ``now`` in seconds since the epoch."""

    def __init__(
        self,
        db: sqlite3.Connection,
        order: Order,
        ids: RememberedIds,
        batch: Batch,
        last_seq: int,
        now: float,
    ) -> None:
        super().__init__(last_seq)
        self._db = db
        self._order = order
        self._ids = ids
        self._marked = batch.marked
        self._running = batch.running
        self._now = now

    def latest(self, event_id: str) -> Sequence[int]:
        return self._ids.bearing(event_id)

    def find(self, seq: int) -> OpenEvent | None:
        row = self._db.execute("SELECT seq, state, attempt, blockers, bytes FROM open WHERE seq = ?", (seq,)).fetchone()
        return OpenEvent(*row) if row else None

    def first(self, resource: str) -> OpenEvent | None:
        seq = self._order.first(resource)
        if seq is None:
            # The first of ``state > 0`` stands there word for word, since only then SQLite takes the partial index.
            row = self._db.execute(
                "SELECT o.seq FROM open o JOIN events e ON e.seq = o.seq WHERE o.state > 0"
                f" AND {touches('e.lane')} ORDER BY o.seq LIMIT 1",
                (resource,) * 4,
            ).fetchone()
            seq = row[0] if row else None
        return None if seq is None else self.find(seq)

    def reason(self, seq: int) -> str:
        row = self._db.execute(
            "SELECT reason FROM attempts WHERE seq = ? ORDER BY attempt DESC LIMIT 1", (seq,)
        ).fetchone()
        return shown(row[0]) if row else ""

    def copy(self, seq: int, whole: bool) -> int | None:
        new = self.change.last_seq + 1
        row = self._db.execute(
            "SELECT event_id, event_type, lane, request_id, unique_id, accepted_at, body FROM events WHERE seq = ?",
            (seq,),
        ).fetchone()
        if row is None:
            return None
        event = readable(event_of(row))
        self._db.execute(
            "INSERT INTO events SELECT ?, event_id, event_type, lane, request_id, unique_id, ?, seq, body"
            " FROM events WHERE seq = ?",
            (new, self._now, seq),
        )
        self._order.add([(new, event.resources, len(event.raw))])
        self.change.open_bytes += len(event.raw)
        if not whole:
            self._order.copy_steps({new: seq})
        self._ids.note({key_of(event): new}, self._now)
        event = structs.replace(event, accepted_at=self._now)
        if marks := self._marked(event):
            self.change.unblocked.update(self._order.mark(new, marks, self._order.root(seq)))
        return new

    def end(self, event: OpenEvent, state: str, reason: str) -> Sequence[int]:
        if event.seq in self._running:
            self._order.apply_marks(event.seq, self._now)
        unblocked = self._order.end_one(event.seq)
        attempts = max(event.attempt - 1, 0)
        self._db.execute(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, 0, ?)", (event.seq, state, self._now, attempts, reason)
        )
        return unblocked

    def give_up_dead(self, seq: int, note: str) -> bool:
        changed = self._db.execute(
            "UPDATE outcomes SET state = 'ignored', reason = ? || ': ' || reason WHERE seq = ? AND state = 'dead'",
            (note, seq),
        ).rowcount
        return bool(changed)

    def try_now(self, seq: int) -> None:
        self._order.try_now(seq)

    def clear_newest(self, resource: str) -> int:
        return self._order.clear_newest(resource)

    def pause(self, paused: bool) -> None:
        self._db.execute("UPDATE meta SET paused = ?", (paused,))


def unanswered(db: sqlite3.Connection) -> Sequence[tuple[int, str]]:
    """Commands that wait in the table, as (number, JSON)."""
    return db.execute("SELECT number, command FROM commands WHERE answer IS NULL ORDER BY number").fetchall()


def answer(db: sqlite3.Connection, operator: Operator, commands: Sequence[tuple[int, str]]) -> None:
    """Carry out commands from the table and write their answers there."""
    for number, text in commands:
        try:
            result: Any = operator.run(msgspec.json.decode(text, type=Command))
        except (msgspec.DecodeError, TypeError, ValueError) as error:  # also a text that is none, or no UTF-8
            result = CommandResult({"command": f"not understood: {error}"})
        db.execute("UPDATE commands SET answer = ? WHERE number = ?", (msgspec.json.encode(result).decode(), number))
