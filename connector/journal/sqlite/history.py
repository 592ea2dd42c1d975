"""What became of every event: questions to an SQLite journal.

They are asked on a read-only connection of one's own (``connect``), or on that of the owner. Reading goes on beside the
owner's writing (write-ahead log) and holds up neither.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from connector.errors import Unavailable
from connector.journal.queries import (
    Attempt,
    AttemptsOf,
    Blocked,
    BodyOf,
    CountFound,
    Filter,
    Find,
    FindBlocked,
    IdsThatBegin,
    Query,
    ReadStats,
    Series,
    SeriesOf,
    Stats,
    StepsOf,
    StepTaken,
    TargetAway,
    totals,
)
from connector.journal.sqlite.file import MIGRATIONS
from connector.journal.sqlite.remembered import bearing
from connector.journal.sqlite.rows import touches
from connector.journal.sqlite.stored import is_text, number, read_text, shown, whole

MOST_BEHIND: Final = 10_000
"""So many events behind a blocked one are counted."""

Result = TypeVar("Result")

_STATE: Final = "coalesce(x.state, CASE o.state WHEN 0 THEN 'pending' WHEN 1 THEN 'waiting' WHEN 2 THEN 'held' END)"
_REASON: Final = (
    "coalesce(x.reason, (SELECT a.reason FROM attempts a WHERE a.seq = e.seq ORDER BY a.attempt DESC LIMIT 1), '')"
)
_SELECT: Final = (
    f"SELECT e.seq, e.event_id, e.event_type, e.lane, {_STATE}, e.accepted_at, x.ended_at,"
    f" coalesce(x.attempt, o.attempt - 1, 0), {_REASON}, o.due, coalesce(x.ms, 0), e.request_id, e.unique_id, e.earlier"
    " FROM events e LEFT JOIN open o ON o.seq = e.seq LEFT JOIN outcomes x ON x.seq = e.seq"
)


_AS_NOW: Final = (
    (
        2,
        """
        CREATE TEMP TABLE counters (name, count);
        CREATE TEMP VIEW meta AS SELECT 0 AS paused, '' AS away, NULL AS away_since;
        """,
    ),
    (
        3,
        """
        CREATE TEMP VIEW IF NOT EXISTS meta AS SELECT paused, '' AS away, NULL AS away_since FROM main.meta;
        """,
    ),
    (
        4,
        """
        CREATE TEMP VIEW touches AS SELECT lane AS resource, seq FROM main.open;
        CREATE TEMP VIEW generations AS SELECT number, 1 AS by_event_id FROM main.generations;
        CREATE TEMP TABLE progress (seq, handler, state, attempts, ms, reason);
        """,
    ),
)
"""Lets a file of a version below the number be read as one of today, and stay as it is: what stands in this
connection's own memory goes before the file's tables."""


@contextmanager
def connect(path: Path) -> Iterator["History"]:
    """A journal's history, of this version or an older one. Raises sqlite3.Error, or Unavailable for a newer one."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
        db.text_factory = read_text
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise Unavailable(
                f"{path} was written by a newer connector (version {version} of the journal, this one knows"
                f" {len(MIGRATIONS)}): use that one's commands"
            )
        for below, script in _AS_NOW:
            if 0 < version < below:
                db.executescript(script)
        yield History(db)


class History:
    """Answers questions from one journal file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def ask(self, query: Query[Result]) -> Result:
        """The answer to a question."""
        answer: Result = self.answer(query)
        return answer

    def answer(self, query: Query[Any]) -> Any:
        """As ``ask``, for whoever does not know which question it is."""
        match query:
            case Find():
                return self._find(query)
            case CountFound(wanted=wanted):
                return self._count(wanted)
            case SeriesOf(event_id=event_id):
                return self._series(event_id)
            case IdsThatBegin(beginning=beginning, limit=limit):
                return self._ids_that_begin(beginning, limit)
            case AttemptsOf(seq=seq):
                return self._attempts(seq)
            case StepsOf(seq=seq):
                return self._steps(seq)
            case BodyOf(seq=seq):
                row = self._db.execute("SELECT body FROM events WHERE seq = ?", (seq,)).fetchone()
                return row[0] if row and isinstance(row[0], bytes) else b""
            case FindBlocked(limit=limit):
                return self._blocked(limit)
            case ReadStats():
                return self._stats()
            case _:
                raise TypeError(f"{type(query).__name__} is not a question that this journal knows")

    def _find(self, query: Find) -> list[Series]:
        where, values = self._where(query.wanted)
        order = "ASC" if query.oldest_first else "DESC"
        rows = self._db.execute(f"{_SELECT}{where} ORDER BY e.seq {order} LIMIT ?", [*values, query.limit])
        return [_series(row) for row in rows.fetchall()]

    def _count(self, wanted: Filter) -> dict[str, int]:
        where, values = self._where(wanted)
        counted = f"SELECT e.event_type || ' ' || {_STATE} AS kind, count(*) FROM events e"
        joined = " LEFT JOIN open o ON o.seq = e.seq LEFT JOIN outcomes x ON x.seq = e.seq"
        rows = self._db.execute(f"{counted}{joined}{where} GROUP BY kind ORDER BY kind", values).fetchall()
        return {shown(kind): count for kind, count in rows}

    def _where(self, wanted: Filter) -> tuple[str, list[Any]]:
        conditions: dict[str, list[Any]] = {
            f"{_STATE} = ?": [wanted.state],
            "e.event_type = ?": [wanted.event_type],
            "e.event_id = ?": [wanted.event_id],
            "substr(e.event_id, 1, length(?)) = ?": [wanted.id_begins] * 2,
            touches("e.lane"): [wanted.resource] * 4,
            "e.accepted_at >= ?": [wanted.since],
            "e.accepted_at < ?": [wanted.until],
            f"instr(lower({_REASON}), lower(?)) > 0": [wanted.text],
        }
        given = {condition: values for condition, values in conditions.items() if values[0] is not None}
        clauses = [*given, *(["e.seq NOT IN (SELECT earlier FROM events WHERE earlier > 0)"] if wanted.latest else [])]
        where = f" WHERE {' AND '.join(clauses)}" if clauses else ""
        return where, [value for each in given.values() for value in each]

    def _series(self, event_id: str) -> list[Series]:
        found: dict[int, Series] = {}
        wanted: list[int | None] = list(bearing(self._db, event_id))
        while wanted:
            seq = wanted.pop()
            row = self._db.execute(f"{_SELECT} WHERE e.seq = ?", (seq,)).fetchone()
            if row is not None and row[0] not in found:
                found[row[0]] = _series(row)
                wanted.append(found[row[0]].earlier)
        return sorted(found.values(), key=lambda series: series.seq, reverse=True)

    def _ids_that_begin(self, beginning: str, limit: int) -> list[str]:
        rows = self._db.execute(
            "SELECT DISTINCT event_id FROM events WHERE substr(event_id, 1, length(?)) = ? ORDER BY event_id LIMIT ?",
            (beginning, beginning, limit),
        )
        return [event_id for (event_id,) in rows.fetchall()]

    def _attempts(self, seq: int) -> list[Attempt]:
        rows = self._db.execute(
            "SELECT attempt, ended_at, ms, reason FROM attempts WHERE seq = ? ORDER BY attempt", (seq,)
        )
        return [Attempt(whole(row[0]), number(row[1], 0.0), whole(row[2]), shown(row[3])) for row in rows.fetchall()]

    def _steps(self, seq: int) -> list[StepTaken]:
        rows = self._db.execute("SELECT handler, state, attempts, ms, reason FROM progress WHERE seq = ?", (seq,))
        return [
            StepTaken(shown(handler), shown(state), whole(attempts), whole(ms), shown(reason))
            for handler, state, attempts, ms, reason in rows.fetchall()
        ]

    def _blocked(self, limit: int) -> list[Blocked]:
        rows = self._db.execute(
            f"SELECT o.seq, e.lane, e.event_id, e.event_type, {_STATE}, coalesce((SELECT min(a.ended_at)"
            " FROM attempts a WHERE a.seq = o.seq), e.accepted_at) AS since, o.due, o.attempt - 1,"
            f" {_REASON} FROM open o JOIN events e ON e.seq = o.seq LEFT JOIN outcomes x ON x.seq = o.seq"
            " WHERE o.state > 0 ORDER BY since LIMIT ?",
            (limit,),
        ).fetchall()
        return [self._blocked_by(*row) for row in rows]

    def _blocked_by(self, seq: int, lane: Any, *rest: Any) -> Blocked:
        event_id, event_type, state, since, due, attempts, reason = rest
        return Blocked(
            _resources(lane),
            shown(event_id),
            shown(event_type),
            shown(state),
            number(since, 0.0),
            number(due, None),
            whole(attempts),
            shown(reason),
            self._behind(seq, lane),
        )

    def _behind(self, seq: int, lane: Any) -> int:
        """How many events wait behind this one, directly or in turn; counted up to ``MOST_BEHIND``."""
        found: set[int] = set()
        asked: dict[str, int] = {}
        wanted = dict.fromkeys(_resources(lane), seq)
        while wanted and len(found) < MOST_BEHIND:
            resource, after = wanted.popitem()
            if asked.get(resource, after + 1) <= after:
                continue
            asked[resource] = after
            rows = self._db.execute(
                "SELECT t.seq, e.lane FROM touches t JOIN events e ON e.seq = t.seq"
                " WHERE t.resource = ? AND t.seq > ? ORDER BY t.seq LIMIT ?",
                (resource, after, MOST_BEHIND),
            ).fetchall()
            for behind, its in rows:
                if behind not in found:
                    found.add(behind)
                    for each in _resources(its):
                        wanted[each] = min(behind, wanted.get(each, behind))
        return min(len(found), MOST_BEHIND)

    def _stats(self) -> Stats:
        (total,) = self._db.execute("SELECT count(*) FROM open").fetchone()
        by_state = dict(self._db.execute("SELECT state, count(*) FROM open WHERE state > 0 GROUP BY state").fetchall())
        waiting, held = by_state.get(1, 0), by_state.get(2, 0)
        oldest = self._db.execute(
            "SELECT e.accepted_at FROM open o JOIN events e ON e.seq = o.seq ORDER BY o.seq LIMIT 1"
        ).fetchone()
        paused, away, away_since = self._db.execute("SELECT paused, away, away_since FROM meta").fetchone()
        counters = self._db.execute("SELECT name, count FROM counters").fetchall()
        return Stats(
            paused=bool(paused),
            target_away=TargetAway(shown(away), number(away_since, None)) if away else None,
            open={"pending": total - waiting - held, "waiting": waiting, "held": held},
            oldest_open_at=number(oldest[0], None) if oldest else None,
            total=totals({shown(name): whole(count) for name, count in counters}),
        )


def _resources(lane: Any) -> list[str]:
    return lane.split("\n") if is_text(lane) and lane else []


def _series(row: tuple[Any, ...]) -> Series:
    seq, event_id, event_type, lane, state, accepted_at, ended_at, attempts, reason, due, ms, *ids, earlier = row
    request_id, unique_id = ids
    return Series(
        seq,
        shown(event_id),
        shown(event_type),
        _resources(lane),
        shown(state) or "unreadable",
        number(accepted_at, 0.0),
        number(ended_at, None),
        whole(attempts),
        shown(reason),
        number(due, None),
        whole(ms),
        shown(request_id),
        shown(unique_id),
        earlier if isinstance(earlier, int) else None,
    )
