"""An SQLite journal from outside: questions are read from the file, commands go to whoever owns it.

That is the running connector, or, where none runs, this process. A command to a running connector is left in the
journal's table ``commands``. The owner looks there when another process has written to the file, four times a second at
least, and leaves its answer.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from connector.errors import InUse, StartError, Unavailable
from connector.journal.commands import Command, CommandResult
from connector.journal.outside import Copied, Outside, Restored
from connector.journal.queries import Query
from connector.journal.sqlite import copies
from connector.journal.sqlite.file import MIGRATIONS, of_older_version, version_of
from connector.journal.sqlite.history import connect
from connector.journal.sqlite.store import SqliteStore
from connector.journal.sqlite.wal import leave_log
from connector.journal.store import Batch, StoreError

ANSWER_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.02

Result = TypeVar("Result")


class SqliteOutside(Outside):
    """The journal at ``path``; ``make_store`` gives a closed store of it. ``min_free_disk`` as in ``SqliteStore``."""

    def __init__(self, path: Path, make_store: Callable[[], SqliteStore], min_free_disk: int = 0) -> None:
        self._path = path
        self._make_store = make_store
        self._min_free_disk = min_free_disk

    async def ask(self, query: Query[Result]) -> Result:
        try:
            with connect(self._path) as history:
                return history.ask(query)
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path} cannot be read: {error}") from None

    async def command(self, command: Command) -> CommandResult:
        if not self._path.exists():
            raise Unavailable(f"{self._path} does not exist")
        return await send(self._make_store(), self._path, command)

    def backup(self, target: Path) -> Copied:
        return copies.backup(self._path, target, min_free_disk=self._min_free_disk)

    def restore(self, source: Path) -> Restored:
        return copies.restore(self._path, source)

    def close(self) -> None:
        """Nothing is held open between questions."""


async def send(store: SqliteStore, path: Path, command: Command) -> CommandResult:
    """Have a command carried out and return the answer.

    ``store`` is a closed store of the journal at ``path``. Raises Unavailable where the journal cannot be opened, or
    the running connector does not answer within ``ANSWER_SECONDS``.
    """
    try:
        store.open()
    except InUse:
        return await _leave(path, command)
    except StartError as error:
        raise Unavailable(str(error)) from None
    try:
        batch = Batch(commands=[command])
        store.commit(batch)
        return batch.answers[0]
    except StoreError as error:
        raise Unavailable(f"the journal cannot be written: {error}") from None
    finally:
        store.close()


async def _leave(path: Path, command: Command) -> CommandResult:
    try:
        if (version := version_of(path)) != len(MIGRATIONS):
            raise Unavailable(of_older_version(path, version))
        with closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as db:
            leave_log(db)
            (number,) = db.execute(
                "INSERT INTO commands (made_at, command) VALUES (?, ?) RETURNING number",
                (time.time(), msgspec.json.encode(command).decode()),
            ).fetchone()
            try:
                return await _wait(db, number)
            finally:
                db.execute("DELETE FROM commands WHERE number = ?", (number,))
    except sqlite3.Error as error:
        raise Unavailable(f"the journal cannot be written: {error}") from None


async def _wait(db: sqlite3.Connection, number: int) -> CommandResult:
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        (text,) = db.execute("SELECT answer FROM commands WHERE number = ?", (number,)).fetchone()
        if text is not None:
            return msgspec.json.decode(text, type=CommandResult)
        await asyncio.sleep(_LOOK_SECONDS)
    raise Unavailable(f"the running connector did not answer within {ANSWER_SECONDS:g} s")
