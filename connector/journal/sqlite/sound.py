"""Whether a journal file is sound, as far as that is known in time: all of a small file, of a large one what is read.

A damaged file that is found at the start is refused, with nothing written to it. One that is found later ends the
process, and is checked whole at the next start, however large it is (``JournalFile.suspect``).
"""

import sqlite3
import time
from typing import Final

CHECK_SECONDS: Final = 0.5
"""So long a large file is read at the start, after the tables that every start reads whole."""

_INSTRUCTIONS: Final = 10_000
"""SQLite's own instructions between two looks at the clock: some 100 microseconds."""

_WHOLE: Final = ("meta", "generations", "commands", "counters", "open")
"""Tables that a start reads."""

_PAGES: Final = ("touches", "marks")
"""Tables that every event reads, as large as the backlog: to count their rows reads each page."""

_READ: Final = {
    "open": "SELECT max(substr(e.body, -1)) FROM (SELECT seq FROM open ORDER BY seq) o JOIN events e ON e.seq = o.seq",
    "outcomes": "SELECT max(o.ended_at), max(e.accepted_at) FROM outcomes o JOIN events e ON e.seq = o.seq",
    "events": "SELECT max(substr(body, -1)) FROM events",
    "attempts": "SELECT max(ended_at) FROM attempts",
    "progress": "SELECT max(ms) FROM progress",
    "newest": "SELECT max(seq) FROM newest",
}
"""What the connector reads later, by the table, the next first: what is delivered, what is pruned, the rest.

The last byte of a body is read past all its pages: what is wrong there would be met when it is delivered or pruned.
"""


def check_whole(db: sqlite3.Connection) -> None:
    """Look at every page. Raises DatabaseError where one is damaged."""
    _quick_check(db, "1")


def check_read(db: sqlite3.Connection) -> None:
    """Look at what is read at the start, and for ``CHECK_SECONDS`` at what is read later. Raises DatabaseError."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()}
    for table in _WHOLE:
        if table in tables:
            _quick_check(db, table)
    newest = db.execute("SELECT max(number) FROM generations").fetchone()[0]
    for table in (*_PAGES, f"ids_{newest}"):
        if table in tables:
            db.execute(f"SELECT count(*) FROM {table}").fetchone()
    deadline = time.monotonic() + CHECK_SECONDS
    db.set_progress_handler(lambda: time.monotonic() > deadline, _INSTRUCTIONS)
    try:
        for table, query in _READ.items():
            if table in tables:  # an older version has not all of them
                db.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    finally:
        db.set_progress_handler(None, 0)


def _quick_check(db: sqlite3.Connection, what: str) -> None:
    (verdict,) = db.execute(f"PRAGMA quick_check({what})").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict.splitlines()[-1])
