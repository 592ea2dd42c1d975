"""A journal of before, with something in it, under this version: nothing of it is lost, repeated or out of order."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from connector.events.event import Event
from connector.events.schema import Schema
from connector.events.snapshot import Snapshot
from connector.journal import Kept
from connector.journal.queries import Filter, Find
from connector.journal.sqlite.file import APPLICATION_ID, MIGRATIONS
from connector.journal.sqlite.remembered import key_before
from connector.journal.sqlite.store import SqliteStore
from connector.journal.store import Append, Batch
from connector.outcome import Mark
from tests.journal_support.batches import may_run, settle
from tests.journal_support.engines import DONE, Clock, sqlite_store

BEFORE = 3
"""The version of the file that knew one lane an event, and ids alone."""

NEWER = Snapshot(900.0, None, None, 9, "newer")


def _body(event_id: str, i_account: int, imsi: str, i_env: int = 1, **variables: object) -> bytes:
    return json.dumps(
        {
            "event_id": event_id,
            "data": {"event_type": "SIM/Updated", "variables": {"i_env": i_env, **variables}},
            "pb_data": {
                "account_info": {"i_account": i_account, "bill_status": "open"},
                "sim_info": {"imsi": imsi},
            },
        }
    ).encode()


CARD, OTHER_CARD, THIRD_CARD = "001010000000001", "001010000000002", "001010000000003"
OPEN = (
    # seq, event id, account, card, state (0 pending, 1 waiting, 2 held), attempt, due
    (1, "waits", 7, CARD, 1, 3, 1500.0),
    (2, "behind-by-account", 7, OTHER_CARD, 0, 1, None),
    (3, "behind-by-card", 8, CARD, 0, 1, None),
    (4, "behind-in-turn", 9, OTHER_CARD, 0, 1, None),
    (5, "held", 10, THIRD_CARD, 2, 2, None),
    (6, "free", 11, "001010000000004", 0, 1, None),
)
"""Before, only the second one waited for the first: accounts alone made the order."""


def _journal_of_before(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for script in MIGRATIONS[:BEFORE]:
            db.executescript(script)
        db.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {BEFORE};")
        db.execute("CREATE TABLE ids_1 (id BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO generations (number, last_at, last_seq) VALUES (1, 1000, 20)")
        for seq, event_id, account, card, state, attempt, due in OPEN:
            lane = f"i_account:{account}"
            row = (seq, event_id, "SIM/Updated", lane, "request", "unique", 990.0, None, _body(event_id, account, card))
            db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            db.execute("INSERT INTO open VALUES (?, ?, ?, ?, ?)", (seq, lane, state, attempt, due))
            db.execute("INSERT INTO ids_1 VALUES (?, ?)", (key_before(event_id), seq))
            if attempt > 1:
                db.execute("INSERT INTO attempts VALUES (?, ?, 995, 1, 'failed')", (seq, attempt - 1))
        done = (10, "done", "SIM/Updated", "i_account:12", "request", "unique", 990.0, None, _body("done", 12, CARD))
        db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", done)
        db.execute("INSERT INTO outcomes VALUES (10, 'done', 991, 1, 1, '')")
        for event_id, seq in (("done", 10), ("pruned", 11)):
            db.execute("INSERT INTO ids_1 VALUES (?, ?)", (key_before(event_id), seq))
        db.execute("INSERT INTO newest VALUES ('i_account:7', 'provision', ?, ?, ?, ?, ?)", (*NEWER.times, 9, "newer"))


def _open(path: Path, order_by: str = "") -> SqliteStore:
    schema = Schema(None, order_by)
    store = sqlite_store(path, Clock(), ordering=schema.ordering, resources=schema.resources_of)
    store.open()
    return store


def _ids(store: SqliteStore, now: float = 0.0) -> list[str]:
    return [entry.event.event_id for entry in may_run(store, now, due=10)[0]]


def _event(body: bytes) -> Event:
    return Schema().parse(body, "request", "unique", 1000.0)


def _keep(store: SqliteStore, bodies: Sequence[bytes]) -> list[Kept]:
    batch = Batch(appends=[Append(_event(body)) for body in bodies])
    store.commit(batch)
    return list(batch.kept)


def test_open_events_of_before_are_ordered_by_all_that_they_touch(tmp_path: Path) -> None:
    _journal_of_before(tmp_path / "journal.db")
    with closing(_open(tmp_path / "journal.db")) as store:
        assert store.open_events == len(OPEN)
        assert _ids(store) == ["free"]  # what waited waits until it is due, what was held is held
        waits = may_run(store, now=1500.0, due=10)[0][0]
        assert (waits.event.event_id, waits.attempt) == ("waits", 3)
        settle(store, (waits, DONE))
        freed = {entry.event.event_id: entry for entry in may_run(store)[0]}
        assert set(freed) == {"behind-by-account", "behind-by-card", "free"}
        settle(store, (freed["behind-by-account"], DONE))
        assert set(_ids(store)) == {"behind-by-card", "behind-in-turn", "free"}
        states = {each.event_id: each.state for each in store.answer(Find(Filter(), 99))}
        assert states["held"] == "held"


def test_new_events_wait_behind_those_of_before(tmp_path: Path) -> None:
    _journal_of_before(tmp_path / "journal.db")
    with closing(_open(tmp_path / "journal.db")) as store:
        new = [_body("by-account", 10, CARD), _body("by-card", 99, THIRD_CARD), _body("alone", 98, "001010000000009")]
        assert _keep(store, new) == [Kept.NEW] * 3
        assert set(_ids(store)) == {"free", "alone"}


def test_ids_of_before_are_duplicates_and_other_identities_are_not(tmp_path: Path) -> None:
    _journal_of_before(tmp_path / "journal.db")
    for _ in range(2):  # also after another start, when there are generations of both kinds
        with closing(_open(tmp_path / "journal.db")) as store:
            again = [_body("waits", 7, CARD), _body("done", 12, CARD), _body("pruned", 1, CARD)]
            assert _keep(store, again) == [Kept.DUPLICATE] * 3
            assert _keep(store, [_body("done", 13, CARD)]) == [Kept.CONFLICT]
    with closing(_open(tmp_path / "journal.db")) as store:
        assert _keep(store, [_body("done", 12, CARD, i_env=3)]) == [Kept.NEW]
        found = [each.seq for each in store.answer(Find(Filter(event_id="done"), 99))]
        assert len(found) == 2


def test_what_was_applied_before_still_counts_under_the_key_with_its_environment(tmp_path: Path) -> None:
    _journal_of_before(tmp_path / "journal.db")
    with closing(_open(tmp_path / "journal.db")) as store:
        mine = Snapshot(800.0, None, None, 50, "older")
        assert store.newest(50, Mark("provision", "i_account:7@1"), mine).applied == NEWER
        assert store.newest(50, Mark("provision", "i_account:8@1"), mine).applied is None


def test_changed_order_by_makes_the_resources_of_open_events_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    bodies = [_body("first", 1, CARD), _body("same-card", 2, CARD), _body("same-account", 1, OTHER_CARD)]
    for order_by, free in (
        ("", {"first"}),
        ("account", {"first", "same-card"}),
        ("card", {"first", "same-account"}),
        ("account+card", {"first"}),
        ("", {"first"}),
    ):
        with closing(_open(path, order_by)) as store:
            _keep(store, bodies)  # duplicates from the second start on
            assert set(_ids(store)) == free, order_by
