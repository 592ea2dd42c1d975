"""What became of every event: questions to an SQLite journal, asked on a read-only connection of one's own.

Reading goes on beside the owner's writing (write-ahead log) and holds up neither.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from connector.journal.sqlite.remembered import key_of

STATES: Final = ("pending", "waiting", "held", "done", "ignored", "superseded", "dead")

_STATE: Final = "coalesce(x.state, CASE o.state WHEN 0 THEN 'pending' WHEN 1 THEN 'waiting' WHEN 2 THEN 'held' END)"
_REASON: Final = (
    "coalesce(x.reason, (SELECT a.reason FROM attempts a WHERE a.seq = e.seq ORDER BY a.attempt DESC LIMIT 1), '')"
)
_SELECT: Final = (
    f"SELECT e.seq, e.event_id, e.event_type, e.lane, {_STATE}, e.accepted_at, x.ended_at,"
    f" coalesce(x.attempt, o.attempt - 1, 0), {_REASON}, o.due, coalesce(x.ms, 0), e.request_id, e.unique_id, e.earlier"
    " FROM events e LEFT JOIN open o ON o.seq = e.seq LEFT JOIN outcomes x ON x.seq = e.seq"
)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: all given conditions hold. Times are seconds since the epoch, of acceptance.

    ``lane`` may leave out what kind of id it is: ``1001`` for ``i_account:1001``. ``latest``: only the latest series of
    attempts at each event.
    """

    state: str | None = None
    event_type: str | None = None
    lane: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None
    latest: bool = False


class Series(msgspec.Struct, frozen=True):
    """One series of attempts at an event, the newest attempt's reason included."""

    seq: int
    event_id: str
    event_type: str
    lane: str
    state: str
    accepted_at: float
    ended_at: float | None
    attempts: int
    reason: str
    due: float | None
    ms: int
    request_id: str
    unique_id: str
    earlier: int | None


class Attempt(msgspec.Struct, frozen=True):
    """An attempt that was not the last."""

    attempt: int
    ended_at: float
    ms: int
    reason: str


class Blocked(msgspec.Struct, frozen=True):
    """A subscriber whose events wait behind a head that is tried again later or held."""

    lane: str
    event_id: str
    event_type: str
    state: str
    since: float
    due: float | None
    attempts: int
    reason: str
    behind: int


@contextmanager
def connect(path: Path) -> Iterator["History"]:
    """A journal's history. Raises sqlite3.Error where the file cannot be read."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
        yield History(db)


class History:
    """Questions to one journal file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def find(self, wanted: Filter, limit: int) -> list[Series]:
        """At most ``limit`` series, the newest first."""
        conditions: dict[str, Any] = {
            f"{_STATE} = ?": wanted.state,
            "e.event_type = ?": wanted.event_type,
            "? IN (e.lane, substr(e.lane, instr(e.lane, ':') + 1))": wanted.lane,
            "e.accepted_at >= ?": wanted.since,
            "e.accepted_at < ?": wanted.until,
            f"instr(lower({_REASON}), lower(?)) > 0": wanted.text,
        }
        given = {condition: value for condition, value in conditions.items() if value is not None}
        clauses = [*given, *(["e.seq NOT IN (SELECT earlier FROM events WHERE earlier > 0)"] if wanted.latest else [])]
        where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
        rows = self._db.execute(f"{_SELECT}{where} ORDER BY e.seq DESC LIMIT ?", [*given.values(), limit])
        return [Series(*row) for row in rows.fetchall()]

    def series(self, event_id: str) -> list[Series]:
        """All series of attempts at an event, the newest first; empty where the id is not known."""
        found: list[Series] = []
        seq = self._seq(event_id)
        while seq is not None:
            row = self._db.execute(f"{_SELECT} WHERE e.seq = ?", (seq,)).fetchone()
            if row is None:
                break
            found.append(Series(*row))
            seq = found[-1].earlier
        return found

    def attempts(self, seq: int) -> list[Attempt]:
        """The failed attempts of a series."""
        rows = self._db.execute(
            "SELECT attempt, ended_at, ms, reason FROM attempts WHERE seq = ? ORDER BY attempt", (seq,)
        )
        return [Attempt(*row) for row in rows.fetchall()]

    def body(self, seq: int) -> bytes:
        """The body as it came."""
        (body,) = self._db.execute("SELECT body FROM events WHERE seq = ?", (seq,)).fetchone()
        return bytes(body)

    def blocked(self, limit: int) -> list[Blocked]:
        """Subscribers whose head waits or is held, the longest blocked first."""
        rows = self._db.execute(
            f"SELECT o.lane, e.event_id, e.event_type, {_STATE}, coalesce((SELECT min(a.ended_at) FROM attempts a"
            f" WHERE a.seq = o.seq), e.accepted_at) AS since, o.due, o.attempt - 1, {_REASON},"
            " (SELECT count(*) - 1 FROM open b WHERE b.lane = o.lane)"
            " FROM open o JOIN events e ON e.seq = o.seq LEFT JOIN outcomes x ON x.seq = o.seq"
            " WHERE o.state > 0 ORDER BY since LIMIT ?",
            (limit,),
        )
        return [Blocked(*row) for row in rows.fetchall()]

    def stats(self) -> dict[str, Any]:
        """What is open now by state, when the oldest of it came, and counters over the journal's life."""
        (total,) = self._db.execute("SELECT count(*) FROM open").fetchone()
        by_state = dict(self._db.execute("SELECT state, count(*) FROM open WHERE state > 0 GROUP BY state").fetchall())
        waiting, held = by_state.get(1, 0), by_state.get(2, 0)
        oldest = self._db.execute(
            "SELECT e.accepted_at FROM open o JOIN events e ON e.seq = o.seq ORDER BY o.seq LIMIT 1"
        ).fetchone()
        paused, away, away_since = self._db.execute("SELECT paused, away, away_since FROM meta").fetchone()
        counters = dict(self._db.execute("SELECT name, count FROM counters").fetchall())
        return {
            "paused": bool(paused),
            "target_away": {"reason": away, "since": away_since} if away else None,
            "open": {"pending": total - waiting - held, "waiting": waiting, "held": held},
            "oldest_open_at": oldest[0] if oldest else None,
            "total": counters,
        }

    def _seq(self, event_id: str) -> int | None:
        for (number,) in self._db.execute("SELECT number FROM generations ORDER BY number DESC").fetchall():
            row = self._db.execute(f"SELECT seq FROM ids_{number} WHERE id = ?", (key_of(event_id),)).fetchone()
            if row is not None:
                return int(row[0])
        return None
