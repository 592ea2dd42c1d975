"""The order of open events in the file: who may run, and who waits behind whom.

Tables::

    open     an open event: its state, the attempt that is next, when it is due, the bytes of its body, and
             ``blockers``: in so many of its resources an earlier event is open
    touches  (resource, seq) of every open event
    marks    (resource, name, seq) and the times of every open event that a ``latest_only`` handler would write
    newest   (resource, name) and the times of what was applied last

Rules:

1. A row of ``open`` exists exactly as long as its event is open, and so do its rows in ``touches`` and ``marks``:
   whatever it waits for, it holds its place.
2. ``blockers`` of an event is the number of its resources in which it is not the first one. It is set when the event
   is added; when the first one of a resource ends, the next one there has one blocker less. Nothing else changes it.
   Where a damaged row does not fit to the others, they are counted anew.
3. An event may run when it is pending and has no blockers. Only such an event is ever handed out, so only the first
   one of all its resources can be waiting or held.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from connector.errors import ConnectorError
from connector.events.event import Event
from connector.events.resources import before_environments
from connector.events.snapshot import Snapshot, after, is_older
from connector.journal import Newest
from connector.journal.commands import PENDING, WAITING
from connector.journal.sqlite.rows import execute_any, execute_in, insert_many, select_in, select_values, touches
from connector.journal.sqlite.stored import Unreadable, event_of, is_text
from connector.journal.store import Marks
from connector.outcome import LONGEST_LATER, Mark, Step

_NEWER: Final = (
    "CASE WHEN updated <> :updated THEN updated > :updated WHEN created <> :created THEN created > :created"
    " WHEN happened <> :happened THEN happened > :happened ELSE coalesce(origin, seq) > :tie END"
)
"""Whether the snapshot of a later row is newer; as ``snapshot.is_older``: a time that is missing decides nothing."""


ARRANGED: Final = 1000
"""Events read at a time when resources are made anew."""


class Order:
    """Works on the tables above, within the caller's transactions."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        (self._steps,) = db.execute("SELECT EXISTS (SELECT 1 FROM progress)").fetchone()
        (self._marks,) = db.execute("SELECT EXISTS (SELECT 1 FROM marks)").fetchone()

    def arrange(self, ordering: str, resources: Callable[[Event], Sequence[str]]) -> None:
        """Make the resources of the open events anew, where they were made under another rule than ``ordering``."""
        (before,) = self._db.execute("SELECT ordering FROM meta").fetchone()
        if before == ordering:
            return
        self._db.execute("UPDATE meta SET ordering = ?", (ordering,))
        self._db.execute("DELETE FROM touches")
        after = 0
        while rows := self._db.execute(
            "SELECT o.seq, e.event_id, e.event_type, e.lane, e.request_id, e.unique_id, e.accepted_at, e.body"
            " FROM open o JOIN events e ON e.seq = o.seq WHERE o.seq > ? ORDER BY o.seq LIMIT ?",
            (after, ARRANGED),
        ).fetchall():
            after = rows[-1][0]
            events: list[tuple[int, Sequence[str]]] = []
            moved: list[tuple[str, int]] = []
            for seq, *row in rows:
                try:
                    event = event_of(row)
                except Unreadable:
                    events.append((seq, ()))
                    continue
                keys = _readable(event, resources)
                events.append((seq, keys))
                if tuple(keys) != event.resources:  # its row has the body in it: it is not written for nothing
                    moved.append(("\n".join(keys), seq))
            blockers = [(count, seq) for (seq, _), count in zip(events, self._touch(events), strict=True)]
            self._db.executemany("UPDATE open SET blockers = ? WHERE seq = ?", blockers)
            self._db.executemany("UPDATE events SET lane = ? WHERE seq = ?", moved)
        # Only an event that nothing blocks may wait or be held: what is blocked now runs when its turn comes.
        self._db.execute("UPDATE open SET state = ?, due = NULL WHERE state > 0 AND blockers > 0", (PENDING,))

    def add(self, events: Sequence[tuple[int, Sequence[str], int]]) -> list[int]:
        """Open these new events, each with its resources and the bytes of its body; the number of blockers of each."""
        blockers = self._touch([(seq, resources) for seq, resources, _ in events])
        insert_many(
            self._db,
            "INSERT INTO open (seq, state, attempt, blockers, bytes) VALUES",
            5,
            [(seq, PENDING, 1, count, size) for (seq, _, size), count in zip(events, blockers, strict=True)],
        )
        return blockers

    def _touch(self, events: Sequence[tuple[int, Sequence[str]]]) -> list[int]:
        """Let these events, the last ones of all, touch their resources; the number of blockers of each."""
        taken = self._taken(list({resource for _, resources in events for resource in resources}))
        blockers: list[int] = []
        for _, resources in events:
            blockers.append(sum([resource in taken for resource in resources]))
            taken.update(resources)
        touches = [(resource, seq) for seq, resources in events for resource in resources]
        insert_many(self._db, "INSERT INTO touches VALUES", 2, touches)
        return blockers

    def mark(self, seq: int, marks: Marks, origin: int | None = None) -> list[int]:
        """Note what a new event would write; waiting events that it makes pointless become pending: those.

        ``origin``  the first series of a replayed event
        """
        ties = [origin if mine.is_timed else None for _, mine in marks]
        rows = [
            (mark.resource, mark.name, seq, *mine.times, mine.event_id, tie)
            for (mark, mine), tie in zip(marks, ties, strict=True)
        ]
        insert_many(self._db, "INSERT OR REPLACE INTO marks VALUES", 8, rows)
        self._marks = True
        woken: list[int] = []
        for (mark, mine), tie in zip(marks, ties, strict=True):
            woken += self._wake(mark, mine, seq if tie is None else tie)
        return woken

    def root(self, seq: int) -> int:
        """The first series of the event of which this is one, as far as they are kept."""
        row = self._db.execute(
            "WITH RECURSIVE series (seq) AS (SELECT ? UNION SELECT e.earlier FROM series JOIN events e"
            " ON e.seq = series.seq WHERE typeof(e.earlier) = 'integer' AND e.earlier < e.seq)"
            " SELECT min(seq) FROM series",
            (seq,),
        ).fetchone()
        return int(row[0])

    def end(self, events: Sequence[tuple[int, Sequence[str]]]) -> list[int]:
        """End these events, each the first one of all its resources; those that may run now."""
        execute_in(self._db, "DELETE FROM open WHERE seq IN", [seq for seq, _ in events])
        resources = [resource for _, resources in events for resource in resources]
        damaged = self._leave(events)
        return self._unblock(resources) if damaged is None else self._recount({*resources, *damaged})

    def end_one(self, seq: int) -> list[int]:
        """End any open event; those that may run now."""
        resources = self.resources(seq)
        first = [resource for resource in resources if self.first(resource) == seq]
        self._db.execute("DELETE FROM open WHERE seq = ?", (seq,))
        damaged = self._leave([(seq, resources)])
        return self._unblock(first) if damaged is None else self._recount({*resources, *damaged})

    def resources(self, seq: int) -> tuple[str, ...]:
        """The resources of an event."""
        row = self._db.execute("SELECT lane FROM events WHERE seq = ?", (seq,)).fetchone()
        if row is None or not is_text(row[0]):
            return self.places(seq)
        return tuple(row[0].split("\n")) if row[0] else ()

    def places(self, seq: int) -> tuple[str, ...]:
        """The resources in which an open event stands, found the slow way: for one whose row is damaged."""
        found = self._db.execute("SELECT resource FROM touches WHERE seq = ?", (seq,)).fetchall()
        return tuple(resource for (resource,) in found if is_text(resource))

    def mend(self, seq: int) -> None:
        """Make an open event whose row is damaged one that can be handed out, as attempt 0, and ended."""
        blockers = self._count_blockers(seq)
        self._db.execute(
            "UPDATE open SET state = ?, attempt = 0, due = NULL, blockers = ? WHERE seq = ?", (PENDING, blockers, seq)
        )

    def mend_all(self, now: float) -> None:
        """Do so with all whose rows are damaged; where the numbers of blockers cannot be right, count them anew.

        One that is due later than any retry may be is tried now.
        """
        damaged = self._db.execute(
            "SELECT seq, due FROM open WHERE NOT (state IN (0, 1, 2)"
            " AND attempt BETWEEN 0 AND 1e9 AND blockers BETWEEN 0 AND 1e9"
            f" AND ((due IS NULL AND state <> {WAITING}) OR due <= ?))",  # any text is greater than any number
            (now + LONGEST_LATER,),
        ).fetchall()
        for seq, due in damaged:
            if isinstance(due, float) and due > now + LONGEST_LATER:
                self._db.execute("UPDATE open SET due = ? WHERE seq = ?", (now, seq))
            else:
                self.mend(seq)
        (blockers,) = self._db.execute("SELECT coalesce(sum(blockers), 0) FROM open").fetchone()
        (places,) = self._db.execute("SELECT count(*) FROM touches").fetchone()
        (lines,) = self._db.execute("SELECT count(*) FROM (SELECT DISTINCT resource FROM touches)").fetchone()
        if blockers != places - lines:  # rule 2: each place but the first one of its line counts once
            self._db.execute(
                "CREATE TEMP TABLE counted AS SELECT t.seq AS seq, count(*) AS blockers FROM touches t WHERE EXISTS"
                " (SELECT 1 FROM touches u WHERE u.resource = t.resource AND u.seq < t.seq) GROUP BY t.seq"
            )
            self._db.execute("CREATE INDEX temp.counted_seq ON counted (seq)")
            self._db.execute(
                "UPDATE open SET blockers = coalesce((SELECT c.blockers FROM counted c WHERE c.seq = open.seq), 0)"
            )
            self._db.execute("DROP TABLE temp.counted")

    def unmark(self, seq: int) -> None:
        """Forget what an event would write."""
        self._db.execute("DELETE FROM marks WHERE seq = ?", (seq,))

    def first(self, resource: str) -> int | None:
        """The first open event of a resource."""
        (seq,) = self._db.execute("SELECT min(seq) FROM touches WHERE resource = ?", (resource,)).fetchone()
        return None if seq is None else int(seq)

    def try_now(self, seq: int) -> None:
        """Make an event that waits or is held pending."""
        self._db.execute("UPDATE open SET state = ?, due = NULL WHERE seq = ?", (PENDING, seq))

    def claim_due(self, now: float, limit: int) -> tuple[list[int], float | None]:
        """Make at most ``limit`` waiting events that are due pending: those, and when the next one is due."""
        # ``state > 0`` stands there word for word, since only then SQLite takes the partial index.
        due = self._db.execute(
            "SELECT seq FROM open WHERE state > 0 AND state = ? AND due <= ? ORDER BY due LIMIT ?",
            (WAITING, now, limit),
        ).fetchall()
        seqs = [seq for (seq,) in due]
        damaged = self._db.execute("SELECT seq FROM open WHERE state > 0 AND state = ? AND due >= ''", (WAITING,))
        for (seq,) in damaged.fetchall():  # a time that is none is greater than any number, and never due
            self.mend(seq)
            seqs.append(seq)
        execute_in(self._db, f"UPDATE open SET state = {PENDING}, due = NULL WHERE seq IN", seqs)
        (next_due,) = self._db.execute("SELECT min(due) FROM open WHERE state > 0 AND state = ?", (WAITING,)).fetchone()
        return seqs, next_due

    def rest(self, seqs: Sequence[int]) -> None:
        """Events that were woken before their time wait again."""
        execute_in(self._db, f"UPDATE open SET state = {WAITING} WHERE state = 0 AND due IS NOT NULL AND seq IN", seqs)

    def apply(self, applied: Sequence[tuple[Mark, Snapshot]], now: float) -> None:
        """Note what was applied last."""
        rows = [(mark.resource, mark.name, *each.times, each.seq, each.event_id, now) for mark, each in applied]
        insert_many(self._db, "INSERT OR REPLACE INTO newest VALUES", 8, rows)

    def apply_marks(self, seq: int, now: float) -> None:
        """Note what this event would write as applied: it is ended while it runs, and may have written it."""
        rows = self._db.execute(
            "SELECT resource, name, updated, created, happened, coalesce(origin, seq), event_id FROM marks"
            " WHERE seq = ?",
            (seq,),
        ).fetchall()
        for resource, name, *of_snapshot in rows:
            if _is_sound(of_snapshot):
                mine, before = Snapshot(*of_snapshot), self._applied(resource, name)
                if before is None or not is_older(mine, before):
                    self.apply([(Mark(name, resource), after(mine, before))], now)

    def clear_newest(self, resource: str) -> int:
        """Forget what was applied last to a resource, named whole or in part; of how many handlers."""
        where = touches("resource")
        return self._db.execute(f"DELETE FROM newest WHERE {where}", (resource,) * 4).rowcount

    def prune_newest(
        self, after_mark: tuple[str, str], before: float, now: float, limit: int
    ) -> tuple[str, str] | None:
        """Forget what was applied ``before`` a time, of ``limit`` marks; the mark to go on after, if there are more."""
        rows = self._db.execute(
            "SELECT resource, name, applied_at FROM newest WHERE (resource, name) > (?, ?)"
            " ORDER BY resource, name LIMIT ?",
            (*after_mark, limit),
        ).fetchall()
        for resource, name, applied_at in rows:
            if not isinstance(applied_at, float) or applied_at > now:  # of a journal of before, or from the future
                self._db.execute(
                    "UPDATE newest SET applied_at = ? WHERE resource = ? AND name = ?", (now, resource, name)
                )
            elif applied_at < before:
                self._db.execute("DELETE FROM newest WHERE resource = ? AND name = ?", (resource, name))
        return (rows[-1][0], rows[-1][1]) if len(rows) == limit else None

    def newest(self, seq: int, mark: Mark, mine: Snapshot) -> Newest:
        """As ``Store.newest``."""
        applied = self._applied(mark.resource, mark.name)
        if applied is None and (before := before_environments(mark.resource)) != mark.resource:
            applied = self._applied(before, mark.name)
        while True:
            behind = self._behind(seq, mark, mine)
            if behind is None or _is_sound(behind):
                return Newest(applied, None if behind is None else Snapshot(*behind))
            self.unmark(behind[3])

    def _behind(self, seq: int, mark: Mark, mine: Snapshot) -> Sequence[Any] | None:
        row: Sequence[Any] | None = self._db.execute(
            "SELECT updated, created, happened, seq, event_id FROM marks"
            f" WHERE resource = :resource AND name = :name AND seq > :seq AND {_NEWER} ORDER BY seq DESC LIMIT 1",
            {**_times(mine), "resource": mark.resource, "name": mark.name, "seq": seq, "tie": mine.seq},
        ).fetchone()
        return row

    def _applied(self, resource: str, name: str) -> Snapshot | None:
        row: Sequence[Any] | None = self._db.execute(
            "SELECT updated, created, happened, seq, event_id FROM newest WHERE resource = ? AND name = ?",
            (resource, name),
        ).fetchone()
        return Snapshot(*row) if row is not None and _is_sound(row) else None

    def step(self, steps: Sequence[tuple[int, Step]]) -> None:
        """Note what handlers have done."""
        rows = [(seq, each.handler, each.state, each.attempts, each.ms, each.reason) for seq, each in steps]
        insert_many(self._db, "INSERT OR REPLACE INTO progress VALUES", 6, rows)
        self._steps = self._steps or bool(rows)

    def copy_steps(self, earlier: Mapping[int, int]) -> None:
        """Let new series begin with the steps that ended well in the earlier ones, as far as those ended dead."""
        if not self._steps:
            return
        for seq, before in earlier.items():
            self._db.execute(
                "INSERT INTO progress SELECT ?, handler, state, attempts, ms, reason FROM progress"
                " WHERE seq = ? AND state IN ('done', 'ignored', 'superseded')"
                " AND EXISTS (SELECT 1 FROM outcomes x WHERE x.seq = ? AND x.state = 'dead')",
                (seq, before, before),
            )

    def steps(self, seqs: Sequence[int]) -> dict[int, dict[str, Step]]:
        """What handlers have done for these events."""
        found: dict[int, dict[str, Step]] = {}
        if self._steps:
            query = "SELECT seq, handler, state, attempts, reason, ms FROM progress WHERE seq IN"
            for seq, handler, *rest in select_in(self._db, query, seqs):
                found.setdefault(seq, {})[handler] = Step(handler, *rest)
        return found

    def _taken(self, resources: Sequence[str]) -> set[str]:
        """Those of these resources that an open event has."""
        found = select_values(
            self._db,
            "SELECT group_concat(column1, char(10)) FROM (VALUES",
            1,
            [(resource,) for resource in resources],
            ") WHERE EXISTS (SELECT 1 FROM touches WHERE resource = column1)",
        )
        return {resource for (text,) in found if text for resource in text.split("\n")}

    def _leave(self, events: Sequence[tuple[int, Sequence[str]]]) -> set[str] | None:
        """Leave the lines; where these are not those in which the events stood, the ones that they were."""
        pairs = [(resource, seq) for seq, resources in events for resource in resources]
        left = execute_any(self._db, "DELETE FROM touches WHERE", "resource = ? AND seq = ?", pairs)
        if self._marks:
            execute_in(self._db, "DELETE FROM marks WHERE seq IN", [seq for seq, _ in events])
        if left == len(pairs):
            return None
        places = {resource for seq, _ in events for resource in self.places(seq)}
        execute_in(self._db, "DELETE FROM touches WHERE seq IN", [seq for seq, _ in events])
        return places

    def _recount(self, resources: Iterable[str]) -> list[int]:
        """As ``_unblock``, where it is not known what was counted before."""
        free: list[int] = []
        for seq in {self.first(resource) for resource in resources} - {None}:
            assert seq is not None  # noqa: S101 - for the type checker
            blockers = self._count_blockers(seq)
            self._db.execute("UPDATE open SET blockers = ? WHERE seq = ?", (blockers, seq))
            free += [seq] if not blockers else []
        return sorted(free)

    def _count_blockers(self, seq: int) -> int:
        (count,) = self._db.execute(
            "SELECT count(*) FROM touches t WHERE t.seq = ?"
            " AND EXISTS (SELECT 1 FROM touches u WHERE u.resource = t.resource AND u.seq < t.seq)",
            (seq,),
        ).fetchone()
        return int(count)

    def _unblock(self, resources: Sequence[str]) -> list[int]:
        """The first ones of these resources have ended: the next ones have a blocker less; those that may run now."""
        found = select_values(
            self._db,
            "SELECT group_concat((SELECT min(seq) FROM touches WHERE resource = column1)) FROM (VALUES",
            1,
            [(resource,) for resource in resources],
            ")",
        )
        heads = Counter(int(seq) for (text,) in found if text for seq in text.split(","))
        for count in set(heads.values()):
            seqs = [seq for seq, less in heads.items() if less == count]
            execute_in(self._db, f"UPDATE open SET blockers = blockers - {count} WHERE seq IN", seqs)
        free = select_in(self._db, "SELECT group_concat(seq) FROM open WHERE blockers = 0 AND seq IN", list(heads))
        return sorted(int(seq) for (text,) in free if text for seq in text.split(","))

    def _wake(self, mark: Mark, mine: Snapshot, tie: int) -> list[int]:
        head = self.first(mark.resource)
        if head is None:
            return []
        row = self._db.execute(
            "SELECT 1 FROM open o JOIN marks m ON m.resource = :resource AND m.name = :name AND m.seq = o.seq"
            f" WHERE o.seq = :seq AND o.state = {WAITING}"
            " AND CASE WHEN updated <> :updated THEN updated < :updated WHEN created <> :created"
            " THEN created < :created WHEN happened <> :happened THEN happened < :happened"
            " ELSE coalesce(m.origin, m.seq) < :tie END",
            {**_times(mine), "resource": mark.resource, "name": mark.name, "seq": head, "tie": tie},
        ).fetchone()
        if row is None:
            return []
        self._db.execute("UPDATE open SET state = ? WHERE seq = ?", (PENDING, head))
        return [head]


def _readable(event: Event, resources: Callable[[Event], Sequence[str]]) -> Sequence[str]:
    try:
        return resources(event)
    except ConnectorError:  # a body that cannot be read any more keeps what it touched
        return event.resources


def _is_sound(row: Sequence[Any]) -> bool:
    """Whether the row of a snapshot (its three times, seq, event id) has what was written into it."""
    *times, seq, event_id = row
    return all(isinstance(time, float | None) for time in times) and isinstance(seq, int) and is_text(event_id)


def _times(mine: Snapshot) -> dict[str, Any]:
    return dict(zip(("updated", "created", "happened"), mine.times, strict=True))
