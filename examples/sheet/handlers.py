"""A row for each event in an SQLite table: ``HANDLERS=examples.sheet.handlers``.

The handler is an ordinary function. It may block: the connector runs it in a thread of its own. The event's id is the
key of the row, so an event that is handled twice (the process died before it was noted) makes one row.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from connector import Event, on

FILE = str(Path(os.environ.get("SHEET_FILE") or "sheet.db").absolute())
"""The one file that is written, whatever an event says: its values go into rows, never into a path or a statement."""

TABLE = """
CREATE TABLE IF NOT EXISTS events (
    event_id TEXT PRIMARY KEY, event_type TEXT, i_account INTEGER, bill_status TEXT, updated_at TEXT
)
"""


@on("*")
def append(event: Event) -> str:
    """Append the row. A table that another program has locked is waited for, then the event is tried again later."""
    account = event.pb_data.account_info
    row = (event.event_id, event.event_type, account.i_account, account.bill_status, event.body.updated_at)
    with closing(sqlite3.connect(FILE, timeout=10)) as connection, connection:
        connection.execute(TABLE)
        added = connection.execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", row).rowcount
    return "Row appended" if added else "The row was there already"
