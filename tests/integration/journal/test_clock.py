"""A clock that is days ahead or behind at a start: nothing is destroyed, nothing given up, and nothing stands still."""

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connector import Event, Retry, on
from connector.events.snapshot import Snapshot
from connector.journal import Kept
from connector.journal.queries import Filter, Find
from connector.journal.sqlite import remembered
from connector.journal.sqlite.store import SqliteStore
from connector.journal.store import Append, Batch
from connector.outcome import Mark, Outcome, RetryPolicy
from tests.conftest import Lines
from tests.delivering import delivering
from tests.journal_support.batches import settle
from tests.journal_support.engines import DEAD, DONE, Clock, sqlite_store
from tests.journal_support.events import event

DAY = 86400.0
START = 1_000 * DAY


class _Runs:
    """A journal that is opened again and again, by a clock that shows something else each time."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.clock = Clock()
        self.clock.now = START
        self._path = folder / "journal.db"
        self._settings = settings

    def start(self) -> SqliteStore:
        store = sqlite_store(self._path, self.clock, **self._settings)
        store.open()
        return store

    def end(self, store: SqliteStore, count: int, prefix: str) -> None:
        """Keep and end ``count`` events."""
        batch = Batch(appends=[Append(event(f"{prefix}-{n}", accepted_at=self.clock.now)) for n in range(count)])
        store.commit(batch)
        settle(store, *((entry, DONE if entry.seq % 2 else DEAD) for entry in batch.entries if entry is not None))

    def idle(self, store: SqliteStore) -> None:
        """Let it be idle for a time, which passes by ``PRUNE_REST_SECONDS`` at a time."""
        for _ in range(20):
            self.clock.now += 11
            while store.upkeep():
                pass


def _there(store: SqliteStore) -> int:
    return len(store.answer(Find(Filter(), 10_000)))


def test_an_idle_start_forty_days_ahead_forgets_no_id_and_prunes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "GENERATION", 10)
    runs = _Runs(tmp_path, keep_done=7 * DAY, keep_dead=30 * DAY, keep_ids=35 * DAY)
    with closing(runs.start()) as store:
        runs.end(store, 100, "kept")
        runs.idle(store)
    runs.clock.now += 40 * DAY
    with closing(runs.start()) as store:
        runs.idle(store)
        assert _there(store) == 100
    runs.clock.now -= 40 * DAY
    with closing(runs.start()) as store:
        runs.idle(store)
        assert _there(store) == 100
        again = Batch(appends=[Append(event(f"kept-{n}")) for n in range(0, 100, 2)])
        store.commit(again)
        assert set(again.kept) == {Kept.DUPLICATE}


def test_a_clock_that_is_ahead_for_good_prunes_what_the_journal_has_seen_for_long_enough(tmp_path: Path) -> None:
    runs = _Runs(tmp_path, keep_done=7 * DAY, keep_dead=7 * DAY)
    with closing(runs.start()) as store:
        runs.end(store, 10, "before")
        runs.clock.now += 3 * DAY
        store.upkeep()
    runs.clock.now += 40 * DAY
    with closing(runs.start()) as store:
        runs.end(store, 10, "after")
        runs.idle(store)
        assert _there(store) == 20
        runs.clock.now += 4 * DAY
        runs.idle(store)
        assert _there(store) == 10
        runs.clock.now += 3 * DAY
        runs.idle(store)
        assert _there(store) == 0


def test_events_of_a_clock_that_was_ahead_stop_no_pruning(tmp_path: Path) -> None:
    runs = _Runs(tmp_path, keep_done=2 * DAY, keep_dead=2 * DAY)
    runs.clock.now += 40 * DAY
    with closing(runs.start()) as store:
        runs.end(store, 500, "future")
    runs.clock.now -= 40 * DAY
    with closing(runs.start()) as store:
        runs.end(store, 500, "now")
        runs.clock.now += DAY
        runs.idle(store)
        assert _there(store) == 1000
        runs.clock.now += DAY
        runs.idle(store)
        assert _there(store) == 0


def test_a_clock_that_was_years_behind_for_one_run_destroys_nothing(tmp_path: Path) -> None:
    runs = _Runs(tmp_path, keep_done=2 * DAY, keep_dead=2 * DAY, keep_ids=2 * DAY)
    with closing(runs.start()) as store:
        runs.end(store, 10, "before")
    runs.clock.now = 1000.0
    with closing(runs.start()) as store:
        runs.end(store, 10, "at the epoch")
        runs.idle(store)
    runs.clock.now = START + DAY
    with closing(runs.start()) as store:
        runs.idle(store)
        assert _there(store) == 20
        runs.clock.now += 2 * DAY
        runs.idle(store)
        assert _there(store) == 0


def test_a_jump_is_remembered_as_long_as_the_journal_has_seen_and_not_as_the_clock_says(tmp_path: Path) -> None:
    runs = _Runs(tmp_path, keep_done=2 * DAY, keep_dead=2 * DAY, keep_ids=2 * DAY, keep_newest=2 * DAY)
    runs.clock.now = START - 400 * DAY
    with closing(runs.start()) as store:
        runs.end(store, 10, "years behind")
    for now in (START, START + 400 * DAY, START):
        runs.clock.now = now
        for _ in range(2):
            with closing(runs.start()) as store:
                runs.idle(store)
                assert _there(store) == 10


@pytest.mark.parametrize("seed", range(10))
def test_no_series_of_jumps_destroys_what_the_journal_has_not_seen_for_long_enough(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    runs = _Runs(tmp_path, keep_done=2 * DAY, keep_dead=2 * DAY, keep_ids=2 * DAY, keep_newest=2 * DAY)
    kept = 0
    for _ in range(20):
        runs.clock.now = START + chance.choice((-400, -3, 0, 3, 40, 400)) * DAY + kept
        with closing(runs.start()) as store:
            runs.end(store, 2, f"{kept}")
            kept += 2
            while store.upkeep():
                pass
            assert _there(store) == kept


@on("SIM/Updated")
async def busy(_: Event) -> None:
    """Ask for a retry, always."""
    raise Retry("busy")


async def test_a_retrying_event_is_not_given_up_by_a_clock_that_is_days_ahead_at_a_start(tmp_path: Path) -> None:
    policy = RetryPolicy(base=10.0, longest=10.0, max_age=DAY)
    async with delivering(tmp_path, busy, policy=policy) as delivery:
        delivery.clock.now = START
        await delivery.accept("busy")
        await delivery.become(busy="waiting")
        for days in (5, -8, 10):
            await delivery.stop()
            delivery.clock.now += days * DAY
            await delivery.start()
            await delivery.later(30.0)
            attempts = delivery.find()[0].attempts
            await delivery.later(30.0)
            await delivery.until(lambda before=attempts: delivery.find()[0].attempts > before)  # type: ignore[misc]
            await delivery.become(busy="waiting")
        delivery.clock.now += DAY
        await delivery.later(30.0)
        await delivery.become(busy="dead")


def test_a_jump_of_the_clock_is_said(tmp_path: Path, log_lines: Lines) -> None:
    runs = _Runs(tmp_path)
    runs.start().close()
    for days, text in ((3, "last written 72.0 hours ago"), (-3, "set back by 72.0 hours")):
        runs.clock.now += days * DAY
        runs.start().close()
        assert [line["action"] for line in log_lines() if text in line["message"]] == ["journal.clock"]
    runs.clock.now += 600
    runs.start().close()
    assert log_lines() == []


def _marks(store: SqliteStore) -> int:
    return int(store._db.execute("SELECT count(*) FROM newest").fetchone()[0])


def test_marks_of_what_was_applied_are_forgotten_after_their_time_a_few_at_a_time(tmp_path: Path) -> None:
    runs = _Runs(tmp_path, keep_newest=365 * DAY)
    with closing(runs.start()) as store:
        for part in ("old", "new"):
            runs.clock.now += 300 * DAY
            batch = Batch(appends=[Append(event(f"{part}-{n}")) for n in range(250)])
            store.commit(batch)
            times = Snapshot(runs.clock.now, None, None, 1, part)
            entries = [entry for entry in batch.entries if entry is not None]
            marked = [Outcome("done", applied=((Mark("handler", f"{part}:{each.seq}"), times),)) for each in entries]
            settle(store, *zip(entries, marked, strict=True))
        runs.idle(store)
        assert _marks(store) == 500
        runs.clock.now += 100 * DAY
        store.upkeep()
        assert _marks(store) > 250
        runs.idle(store)
        assert _marks(store) == 250


async def test_times_from_the_future_count_as_missing_and_are_said(tmp_path: Path, log_lines: Lines) -> None:
    @on("SIM/Updated", latest_only=True)
    async def write(_: Event) -> None:
        pass

    async with delivering(tmp_path, write) as delivery:
        await delivery.accept("ahead", updated_at="2099-01-01T00:00:00Z")
        await delivery.become(ahead="done")
        await delivery.accept("now", updated_at="1970-01-01T00:10:00Z")
        await delivery.become(now="done")
    ahead = [(line["event_id"], line["path"]) for line in log_lines() if line["action"] == "event.time_ahead"]
    assert ahead == [("ahead", "updated_at")]
