"""What an operator changes in an SQLite journal: replay, discard, release, skip, pause, resume.

Every change runs within a transaction of the journal's owner. A command from another process is put into the table
``commands`` and answered there. Nothing is overwritten by a replay: it is a new series of attempts with a place of
its own in the order, and ``events.earlier`` points to the one before.
"""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from connector.journal.sqlite.remembered import RememberedIds, key_of

Verb = Literal["replay", "discard", "release", "skip", "pause", "resume"]

PENDING, WAITING, HELD = 0, 1, 2

PAUSED: Final = "paused by an operator"
"""The reason under which delivery is held while it is paused."""


class Command(msgspec.Struct, frozen=True):
    """``names`` are event ids (replay, discard) or lanes (release, skip)."""

    verb: Verb
    names: list[str] = []


class Answer(msgspec.Struct, frozen=True):
    """What became of each name, as a sentence."""

    results: dict[str, str] = {}


class Change(msgspec.Struct):
    """What the lanes have to know of, and what is to be counted."""

    last_seq: int
    lanes: set[str] = msgspec.field(default_factory=set)
    holds: dict[str, bool] = msgspec.field(default_factory=dict)
    open_events: int = 0
    counts: Counter[str] = msgspec.field(default_factory=Counter)


class Operator:
    """Carries out commands within one transaction; ``change`` says what they have changed."""

    def __init__(self, db: sqlite3.Connection, ids: RememberedIds, last_seq: int, now: float) -> None:
        self._db = db
        self._ids = ids
        self._now = now
        self.change = Change(last_seq)

    def run(self, command: Command) -> Answer:
        """Carry out one command."""
        match command.verb:
            case "replay":
                return Answer({name: self._replay(name) for name in command.names})
            case "discard":
                return Answer({name: self._discard(name) for name in command.names})
            case "release":
                return Answer({lane: self._release(lane) for lane in command.names})
            case "skip":
                return Answer({lane: self._skip(lane) for lane in command.names})
            case "pause" | "resume":
                return Answer({"delivery": self._pause(command.verb == "pause")})

    def _replay(self, event_id: str) -> str:
        seq = self._seq(event_id)
        if seq is None:
            return "not known"
        opened = self._db.execute("SELECT lane, state FROM open WHERE seq = ?", (seq,)).fetchone()
        if opened is not None:
            return "open already: it is going to be tried" if opened[1] == PENDING else self._release(opened[0])
        self.change.last_seq += 1
        copied = self._db.execute(
            "INSERT INTO events SELECT ?, event_id, event_type, lane, request_id, unique_id, ?, seq, body"
            " FROM events WHERE seq = ? RETURNING lane",
            (self.change.last_seq, self._now, seq),
        ).fetchall()
        if not copied:
            self.change.last_seq -= 1
            return "its payload is no longer kept"
        self._db.execute(
            "INSERT INTO open (seq, lane, state, attempt) VALUES (?, ?, ?, 1)",
            (self.change.last_seq, copied[0][0], PENDING),
        )
        self._ids.note({key_of(event_id): self.change.last_seq}, self._now)
        self.change.open_events += 1
        self.change.counts["replayed"] += 1
        return "replayed"

    def _discard(self, event_id: str) -> str:
        seq = self._seq(event_id)
        if seq is None:
            return "not known"
        opened = self._db.execute("DELETE FROM open WHERE seq = ? RETURNING lane, attempt", (seq,)).fetchone()
        if opened is not None:
            self._end(seq, "ignored", opened[1] - 1, "discarded by an operator")
            self.change.lanes.add(opened[0])
            self.change.open_events -= 1
            return "discarded"
        dead = self._db.execute(
            "UPDATE outcomes SET state = 'ignored', reason = 'discarded by an operator; was dead: ' || reason"
            " WHERE seq = ? AND state = 'dead'",
            (seq,),
        ).rowcount
        return "discarded" if dead else "ended well already"

    def _release(self, lane: str) -> str:
        head = self._head(lane)
        if head is None:
            return "nothing is open for this subscriber"
        if head[1] == PENDING:
            return "not blocked: its next event is going to be tried"
        self._db.execute("UPDATE open SET state = ?, due = NULL WHERE seq = ?", (PENDING, head[0]))
        self.change.lanes.add(lane)
        return "released"

    def _skip(self, lane: str) -> str:
        head = self._head(lane)
        if head is None or head[1] == PENDING:
            return "not blocked: there is nothing to skip"
        seq, _, attempt = head
        self._db.execute("DELETE FROM open WHERE seq = ?", (seq,))
        (reason,) = self._db.execute(
            "SELECT coalesce((SELECT reason FROM attempts WHERE seq = ? ORDER BY attempt DESC LIMIT 1), '')", (seq,)
        ).fetchone()
        self._end(seq, "dead", attempt - 1, f"skipped by an operator: {reason}")
        self.change.lanes.add(lane)
        self.change.open_events -= 1
        return "skipped"

    def _pause(self, paused: bool) -> str:
        self._db.execute("UPDATE meta SET paused = ?", (paused,))
        self.change.holds[PAUSED] = paused
        return "paused" if paused else "resumed"

    def _end(self, seq: int, state: str, attempt: int, reason: str) -> None:
        self.change.counts[state] += 1
        self._db.execute(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, 0, ?)", (seq, state, self._now, max(attempt, 0), reason)
        )

    def _head(self, lane: str) -> tuple[int, int, int] | None:
        row: tuple[int, int, int] | None = self._db.execute(
            "SELECT seq, state, attempt FROM open WHERE lane = ? ORDER BY seq LIMIT 1", (lane,)
        ).fetchone()
        return row

    def _seq(self, event_id: str) -> int | None:
        key = key_of(event_id)
        return self._ids.find([key]).get(key)


def unanswered(db: sqlite3.Connection) -> Sequence[tuple[int, str]]:
    """Commands that wait in the table, as (number, JSON)."""
    return db.execute("SELECT number, command FROM commands WHERE answer IS NULL ORDER BY number").fetchall()


def answer(db: sqlite3.Connection, operator: Operator, commands: Sequence[tuple[int, str]]) -> None:
    """Carry out commands from the table and write their answers there."""
    for number, text in commands:
        try:
            result: Any = operator.run(msgspec.json.decode(text, type=Command))
        except msgspec.DecodeError as fault:
            result = Answer({"command": f"not understood: {fault}"})
        db.execute("UPDATE commands SET answer = ? WHERE number = ?", (msgspec.json.encode(result).decode(), number))
