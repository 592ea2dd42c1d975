"""The sheet: one row for each event, whatever happens twice or at once."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from examples.sheet import handlers
from tests.integration.external.delivery import numbered, serving
from tests.integration.external.targets import until
from tests.unit.external.events import URL, event


@pytest.fixture
def sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "sheet.db"
    monkeypatch.setattr(handlers, "FILE", str(file))
    return file


def rows(file: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT * FROM events ORDER BY event_id").fetchall()


def test_a_row_says_what_the_event_said(sheet: Path) -> None:
    handlers.append(event("event-1", account_info={"i_account": 7, "bill_status": "open"}))
    assert rows(sheet) == [("event-1", "SIM/Updated", 7, "open", None)]


def test_an_event_that_is_handled_twice_makes_one_row(sheet: Path) -> None:
    assert handlers.append(event("event-1")) == "Row appended"
    assert handlers.append(event("event-1")) == "The row was there already"
    assert len(rows(sheet)) == 1


def test_whatever_an_event_says_no_other_file_is_written(sheet: Path) -> None:
    for said in ("../../elsewhere", "/etc/passwd", "x'); DROP TABLE events; --", "..\\x", "\x00"):
        handlers.append(event(said, said, account_info={"bill_status": said}))
    assert [file.name for file in sheet.parent.iterdir()] == ["sheet.db"]
    assert len(rows(sheet)) == 5


def test_many_threads_at_once_lose_no_row(sheet: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: handlers.append(event(f"event-{number}")), range(100)))
    assert len(rows(sheet)) == 100


async def test_the_connector_runs_it_beside_the_loop(sheet: Path) -> None:
    async with serving(URL, HANDLERS="examples.sheet.handlers") as served:
        await served.post_all(numbered(number, 5) for number in range(20))
        await until(lambda: served.connector.journal.size == 0)
    assert len(rows(sheet)) == 20
