"""A disk gives back other bytes than it got, in one row: its event ends, and says why; everything else goes on."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from connector import DeadLetter, Event, Retry, on
from connector.__main__ import main
from connector.outcome import RetryPolicy
from tests.delivering import Delivery, delivering

LATER = RetryPolicy(base=1000.0, longest=1000.0, max_attempts=50, max_age=1e9)
VICTIM = "victim"
VALUES = {
    "no UTF-8": "CAST(x'41ff42' AS TEXT)",
    "bytes": "x'ff00'",
    "a text": "'rotten'",
    "a number": "77",
    "a huge number": "1e300",
}
OF_ANOTHER_TYPE = [*VALUES][:2]
OF_EVENT = (
    *(
        ("events", each)
        for each in ("event_id", "event_type", "lane", "request_id", "unique_id", "accepted_at", "body")
    ),
    ("events", "earlier"),
    *(("open", each) for each in ("state", "attempt", "due", "blockers")),
    ("touches", "resource"),
    *(("marks", each) for each in ("resource", "name", "updated", "created", "happened", "event_id")),
    *(("attempts", each) for each in ("ended_at", "ms", "reason")),
    *(("progress", each) for each in ("handler", "state", "attempts", "ms", "reason")),
)
OF_ENDED = (
    *(("outcomes", each) for each in ("state", "ended_at", "attempt", "ms", "reason")),
    *(("events", each) for each in ("event_id", "event_type", "lane", "accepted_at", "body")),
)
OF_JOURNAL = (
    ("counters", "name"),
    ("counters", "count"),
    ("newest", "updated"),
    ("newest", "event_id"),
    ("generations", "last_at"),
    ("generations", "last_seq"),
    ("generations", "filter"),
    ("meta", "away"),
    ("meta", "away_since"),
)
COMMANDS = (
    ("events", "list"),
    ("events", "show", "ended", "--json"),
    ("lanes",),
    ("stats", "--json"),
    ("replay", "--state", "dead", "--dry-run"),
)


@on("SIM/Updated", latest_only=True)
async def first(event: Event) -> None:
    """As the id says."""
    if event.event_id == VICTIM:
        await asyncio.sleep(0)
    if event.event_id.startswith("dead"):
        raise DeadLetter("no")


@on("SIM/Updated")
async def second(event: Event) -> None:
    """Ask for a retry once, so that there are attempts and steps."""
    if event.event_id in (VICTIM, "waits") and event.attempt == 1:
        raise Retry("not yet")


@pytest.fixture
async def filled(tmp_path: Path) -> Delivery:
    """A stopped journal: ``ended`` and ``dead`` have ended, ``victim`` and ``waits`` wait, each with one behind it."""
    async with delivering(tmp_path, first, second, policy=LATER) as delivery:
        await delivery.accept("ended", 9, updated_at="1970-01-01T00:10:00Z")
        await delivery.accept("dead", 8)
        await delivery.accept(VICTIM, 1, updated_at="1970-01-01T00:10:00Z")
        await delivery.accept("waits", 2)
        await delivery.become(ended="done", dead="dead", victim="waiting", waits="waiting")
        await delivery.accept("behind", 1)
        await delivery.accept("behind-other", 2)
        delivery.clock.now += 5000
    return delivery


def _rot(path: Path, table: str, column: str, value: str, where: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"UPDATE {table} SET {column} = {value} WHERE {where}")


def _seq(path: Path, event_id: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT seq FROM events WHERE event_id = ?", (event_id,)).fetchone()[0])


def _run(path: Path, *arguments: str) -> str:
    env = {"JOURNAL_URL": f"sqlite:///{path}", "MIN_FREE_DISK": "0"}
    result = CliRunner().invoke(main, arguments, env=env)
    assert result.exit_code == 0, f"{arguments}: {result.output} {result.exception!r}"
    return result.output


async def _starts_and_goes_on(delivery: Delivery) -> str:
    """Start, look with every command, let all be handled; the victim's state at the end."""
    for command in COMMANDS:
        await asyncio.to_thread(_run, delivery.path, *command)
    seq = 3
    await delivery.start()
    try:
        await delivery.later(5000)
        await delivery.until(lambda: delivery.states().get("behind-other") == "done")
        await delivery.until(lambda: delivery.states().get("behind") in ("done", "superseded"))
        assert await delivery.accept("new", 1)
        await delivery.become(new="done")
        await delivery.until(lambda: delivery.journal.size == 0)
        victim = next(series for series in delivery.find() if series.seq == seq)
    finally:
        await delivery.stop()
    assert victim.state != "dead" or "read" in victim.reason
    return victim.state


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize(("table", "column"), OF_EVENT)
async def test_a_rotten_value_of_an_open_event_ends_that_event_and_no_other(
    filled: Delivery, table: str, column: str, kind: str
) -> None:
    seq = _seq(filled.path, VICTIM)
    assert seq == 3
    one = "handler LIKE '%first'" if table == "progress" else "1"
    _rot(filled.path, table, column, VALUES[kind], f"seq = {seq} AND {one}")
    state = await _starts_and_goes_on(filled)
    if (table, kind) == ("events", "no UTF-8") and column != "earlier":
        assert state == "dead"
    assert state in ("dead", "done", "superseded", "ignored")  # a type that nobody takes is a text as any other


@pytest.mark.parametrize("kind", OF_ANOTHER_TYPE)
@pytest.mark.parametrize(("table", "column"), OF_ENDED)
async def test_a_rotten_value_of_an_ended_event_stops_nothing(
    filled: Delivery, table: str, column: str, kind: str
) -> None:
    _rot(filled.path, table, column, VALUES[kind], "seq <= 2")
    assert await _starts_and_goes_on(filled) in ("done", "superseded")


@pytest.mark.parametrize("kind", OF_ANOTHER_TYPE)
@pytest.mark.parametrize(("table", "column"), OF_JOURNAL)
async def test_a_rotten_value_of_the_journal_itself_stops_nothing(
    filled: Delivery, table: str, column: str, kind: str
) -> None:
    _rot(filled.path, table, column, VALUES[kind], "name = 'accepted'" if table == "counters" else "1")
    assert await _starts_and_goes_on(filled) in ("done", "superseded")


async def test_a_body_that_rots_while_its_event_waits_ends_it_and_its_subscriber_goes_on(tmp_path: Path) -> None:
    async with delivering(tmp_path, first, second, policy=LATER) as delivery:
        for event_id, i_account, note in ((VICTIM, 1, "x" * 100_000), ("waits", 2, "")):
            await delivery.accept(event_id, i_account, note=note)
        await delivery.become(victim="waiting", waits="waiting")
        await delivery.accept("behind", 1, event_type="SIM/Replaced")
        _rot(delivery.path, "events", "body", "x'7b00' || substr(body, 3)", f"event_id = '{VICTIM}'")
        await delivery.later(5000)
        await delivery.become(victim="dead", waits="done", behind="ignored")
        (victim,) = delivery.find(event_id=VICTIM)
        assert victim.reason.startswith("its body cannot be read any more")
        assert await delivery.command("replay", VICTIM) == {VICTIM: f"not replayed: {victim.reason}"}
        await delivery.accept(VICTIM, 1)
        await delivery.until(lambda: delivery.find(event_id=VICTIM)[-1].state in ("waiting", "superseded"))


async def test_a_rotten_event_is_held_where_dead_ones_are_and_can_be_skipped(tmp_path: Path) -> None:
    async with delivering(tmp_path, first, second, policy=LATER, hold_dead=True) as delivery:
        await delivery.accept(VICTIM, 1)
        await delivery.become(victim="waiting")
        await delivery.accept("behind", 1, event_type="SIM/Replaced")
        _rot(delivery.path, "events", "lane", VALUES["no UTF-8"], f"event_id = '{VICTIM}'")
        await delivery.later(5000)
        await delivery.become(victim="held")
        assert await delivery.command("skip", "i_account:1") == {"i_account:1": "skipped"}
        await delivery.become(victim="dead", behind="ignored")


async def test_a_command_that_is_rotten_is_answered_and_stops_nothing(tmp_path: Path) -> None:
    async with delivering(tmp_path, first) as delivery:
        with closing(sqlite3.connect(delivery.path, isolation_level=None)) as db:
            for value in VALUES.values():
                db.execute(f"INSERT INTO commands (made_at, command) VALUES (1000, {value})")
        assert await delivery.command("pause") == {"delivery": "paused"}
