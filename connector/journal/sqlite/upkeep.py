"""Keeping the journal's file tidy, a small step at a time: pruning, and giving pages back.

All steps run in the journal's thread between or within its transactions.
"""

import contextlib
import sqlite3
from collections.abc import Container, Sequence
from math import inf, isinf
from typing import Any, Final

from connector.journal.sqlite.ages import Ages
from connector.journal.sqlite.order import Order
from connector.journal.sqlite.remembered import RememberedIds
from connector.journal.sqlite.rows import execute_in, select_in
from connector.journal.sqlite.stored import Unreadable, event_of, key_of, number

PRUNE_ROWS: Final = 100
"""Ended events that are looked at in a step."""

PRUNE_REST_SECONDS: Final = 10.0
"""Rest between two rounds of pruning."""

NEWEST_REST_SECONDS: Final = 86400.0
"""Rest between two rounds over what was applied last."""

ALL_SECONDS: Final = 3600.0
ALL_PART: Final = 0.01
"""Between two rounds that look at everything: an hour, or a part of the longest time of keeping if that is less."""

VACUUM_PAGES: Final = 200
"""Pages that are given back in a step."""


class Pruning:
    """Takes events whose time is over out of the file.

    ``keep_done``, ``keep_dead``  seconds that an event is kept after its end

    A round goes through the ended events in order, up to those that cannot be over yet, and then rests. What is kept
    long (dead events, as a rule) gathers at the beginning: a round begins behind it, but for one an hour, and for all
    while room is ``short``. So what is over there is taken out within an hour of its time.
    """

    def __init__(self, *, keep_done: float, keep_dead: float) -> None:
        self._keep_done = keep_done
        self._keep_dead = keep_dead
        self._done_to: int | None = None
        self._kept_to = 0
        self._gathers = False
        self._all_at: float | None = None
        self._next_round: float | None = None
        self.short = False

    def step(
        self, db: sqlite3.Connection, ids: RememberedIds, last_seq: int, ages: Ages, now: float, limit: int
    ) -> bool:
        """Look at ``limit`` ended events, within the caller's transaction; whether there are more."""
        if self._next_round is None:  # the first transaction after a start may find the disk full: it adds nothing
            self._next_round = now
            return True
        if now < self._next_round:
            return False
        if self._done_to is None:
            self._done_to = self._begin_round(now)
        rows = db.execute(
            "SELECT o.seq, o.state, o.ended_at, e.accepted_at"
            " FROM outcomes o JOIN events e ON e.seq = o.seq WHERE o.seq > ? ORDER BY o.seq LIMIT ?",
            (self._done_to, limit),
        ).fetchall()
        done, dead_ones = ages.cutoff(self._keep_done, now), ages.cutoff(self._keep_dead, now)
        over = [row for row in rows if ages.of(number(row[2], now), now) < (dead_ones if row[1] == "dead" else done)]
        self._gather(rows, {row[0] for row in over}, max(done, dead_ones))
        if over:
            ids.record(last_seq)
            dead = select_in(
                db,
                "SELECT seq, event_id, event_type, lane, request_id, unique_id, accepted_at, body FROM events"
                " WHERE seq IN",
                [row[0] for row in over if row[1] == "dead"],
            )
            for table in ("events", "outcomes", "attempts", "progress"):
                execute_in(db, f"DELETE FROM {table} WHERE seq IN", [row[0] for row in over])
            # Nobody could tell any more that they ended dead, and would take the next attempt for a duplicate.
            ids.forget(_keys(dead))
        # One of the future is out of order: those behind it may be over.
        last = number(rows[-1][3], 0.0) if len(rows) == limit else None
        if last is not None and (last > now or last <= max(done, dead_ones)):
            self._done_to = rows[-1][0]
            return True
        self._done_to = None
        self._next_round = now + PRUNE_REST_SECONDS
        return False

    def _begin_round(self, now: float) -> int:
        """Behind which event this round begins."""
        rest = min(ALL_SECONDS, ALL_PART * max(self._keep_done, self._keep_dead))
        if self.short or self._all_at is None or not self._all_at - rest <= now < self._all_at:
            self._all_at = now + rest
            self._kept_to = 0
        self._gathers = True
        return self._kept_to

    def _gather(self, rows: Sequence[Sequence[Any]], over: Container[int], long_ago: float) -> None:
        """Let the next round begin behind the events at the beginning of this one that are kept long."""
        dead_long = self._keep_dead > self._keep_done
        for seq, state, _, accepted_at in rows:
            if not self._gathers or seq in over:
                continue
            self._gathers = (state == "dead") is dead_long and number(accepted_at, inf) < long_ago
            if self._gathers:
                self._kept_to = seq


class NewestPruning:
    """Forgets what was applied last where that is longer ago than ``keep`` seconds, a few marks at a time."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._done_to: tuple[str, str] | None = None
        self._next_round: float | None = None

    def step(self, order: Order, ages: Ages, now: float) -> bool:
        """Look at a few marks, within the caller's transaction; whether there are more. A round a day."""
        if self._next_round is None:
            self._next_round = now
        if now < self._next_round or isinf(self._keep):
            return False
        before = ages.cutoff(self._keep, now)
        self._done_to = order.prune_newest(self._done_to or ("", ""), before, now, PRUNE_ROWS)
        if self._done_to is None:
            self._next_round = now + NEWEST_REST_SECONDS
        return self._done_to is not None


def _keys(rows: Sequence[Sequence[Any]]) -> dict[bytes, int]:
    """The keys of the identities of these events, as far as they can be read."""
    keys: dict[bytes, int] = {}
    for seq, *row in rows:
        with contextlib.suppress(Unreadable):
            keys[key_of(event_of(row))] = seq
    return keys


def give_back(db: sqlite3.Connection, *, everything: bool) -> bool:
    """Give a few free pages back to the file system; whether there are more.

    Where a quarter of the file is free, or, with ``everything``, whatever is free: room is short then.
    """
    free, pages = db.execute(
        "SELECT (SELECT freelist_count FROM pragma_freelist_count), (SELECT page_count FROM pragma_page_count)"
    ).fetchone()
    if free == 0 or (not everything and (free < VACUUM_PAGES or free * 4 < pages)):
        return False
    # Not ``execute``: it takes a statement without columns for done after its first step, which is one page.
    db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
    return True
