"""Journals with a past: open events that wait, and ids that are remembered, written by the journal's own code."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.load import event_id, i_account, template
from connector.events.schema import Schema
from connector.journal.commands import Command
from connector.journal.sqlite.remembered import KEY_BYTES
from connector.journal.sqlite.store import SqliteStore
from connector.journal.store import Append, Batch
from connector.settings import Settings

BATCH: Final = 5000
PAST: Final = 0xFFFFFFFF
FOREVER: Final = 1e9


def backlog(path: Path, events: int, *, paused: bool) -> None:
    """A journal with so many pending events of 50,000 subscribers; delivery is paused if wanted."""
    settings = Settings()
    example = template()
    schema = Schema(settings.required_fields, settings.order_by)
    store = _open(path, schema.ordering)
    for start in range(0, events, BATCH):
        numbers = range(start, min(start + BATCH, events))
        bodies = [example.body(event_id(PAST, number), i_account(number)) for number in numbers]
        parsed = [schema.parse(body, "prefill", "prefill", time.time()) for body in bodies]
        store.commit(Batch(appends=[Append(each) for each in parsed]))
        _checkpoint(store)
    if paused:
        store.commit(Batch(commands=[Command("pause")]))
    store.close()


def remembered(path: Path, ids: int) -> None:
    """A journal that remembers so many ids of events that are long gone."""
    store = _open(path)
    for number, start in enumerate(range(0, ids, BATCH)):
        size = min(BATCH, ids - start)
        raw = os.urandom(KEY_BYTES * size)
        seqs = {raw[place : place + KEY_BYTES]: start + 1 for place in range(0, len(raw), KEY_BYTES)}
        _note(store, seqs)
        if number % 20 == 0:
            store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    _note(store, {bytes(KEY_BYTES): ids + 1})  # the first of a new generation: the last full one is sealed now
    while store.upkeep():
        pass
    store.close()


def _note(store: SqliteStore, seqs: Mapping[bytes, int]) -> None:
    store.commit(Batch(calls=[lambda store: store._remembered.note(seqs, time.time())]))


def _open(path: Path, ordering: str = "") -> SqliteStore:
    store = SqliteStore(
        path,
        keep_done=FOREVER,
        keep_dead=FOREVER,
        keep_ids=FOREVER,
        min_free_disk=0,
        clock=time.time,
        ordering=ordering,
    )
    store.open()
    store._db.execute("PRAGMA synchronous = OFF")  # nothing is lost if this stops half-way
    return store


def _checkpoint(store: SqliteStore) -> None:
    while store.wants_upkeep:
        store.upkeep()
