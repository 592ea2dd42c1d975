"""Sending a command to whoever owns a journal: the running connector, or, where none runs, this process.

The command is left in the journal's table ``commands``. The owner looks there when another process has written to the
file, four times a second at least, and leaves its answer.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from connector.errors import InUse, StartError
from connector.journal.group_commit import Batch, StoreError
from connector.journal.sqlite.operator import Answer, Command
from connector.journal.sqlite.store import SqliteStore

ANSWER_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.02


def send(store: SqliteStore, path: Path, command: Command) -> Answer:
    """Have a command carried out and return the answer.

    ``store`` is a closed store of the journal at ``path``. Raises StartError where the journal cannot be opened, or the
    running connector does not answer within ``ANSWER_SECONDS``.
    """
    try:
        store.open()
    except InUse:
        return _leave(path, command)
    try:
        batch = Batch(commands=[command])
        store.commit(batch)
        return batch.answers[0]
    except StoreError as fault:
        raise StartError(f"the journal cannot be written: {fault}") from None
    finally:
        store.close()


def _leave(path: Path, command: Command) -> Answer:
    try:
        with closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as db:
            db.execute("PRAGMA wal_autocheckpoint = 0")  # that is the owner's
            (number,) = db.execute(
                "INSERT INTO commands (made_at, command) VALUES (?, ?) RETURNING number",
                (time.time(), msgspec.json.encode(command).decode()),
            ).fetchone()
            try:
                return _wait(db, number)
            finally:
                db.execute("DELETE FROM commands WHERE number = ?", (number,))
    except sqlite3.Error as fault:
        raise StartError(f"the journal cannot be written: {fault}") from None


def _wait(db: sqlite3.Connection, number: int) -> Answer:
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        (text,) = db.execute("SELECT answer FROM commands WHERE number = ?", (number,)).fetchone()
        if text is not None:
            return msgspec.json.decode(text, type=Answer)
        time.sleep(_LOOK_SECONDS)
    raise StartError(f"the running connector did not answer within {ANSWER_SECONDS:g} s")
