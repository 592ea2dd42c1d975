"""Versions side by side: reading needs no upgrade, commands make none, and the server keeps what a roll-back needs."""

import asyncio
import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from connector import Event, on
from connector.__main__ import main
from connector.errors import StartError, Unavailable
from connector.journal.sqlite import copies
from connector.journal.sqlite.file import APPLICATION_ID, MIGRATIONS, JournalFile
from connector.journal.sqlite.remembered import key_before
from tests.conftest import Lines
from tests.delivering import delivering
from tests.journal_support.engines import Clock, sqlite_store
from tests.journal_support.events import body

NOW = len(MIGRATIONS)
OLDER = range(1, NOW)
READING = (
    ("events", "list"),
    ("events", "list", "--subscriber", "7"),
    ("events", "show", "waits"),
    ("lanes",),
    ("stats",),
    ("replay", "--state", "dead", "--dry-run"),
)
WRITING = (("pause",), ("resume",), ("replay", "dead"), ("discard", "dead"), ("lanes", "release", "7"))


def journal_of(version: int, path: Path) -> Path:
    """A journal as a connector of this version left it: an event that waits, one behind it, one dead, one done."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        db.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};")
        db.execute("CREATE TABLE ids_1 (id BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID")
        db.execute("INSERT INTO generations (number, last_at, last_seq) VALUES (1, 1000, 4)")
        if version >= 4:
            db.execute("UPDATE generations SET by_event_id = 1")
        for seq, event_id in enumerate(("waits", "behind", "dead", "done"), start=1):
            row = (seq, event_id, body(event_id, 7))
            db.execute(
                "INSERT INTO events VALUES (?, ?, 'SIM/Updated', 'i_account:7', 'request', 'unique', 990, NULL, ?)", row
            )
            db.execute("INSERT INTO ids_1 VALUES (?, ?)", (key_before(event_id), seq))
        for seq, waits, due in ((1, 1, 1500.0), (2, 0, None)):
            if version < 4:
                db.execute("INSERT INTO open VALUES (?, 'i_account:7', ?, 1, ?)", (seq, waits, due))
            else:
                columns = "seq, state, attempt, due, blockers"
                db.execute(f"INSERT INTO open ({columns}) VALUES (?, ?, 1, ?, ?)", (seq, waits, due, seq - 1))
                db.execute("INSERT INTO touches VALUES ('i_account:7', ?)", (seq,))
        for seq, state in ((3, "dead"), (4, "done")):
            db.execute("INSERT INTO outcomes VALUES (?, ?, 991, 1, 1, 'as it was')", (seq, state))
        db.execute("PRAGMA journal_mode = WAL")
    return path


def _run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"JOURNAL_URL": f"sqlite:///{path}", "MIN_FREE_DISK": "0"})


def _schema(path: Path) -> tuple[int, list[str]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return version, sorted(text for (text,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql > ''"))


def _content(path: Path) -> str:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return "\n".join(db.iterdump())


@pytest.mark.parametrize("version", OLDER)
def test_every_reading_command_reads_an_older_journal_and_leaves_it_as_it_is(tmp_path: Path, version: int) -> None:
    path = journal_of(version, tmp_path / "journal.db")
    before = _content(path)
    for command in READING:
        result = _run(path, *command)
        assert result.exit_code == 0, f"{command}: {result.output} {result.exception!r}"
    found = json.loads(_run(path, "lanes", "--json").stdout)
    assert (found["event_id"], found["behind"], found["resources"]) == ("waits", 1, ["i_account:7"])
    assert json.loads(_run(path, "stats", "--json").stdout)["open"] == {"pending": 1, "waiting": 1, "held": 0}
    assert _content(path) == before


@pytest.mark.parametrize("is_running", [False, True], ids=["stopped", "running"])
@pytest.mark.parametrize("version", OLDER)
def test_no_command_upgrades_a_journal_and_each_says_why_it_does_nothing(
    tmp_path: Path, version: int, is_running: bool
) -> None:
    path = journal_of(version, tmp_path / "journal.db")
    before = _schema(path), _content(path)
    owner = JournalFile(path)
    if is_running:
        owner.own()
    try:
        for command in WRITING:
            result = _run(path, *command)
            assert result.exit_code == 1
            assert f"older connector (version {version} of the journal, this one writes {NOW})" in result.output
    finally:
        owner.close()
    assert (_schema(path), _content(path)) == before


def test_a_newer_journal_is_not_read_and_that_is_said(tmp_path: Path) -> None:
    path = journal_of(NOW, tmp_path / "journal.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {NOW + 1}")
    result = _run(path, "stats")
    assert result.exit_code == 1
    assert "was written by a newer connector" in result.output


def test_a_journal_is_not_upgraded_where_no_backup_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = journal_of(NOW - 1, tmp_path / "journal.db")
    before = _content(path)

    def no_room(*_: object, **__: object) -> None:
        raise Unavailable("a backup needs 7 MiB; there are 6 MiB")

    monkeypatch.setattr(copies, "backup", no_room)
    with pytest.raises(StartError, match="upgraded only after a backup beside it: a backup needs 7 MiB"):
        sqlite_store(path, Clock()).open()
    assert (_content(path), _schema(path)[0]) == (before, NOW - 1)


@pytest.mark.parametrize("version", OLDER)
async def test_what_a_roll_back_needs_is_there_and_nothing_is_lost_or_repeated_new_old_new(
    tmp_path: Path, version: int, log_lines: Lines
) -> None:
    ran: list[str] = []

    @on("SIM/Updated")
    async def handle(event: Event) -> None:
        ran.append(event.event_id)

    path = journal_of(version, tmp_path / "journal.db")
    old = _schema(path), _content(path)
    backup = path.with_name(f"journal.db.v{version}")
    async with delivering(tmp_path, handle) as delivery:
        (line,) = [line for line in log_lines() if line["action"] == "journal.upgraded"]
        assert (line["before"], line["version"], line["backup"]) == (version, NOW, str(backup))
        assert stat.S_IMODE(backup.stat().st_mode) == 0o600
        await delivery.accept("of the new one", 8)
        await delivery.become(**{"of the new one": "done"})
    assert (_schema(backup), _content(backup)) == old
    restored = await asyncio.to_thread(_run, path, "restore", str(backup))
    assert restored.exit_code == 0, restored.output
    assert (_schema(path), _content(path)) == old

    with closing(sqlite3.connect(path, isolation_level=None)) as db:  # the old one handles what waited
        db.execute("DELETE FROM open WHERE seq = 1")
        db.execute("INSERT INTO outcomes VALUES (1, 'done', 1500, 1, 1, 'by the old one')")
        if version >= 4:
            db.execute("DELETE FROM touches WHERE seq = 1")
            db.execute("UPDATE open SET blockers = 0 WHERE seq = 2")
    async with delivering(tmp_path, handle) as delivery:
        await delivery.become(waits="done", behind="done", dead="dead", done="done")
        await delivery.quiet()
        assert not await delivery.accept("waits", 7)
    assert ran == ["of the new one", "behind"]
