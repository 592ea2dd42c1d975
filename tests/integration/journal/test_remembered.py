"""Remembered ids: generations are begun, sealed and dropped, and what was noted last counts."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from connector.journal.sqlite import remembered
from connector.journal.sqlite.remembered import RECORD_SECONDS, SCHEMA, RememberedIds, key_before

SMALL = 50


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "GENERATION", SMALL)
    monkeypatch.setattr(remembered, "SEAL_STEP", 10)
    monkeypatch.setattr(remembered, "DROP_STEP", 10)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "ids.db", isolation_level=None)) as db:
        db.executescript(SCHEMA)
        db.execute("ALTER TABLE generations ADD COLUMN by_event_id INTEGER NOT NULL DEFAULT 0")
        yield db


def _keys(first: int, count: int = SMALL) -> dict[bytes, int]:
    return {key_before(f"event-{number}"): number for number in range(first, first + count)}


def _fill(ids: RememberedIds, generations: int, at: float = 0.0) -> dict[bytes, int]:
    """Note the ids of so many generations, and one more; the time goes up by 100 with each generation."""
    for number in range(generations):
        ids.note(_keys(number * SMALL), at + 100 * number)
    ids.note(_keys(generations * SMALL, 1), at + 100 * generations)
    return _keys(0, generations * SMALL + 1)


def _seal(ids: RememberedIds) -> None:
    while ids.upkeep(-1.0):
        pass


def _sealed(db: sqlite3.Connection) -> list[int]:
    return [number for (number,) in db.execute("SELECT number FROM generations WHERE filter IS NOT NULL")]


def _tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'ids_%'")}


def test_ids_are_found_in_every_generation_before_and_after_sealing(db: sqlite3.Connection) -> None:
    ids = RememberedIds(db)
    noted = _fill(ids, 4)
    assert ids.find(list(noted)) == noted
    _seal(ids)
    assert _sealed(db) == [1, 2, 3, 4]
    assert ids.find(list(noted)) == noted
    assert ids.find(list(_keys(1000))) == {}


def test_ids_are_found_after_reopening(db: sqlite3.Connection) -> None:
    noted = _fill(RememberedIds(db), 3)
    assert RememberedIds(db).find(list(noted)) == noted
    _seal(RememberedIds(db))
    again = RememberedIds(db)
    assert again.find(list(noted)) == noted
    assert again.last_seq == 3 * SMALL


@pytest.mark.parametrize("steps", range(1, 12))
def test_reopening_in_the_middle_of_sealing_loses_no_id(db: sqlite3.Connection, steps: int) -> None:
    ids = RememberedIds(db)
    noted = _fill(ids, 2)
    for _ in range(steps):
        ids.upkeep(-1.0)
    ids = RememberedIds(db)
    assert ids.find(list(noted)) == noted
    _seal(ids)
    assert _sealed(db) == [1, 2]
    assert ids.find(list(noted)) == noted


def test_sealing_moves_in_small_steps(db: sqlite3.Connection) -> None:
    ids = RememberedIds(db)
    _fill(ids, 1)
    steps = 1
    while ids.upkeep(-1.0):
        steps += 1
    assert steps > SMALL // 10


def test_newest_generation_counts_for_an_id_that_was_noted_twice(db: sqlite3.Connection) -> None:
    ids = RememberedIds(db)
    _fill(ids, 3)
    again = {key: seq + 1000 for key, seq in _keys(0, 10).items()}
    ids.note(again, 9.0)
    assert ids.find(list(again)) == again
    _seal(ids)
    assert ids.find(list(again)) == again
    _fill_on(ids)
    _seal(ids)
    assert ids.find(list(again)) == again
    assert RememberedIds(ids._db).find(list(again)) == again


def _fill_on(ids: RememberedIds) -> None:
    ids.note(_keys(5000), 10.0)
    ids.note(_keys(6000, 1), 11.0)


def test_generation_is_forgotten_as_a_whole_when_its_last_id_is_too_old(db: sqlite3.Connection) -> None:
    ids = RememberedIds(db)
    noted = _fill(ids, 3)
    _seal(ids)
    steps = 1
    while ids.upkeep(100 + RECORD_SECONDS + 50):
        steps += 1
    assert steps > 2 * SMALL // 10
    assert set(ids.find(list(noted))) == set(_keys(2 * SMALL, SMALL + 1))
    assert _tables(db) == {"ids_3", "ids_4"}
    assert RememberedIds(db).last_seq == 3 * SMALL


def test_reopening_in_the_middle_of_forgetting_goes_on_with_it(db: sqlite3.Connection) -> None:
    ids = RememberedIds(db)
    noted = _fill(ids, 2)
    _seal(ids)
    ids.upkeep(RECORD_SECONDS + 50)
    ids = RememberedIds(db)
    while ids.upkeep(RECORD_SECONDS + 50):
        pass
    assert set(ids.find(list(noted))) == set(_keys(SMALL, SMALL + 1))
    assert _tables(db) == {"ids_2", "ids_3"}


def test_newest_generation_is_never_forgotten(db: sqlite3.Connection) -> None:
    ids = RememberedIds(db)
    _fill(ids, 2)
    while ids.upkeep(1e9):
        pass
    ids.upkeep(1e9)
    assert ids.find(list(_keys(0, 2 * SMALL + 1))) == _keys(2 * SMALL, 1)
    assert RememberedIds(db).last_seq == 2 * SMALL


def test_number_of_a_generation_is_not_used_again(db: sqlite3.Connection) -> None:
    ids = RememberedIds(db)
    _fill(ids, 2)
    while ids.upkeep(1e9):
        pass
    ids.upkeep(1e9)
    ids = RememberedIds(db)
    ids.note(_keys(500), 20.0)
    ids.note(_keys(600), 21.0)
    assert _tables(db) == {"ids_3", "ids_4"}


def test_forgetting_single_ids_leaves_those_that_were_noted_anew(db: sqlite3.Connection) -> None:
    ids = RememberedIds(db)
    _fill(ids, 2)
    _seal(ids)
    first, second = list(_keys(0, 2))
    ids.note({second: 777}, 9.0)
    ids.forget({first: 0, second: 1})
    assert ids.find([first, second]) == {second: 777}
    assert RememberedIds(db).find([first, second]) == {second: 777}


def test_filter_seldom_says_perhaps_for_a_stranger(db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "GENERATION", 4000)
    monkeypatch.setattr(remembered, "FILTER_BYTES", 8192)
    monkeypatch.setattr(remembered, "_MASK", 8192 * 8 - 1)
    ids = RememberedIds(db)
    ids.note(_keys(0, 4000), 1.0)
    ids.note(_keys(4000, 1), 2.0)
    _seal(ids)
    asked: list[bytes] = []
    look_up = ids._look_up

    def counted(number: int, keys: list[bytes]) -> dict[bytes, int]:
        if number == 1:
            asked.extend(keys)
        return look_up(number, keys)

    monkeypatch.setattr(ids, "_look_up", counted)
    strangers = list(_keys(10_000, 10_000))
    assert ids.find(strangers) == {}
    assert len(asked) < 10_000 // 100
