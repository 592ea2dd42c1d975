"""Which engine keeps the events: chosen by the scheme of JOURNAL_URL, here and nowhere else.

A further engine is a folder beside ``sqlite`` and a line in ``ENGINES``.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from connector.errors import StartError
from connector.events.event import Event
from connector.journal import Journal
from connector.journal.group_commit import GroupCommitJournal, no_marks
from connector.journal.memory import MemoryStore
from connector.journal.outside import Outside
from connector.journal.sqlite.outside import SqliteOutside
from connector.journal.sqlite.store import SqliteStore
from connector.outcome import Mark
from connector.settings import Settings

Clock = Callable[[], float]
Marks = Callable[[Event], Sequence[Mark]]


class Ordering(NamedTuple):
    """The rule by which events are ordered: a text that names it, and what an event touches by it."""

    name: str
    resources: Callable[[Event], Sequence[str]]


AS_KEPT: Final = Ordering("", lambda event: event.resources)


class Engine(NamedTuple):
    """``make`` gives the journal of a connector, not opened yet; ``outside`` that of an operator."""

    make: Callable[[Settings, Clock, Marks, Ordering], Journal]
    outside: Callable[[Settings], Outside]


def make(settings: Settings, clock: Clock, marks: Marks = no_marks, ordering: Ordering = AS_KEPT) -> Journal:
    """The journal that JOURNAL_URL names, not opened yet.

    ``clock`` gives seconds since the epoch and is steady; ``marks`` says what the ``latest_only`` handlers of an event
    would write; ``ordering`` is the rule of order. Raises StartError.
    """
    return _engine(settings).make(settings, clock, marks, ordering)


def outside(settings: Settings) -> Outside:
    """The journal that JOURNAL_URL names, for an operator beside a running connector or without one.

    Raises StartError.
    """
    return _engine(settings).outside(settings)


def _engine(settings: Settings) -> Engine:
    scheme = settings.journal_url.partition(":")[0]
    if scheme not in ENGINES:
        raise StartError(f"JOURNAL_URL: there is no journal {scheme}://; known are {', '.join(sorted(ENGINES))}")
    return ENGINES[scheme]


def _memory(settings: Settings, clock: Clock, marks: Marks, _: Ordering) -> Journal:
    size = settings.queue_size
    return GroupCommitJournal(
        MemoryStore(clock),
        capacity=size,
        capacity_bytes=settings.max_backlog_bytes,
        queue_size=size,
        clock=clock,
        marks=marks,
    )


def _memory_outside(_: Settings) -> Outside:
    raise StartError("JOURNAL_URL: this journal is in the memory of the running connector only")


def _sqlite(settings: Settings, clock: Clock, marks: Marks, ordering: Ordering) -> Journal:
    return GroupCommitJournal(
        _sqlite_store(settings, clock, ordering),
        capacity=settings.max_backlog,
        capacity_bytes=settings.max_backlog_bytes,
        queue_size=settings.queue_size,
        queue_bytes=settings.queue_bytes,
        clock=clock,
        marks=marks,
    )


def _sqlite_outside(settings: Settings) -> Outside:
    return SqliteOutside(
        _path(settings), lambda: _sqlite_store(settings, time.time, AS_KEPT, upgrades=False), settings.min_free_disk
    )


def _sqlite_store(settings: Settings, clock: Clock, ordering: Ordering, *, upgrades: bool = True) -> SqliteStore:
    return SqliteStore(
        _path(settings),
        keep_done=settings.keep_done,
        keep_dead=settings.keep_dead,
        keep_ids=settings.keep_ids,
        keep_newest=settings.keep_newest,
        min_free_disk=settings.min_free_disk,
        longest_wait=settings.retry_max,
        clock=clock,
        ordering=ordering.name,
        resources=ordering.resources,
        upgrades=upgrades,
    )


def _path(settings: Settings) -> Path:
    return Path(settings.journal_url.removeprefix("sqlite:///"))


ENGINES: Final[Mapping[str, Engine]] = {
    "memory": Engine(_memory, _memory_outside),
    "sqlite": Engine(_sqlite, _sqlite_outside),
}
