"""How old what is kept is: by the time that the journal has seen, and not by what a clock says at a start.

While a process runs its clock is steady; between two runs it may jump. The time is noted in the file every
``NOTED_SECONDS`` (``meta.seen_at``) and compared with the clock at the next start. A difference of more than ``FAR`` is
noted as a jump ``(last, first)``: the last time of before, the first one of after.

1. The time of a jump forward has not been seen: the connector was stopped for so long, or the clock is ahead. It makes
   nothing older, so a clock that is days ahead for one run destroys nothing and gives nothing up.
2. Where the clock was set back, a time from the future counts as that of the start at which this was found.

So what is kept may be kept for longer than it was to be, and never for shorter.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from connector import log
from connector.journal.sqlite.stored import number

FAR: Final = 3600.0
"""Seconds between the clock and the time that was noted last from which on the clock has jumped."""

NOTED_SECONDS: Final = 600.0

SCHEMA: Final = """
ALTER TABLE meta ADD COLUMN seen_at REAL;
CREATE TABLE jumps (last REAL NOT NULL, first REAL NOT NULL);
"""

_WARN_SECONDS: Final = 86400.0

_log = log.get_logger()


class Jump(NamedTuple):
    """A jump of the clock between two runs; in seconds since the epoch."""

    last: float
    first: float


class Ages:
    """What the clock's ``jumps`` make of times. ``back_at``: when it was last found set back. Immutable."""

    def __init__(self, jumps: Sequence[Jump] = (), back_at: float | None = None) -> None:
        self._jumps = sorted((each for each in jumps if each.first > each.last), key=lambda each: each.first)
        self._back_at = max((each.first for each in jumps if each.first < each.last), default=back_at)

    def of(self, moment: float, now: float) -> float:
        """``moment``, or the time for which it counts where it is in the future."""
        if moment <= now:
            return moment
        return now if self._back_at is None else min(self._back_at, now)

    def age(self, moment: float, now: float) -> float:
        """Seconds that the journal has seen since ``moment``."""
        moment = self.of(moment, now)
        age = now - moment
        for last, first in self._jumps:
            if first <= now and moment < first:
                age -= first - max(last, moment)
        return max(age, 0.0)

    def cutoff(self, keep: float, now: float) -> float:
        """The time before which everything is older than ``keep`` seconds."""
        for last, first in reversed(self._jumps):
            if first > now:
                continue
            if keep < now - first:
                break
            keep -= now - first
            now = last
        return now - keep


def begin(db: sqlite3.Connection, now: float, longest: float) -> Ages:
    """Compare the clock with the time that was noted last, within the caller's transaction; say a jump.

    Jumps longer ago than ``longest`` seconds that were seen, for which nothing is kept, are forgotten.
    """
    (seen_at,) = db.execute("SELECT seen_at FROM meta").fetchone()
    if not isinstance(seen_at, float):  # a journal of before, or a new one
        newest = db.execute("SELECT accepted_at FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        seen_at = number(newest[0], now) if newest else now
    if abs(now - seen_at) > FAR:
        db.execute("INSERT INTO jumps VALUES (?, ?)", (seen_at, now))
        _say(seen_at, now)
    if now < seen_at:  # what was noted by a clock that was ahead
        db.execute("DELETE FROM jumps WHERE first > last AND last >= ?", (now,))
        db.execute("UPDATE jumps SET first = ? WHERE first > last AND first > ?", (now, now))
        db.execute("UPDATE generations SET last_at = ? WHERE last_at > ?", (now, now))
    note(db, now)
    found: Sequence[Any] = db.execute("SELECT last, first FROM jumps").fetchall()
    ages = Ages([Jump(*row) for row in found if all(isinstance(each, float) for each in row)])
    db.execute("DELETE FROM jumps WHERE first < ?", (ages.cutoff(longest, now),))
    return ages


def note(db: sqlite3.Connection, now: float) -> None:
    """Note the time, within the caller's transaction."""
    db.execute("UPDATE meta SET seen_at = ?", (now,))


def _say(seen_at: float, now: float) -> None:
    hours = abs(now - seen_at) / 3600
    if now > seen_at:
        text = (
            f"The journal was last written {hours:.1f} hours ago by the clock: the connector was stopped, or the clock"
            " is ahead; nothing is pruned, forgotten or given up for that time"
        )
    else:
        text = f"The clock was set back by {hours:.1f} hours; times from the future count as now"
    say = _log.warning if abs(now - seen_at) > _WARN_SECONDS or now < seen_at else _log.info
    say(text, action="journal.clock", last_seen_at=seen_at, now=now, hours=round(hours, 1))
