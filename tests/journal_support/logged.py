"""A new engine in fifty lines: a dict with a lock that holds each transaction as it was committed.

The rules are those of ``MemoryStore``. To open a journal is to carry out its transactions again, each at its time.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Final

from connector.journal.commands import PAUSED
from connector.journal.memory import MemoryStore
from connector.journal.store import Batch

LOCK: Final = Lock()
LOGS: Final[dict[Path, list[tuple[float, Batch]]]] = {}
"""Stands for a disk or a server: what was committed, by journal, and when."""


class LoggedStore(MemoryStore):
    """The journal at ``path``; ``clock`` in seconds since the epoch."""

    durable = True
    in_loop = False

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        super().__init__(lambda: self._now)
        self._path = path
        self._now, self._time = 0.0, clock

    def open(self) -> None:
        with LOCK:
            committed = list(LOGS.setdefault(self._path, []))
        for self._now, batch in committed:
            super().commit(replace(batch))
        super().open()
        self.holds = [PAUSED] if self._paused else []

    def commit(self, batch: Batch) -> None:
        self._now = self._time()
        with LOCK:
            LOGS[self._path].append((self._now, replace(batch, calls=[])))
        super().commit(batch)
