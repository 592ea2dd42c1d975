"""The journal's file: what is refused, what is upgraded, what is taken out of it and what is not used again."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connector.errors import StartError
from connector.journal import Entry
from connector.journal.queries import Filter, Find, ReadStats
from connector.journal.sqlite import file, sound, wal
from connector.journal.sqlite import upkeep as tidy
from connector.journal.sqlite.file import APPLICATION_ID, MIGRATIONS
from connector.journal.sqlite.store import SqliteStore
from connector.journal.store import Batch, StoreError
from connector.outcome import Outcome
from tests.journal_support.batches import keep, may_run, settle
from tests.journal_support.engines import DEAD, DONE, Clock, sqlite_store, waiting
from tests.journal_support.events import event


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(memory_disk: Path) -> Path:
    return memory_disk / "journal.db"


def _open(path: Path, clock: Clock, **settings: Any) -> SqliteStore:
    store = sqlite_store(path, clock, **settings)
    store.open()
    return store


def _filled(path: Path, clock: Clock, events: int = 200) -> None:
    with closing(_open(path, clock)) as store:
        keep(store, *[event(lane=f"lane:{number}") for number in range(events)])


def _refusal(path: Path, clock: Clock) -> str:
    before = path.read_bytes()
    with pytest.raises(StartError) as refused:
        _open(path, clock)
    assert path.read_bytes() == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_file_that_is_no_database_is_refused_with_the_way_out_and_left_alone(path: Path, clock: Clock) -> None:
    path.write_bytes(b"not a database, but the only copy of something" * 100)
    assert "new file" in _refusal(path, clock)


@pytest.mark.parametrize("page", [1, 2, 5, -1])
def test_damaged_page_is_refused_with_the_way_out_and_left_alone(path: Path, clock: Clock, page: int) -> None:
    _filled(path, clock)
    content = bytearray(path.read_bytes())
    start = (page % (len(content) // 4096)) * 4096
    content[start : start + 4096] = bytes(255 - each for each in content[start : start + 4096])
    path.write_bytes(content)
    refusal = _refusal(path, clock)
    assert "damaged" in refusal
    assert ".recover" in refusal


def _busy_journal(path: Path, clock: Clock) -> None:
    """Events in every state, with small bodies and large ones."""
    with closing(_open(path, clock)) as store:
        for _ in range(6):
            new = [
                event(lane=f"lane:{number}", padding=(number % 3) * 6000, accepted_at=clock.now) for number in range(60)
            ]
            free = [each for each in keep(store, *new) if not each.blockers]
            settle(store, *((each, (DONE, DEAD, waiting())[each.seq % 3]) for each in free))


def _damage(path: Path, page: int) -> None:
    with path.open("r+b") as file_:
        file_.seek((page - 1) * 4096)
        file_.write(b"\xa5" * 4096)


@pytest.mark.parametrize("table", ["meta", "events", "open", "touches", "outcomes", "attempts", "generations", "ids_1"])
def test_damage_of_a_file_too_large_to_be_checked_whole_is_found_where_it_is_read(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(file, "QUICK_CHECK_BYTES", 0)
    _busy_journal(path, clock)
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    _damage(path, page)
    assert "damaged" in _refusal(path, clock)


def test_no_damage_of_events_lets_a_large_file_start_and_die(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "QUICK_CHECK_BYTES", 0)
    monkeypatch.setattr(sound, "CHECK_SECONDS", 3600.0)
    monkeypatch.setattr(tidy, "PRUNE_REST_SECONDS", 0.0)
    _busy_journal(path, clock)
    whole = path.read_bytes()
    refused = 0
    for page in range(15, len(whole) // 4096, 13):
        path.write_bytes(whole)
        _damage(path, page)
        later = Clock()
        try:
            store = _open(path, later, keep_done=1, keep_dead=1)
        except StartError:
            refused += 1
            continue
        with closing(store):  # what is damaged is inside a body: the event is dead, everything goes on
            later.now += 1e6
            entries, _ = may_run(store, later.now, due=1_000_000)
            settle(store, *((each, DONE) for each in entries))
            later.now += 1e6
            while store.upkeep():
                pass
    assert refused > 5


def test_first_transaction_after_a_start_prunes_nothing(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock)) as store:
        settle(store, *((each, DONE) for each in keep(store, *(event(lane=f"lane:{n}") for n in range(50)))))
    clock.now += 1000
    with closing(_open(path, clock, keep_done=1)) as store:
        keep(store, event(accepted_at=clock.now))
        assert store._db.execute("SELECT count(*) FROM outcomes").fetchone() == (50,)
        while store.upkeep():
            pass
        assert store._db.execute("SELECT count(*) FROM outcomes").fetchone() == (0,)


def test_file_cut_short_is_refused(path: Path, clock: Clock) -> None:
    _filled(path, clock)
    path.write_bytes(path.read_bytes()[: 4096 * 10])
    assert "damaged" in _refusal(path, clock)


def test_write_ahead_log_of_a_damaged_file_is_left_for_its_rescue(path: Path, clock: Clock) -> None:
    _filled(path, clock)
    with closing(_open(path, clock)) as store:
        keep(store, event())
        files = {each: path.with_name(each).read_bytes() for each in ("journal.db", "journal.db-wal")}
    for name, content in files.items():
        path.with_name(name).write_bytes(content)
    path.write_bytes(files["journal.db"][: 4096 * 4] + b"\xff" * (len(files["journal.db"]) - 4096 * 4))
    assert "-wal" in _refusal(path, clock)
    assert path.with_name("journal.db-wal").read_bytes() == files["journal.db-wal"] != b""


def test_database_of_another_application_is_refused_and_left_alone(path: Path, clock: Clock) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE pets (name TEXT); INSERT INTO pets VALUES ('Rex');")
    assert "something else" in _refusal(path, clock)


def test_file_of_a_newer_connector_is_refused_and_left_alone(path: Path, clock: Clock) -> None:
    _filled(path, clock)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    assert "newer connector" in _refusal(path, clock)


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_file_of_every_older_version_is_upgraded(path: Path, clock: Clock, version: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        if version:
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {version}")
    first = event()
    with closing(_open(path, clock)) as store:
        keep(store, first)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    with closing(_open(path, clock)) as store:
        assert [each.event.event_id for each in may_run(store)[0]] == [first.event_id]


def test_upgrade_that_fails_leaves_the_older_version(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    _filled(path, clock)
    step = "CREATE TABLE more (id); INSERT INTO nowhere VALUES (1);"
    monkeypatch.setattr(file, "MIGRATIONS", (*MIGRATIONS, step))
    with pytest.raises(StartError):
        _open(path, clock)
    monkeypatch.setattr(file, "MIGRATIONS", MIGRATIONS)
    with closing(_open(path, clock)) as store:
        assert store.open_events == 200


def test_second_owner_is_refused_and_told_the_first(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock)), pytest.raises(StartError, match=r"in use by process \d+ on"):
        _open(path, clock)
    _open(path, clock).close()


def test_each_owner_has_an_epoch_of_its_own(path: Path, clock: Clock) -> None:
    for owner in range(1, 4):
        with closing(_open(path, clock)), closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT epoch FROM meta").fetchone() == (owner,)


def test_folder_is_made_with_its_parents(tmp_path: Path, clock: Clock) -> None:
    _open(tmp_path / "a" / "b" / "journal.db", clock).close()


def test_page_damaged_while_running_is_not_written_over(path: Path, clock: Clock) -> None:
    _filled(path, clock, 2000)
    with closing(_open(path, clock)) as store:
        content = bytearray(path.read_bytes())
        for start in range(4096, len(content), 4096):
            content[start : start + 16] = b"\xff" * 16
        path.write_bytes(content)
        with pytest.raises(StoreError) as fault:
            may_run(store)
        assert fault.value.fatal


def test_command_left_while_the_journal_could_not_be_written_is_seen_afterwards(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store.commit(Batch())
        other.execute("BEGIN IMMEDIATE")
        store._db.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(StoreError, match="locked"):
            store.commit(Batch())
        other.execute("""INSERT INTO commands (made_at, command) VALUES (1000, '{"verb":"pause"}')""")
        other.execute("COMMIT")
        store.recover()
        assert store.has_mail()
        store.commit(batch := Batch())
        assert batch.change is not None
        assert not store.has_mail()


@pytest.fixture
def pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "PRUNE_REST_SECONDS", 0.0)


def _end(store: SqliteStore, event_id: str, outcome: Outcome) -> Entry:
    """Keep an event and settle it."""
    (entry,) = keep(store, event(event_id))
    settle(store, (entry, outcome))
    return entry


def _is_new(store: SqliteStore, event_id: str) -> bool:
    return bool(keep(store, event(event_id)))


def _prune(store: SqliteStore) -> None:
    while store.upkeep():
        pass


@pytest.mark.usefixtures("pruning")
def test_sequence_number_is_not_used_again_when_its_event_was_pruned(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock, keep_done=10)) as store:
        _end(store, "first", DONE)
        clock.now += 60
        _prune(store)
    with closing(_open(path, clock, keep_done=10)) as store:
        assert store.last_seq == 1
        assert _end(store, "second", DEAD).seq == 2
        assert not _is_new(store, "first")  # it has nothing to do with the event that died


@pytest.mark.usefixtures("pruning")
def test_duplicate_is_known_when_its_payload_is_gone(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock, keep_done=10)) as store:
        _end(store, "same", DONE)
        clock.now += 60
        _prune(store)
        assert not _is_new(store, "same")
    with closing(_open(path, clock)) as store:
        assert not _is_new(store, "same")


@pytest.mark.usefixtures("pruning")
def test_dead_event_can_be_sent_anew_when_its_payload_is_gone(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock, keep_dead=10)) as store:
        _end(store, "same", DEAD)
        clock.now += 60
        _prune(store)
        assert _is_new(store, "same")
        assert not _is_new(store, "same")


@pytest.mark.usefixtures("pruning")
def test_pruning_an_older_dead_series_does_not_forget_the_newer_one(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock, keep_dead=10)) as store:
        _end(store, "same", DEAD)
        _end(store, "same", DONE)
        clock.now += 60
        _prune(store)
        assert not _is_new(store, "same")


@pytest.mark.usefixtures("pruning")
def test_pruning_takes_what_is_over_and_leaves_the_rest(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock, keep_done=100, keep_dead=1000)) as store:
        names = ("done", "dead", "waiting", "open", "late")
        kept = keep(store, *[event(accepted_at=clock.now, lane=f"lane:{name}") for name in names])
        events = dict(zip(names, kept, strict=True))
        outcomes = {"done": DONE, "dead": DEAD, "waiting": waiting(9e9)}
        settle(store, *[(events[name], outcome) for name, outcome in outcomes.items()])
        clock.now += 90
        settle(store, (events["late"], DONE))
        for passed, left in (
            (20, {"dead", "waiting", "open", "late"}),
            (100, {"dead", "waiting", "open"}),
            (1000, {"waiting", "open"}),
        ):
            clock.now += passed
            _prune(store)
            with closing(sqlite3.connect(path)) as db:
                found = {seq for (seq,) in db.execute("SELECT seq FROM events")}
            assert found == {events[name].seq for name in left}


@pytest.mark.usefixtures("pruning")
def test_pruning_looks_at_a_few_rows_at_a_time(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock, keep_done=100)) as store:
        for _ in range(10):
            events = [event(accepted_at=clock.now) for _ in range(500)]
            settle(store, *[(each, DONE) for each in keep(store, *events)])
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        store._db.set_progress_handler(step, 100)
        store.commit(Batch())
        in_vain, steps = steps, 0
        clock.now += 1000
        store.commit(Batch())
        assert in_vain < 100
        assert steps < 1000


def _steps_of_a_round(store: SqliteStore) -> int:
    steps = 1
    while store.upkeep():
        steps += 1
    return steps


@pytest.mark.usefixtures("pruning")
def test_what_is_kept_long_is_not_looked_at_in_each_round(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock, keep_done=10, keep_dead=1e6)) as store:
        new = [event(lane=f"lane:{number}", accepted_at=clock.now) for number in range(1000)]
        first, second, *dead = keep(store, *new)
        settle(store, *((each, DEAD) for each in dead))
        clock.now += 100
        keep(store, event())  # the first transaction prunes nothing
        assert _steps_of_a_round(store) > 8
        assert _steps_of_a_round(store) <= 2
        settle(store, (first, DONE), (second, DEAD))  # late, among what is kept long
        recent = keep(store, event(accepted_at=clock.now, lane="lane:recent"))
        settle(store, *((each, DONE) for each in recent))
        clock.now += 20
        assert _steps_of_a_round(store) <= 2
        assert {each.state for each in store.answer(Find(Filter(), 9999))} == {"dead", "done", "pending"}
        clock.now += tidy.ALL_SECONDS
        assert _steps_of_a_round(store) > 8
        assert {each.state for each in store.answer(Find(Filter(), 9999))} == {"dead", "pending"}
        clock.now += 1e6
        _steps_of_a_round(store)
        assert {each.state for each in store.answer(Find(Filter(), 9999))} == {"pending"}


@pytest.mark.usefixtures("pruning")
def test_file_stops_growing_under_steady_load(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal, "LOG_BYTES", 1 << 20)
    monkeypatch.setattr(wal, "MARGIN_BYTES", 1 << 20)
    sizes = []
    with closing(_open(path, clock, keep_done=20)) as store:
        for _ in range(120):
            clock.now += 1
            events = [event(accepted_at=clock.now, padding=1500) for _ in range(50)]
            settle(store, *[(each, DONE) for each in keep(store, *events)])
            if store._log._moving is not None:
                store._log._moving.result()  # a busy machine may take longer to move the log than to write this round
            while store.wants_upkeep:
                store.upkeep()
            sizes.append(sum(path.with_name(name).stat().st_size for name in ("journal.db", "journal.db-wal")))
    assert max(sizes[60:]) <= 1.2 * max(sizes[:60])


@pytest.mark.usefixtures("pruning")
def test_file_gives_room_back_when_a_flood_is_over(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock, keep_done=20)) as store:
        events = [event(accepted_at=clock.now, padding=1500) for _ in range(2000)]
        settle(store, *[(each, DONE) for each in keep(store, *events)])
    full = path.stat().st_size
    clock.now += 100
    with closing(_open(path, clock, keep_done=20)) as store:
        steps = 1
        while store.upkeep():
            steps += 1
    assert path.stat().st_size < full / 2
    assert steps < 2000 // tidy.PRUNE_ROWS + full // 4096 // tidy.VACUUM_PAGES + 5


def test_large_bodies_do_not_fill_the_disk_with_the_write_ahead_log(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock)) as store:
        for _ in range(100):
            keep(store, event(padding=2 << 20))
            while store.wants_upkeep:
                store.upkeep()
        assert Path(f"{path}-wal").stat().st_size < 150 << 20


def test_claiming_due_events_does_not_look_at_pending_ones(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock)) as store:
        events = [event(lane=f"lane:{number}") for number in range(5000)]
        first, second, *_ = keep(store, *events)
        settle(store, (first, waiting(1.0)), (second, waiting(1e9)))
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        store._db.set_progress_handler(step, 100)
        assert store._order.claim_due(2.0, 10) == ([first.seq], 1e9)
        assert steps < 20


@pytest.mark.usefixtures("pruning")
def test_sequence_number_of_a_dead_event_that_is_pruned_and_forgotten_is_not_used_again(
    path: Path, clock: Clock
) -> None:
    with closing(_open(path, clock, keep_dead=10)) as store:
        _end(store, "kept", DONE)
        _end(store, "dead", DEAD)
        clock.now += 60
        _prune(store)
    with closing(_open(path, clock, keep_dead=10)) as store:
        assert store.last_seq == 2
        assert _end(store, "next", DONE).seq == 3


def test_command_that_was_left_a_week_ago_is_not_carried_out(path: Path, clock: Clock) -> None:
    clock.now = 1e9
    with closing(_open(path, clock)) as store:
        store.commit(Batch())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for age, verb in ((7 * 86400, "pause"), (60, "resume")):
            text = f'{{"verb":"{verb}"}}'
            other.execute("INSERT INTO commands (made_at, command) VALUES (?, ?)", (clock.now - age, text))
    with closing(_open(path, clock)) as store:
        store.commit(batch := Batch())
        assert batch.change is not None
        assert [verb for verb, _ in batch.change.acts] == ["resume"]


def test_outage_that_was_noted_before_a_stop_is_not_noted_for_ever(path: Path, clock: Clock) -> None:
    with closing(_open(path, clock)) as store:
        store.commit(Batch(calls=[lambda each: each.note_target("it does not answer")]))
        assert store.answer(ReadStats()).target_away is not None
    with closing(_open(path, clock)) as store:
        assert store.answer(ReadStats()).target_away is None


def test_names_of_the_file_and_of_folders_that_were_made_for_it_are_synced(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(file, "sync", synced.append)  # what a power cut does to names cannot be had otherwise
    path = tmp_path / "one" / "two" / "journal.db"
    _open(path, clock).close()
    assert {tmp_path, tmp_path / "one", tmp_path / "one" / "two"} <= set(synced)
