"""The operator's service, on every engine from inside its process, and on an SQLite file from outside."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from connector.admin.service import Acted, AdminService, Selection
from connector.errors import Invalid, NotKnown, Unavailable
from connector.journal.queries import Filter
from connector.journal.sqlite.outside import SqliteOutside
from connector.outcome import Step
from tests import events
from tests.journal_support.engines import DEAD, DONE, Bench, sqlite_store, waiting
from tests.journal_support.events import event

WAYS = ("memory", "simplest", "logged", "sqlite", "sqlite beside a connector", "sqlite of a stopped connector")


class Operated:
    """A journal with an event in each of some states, and the service on it."""

    def __init__(self, way: str, folder: Path) -> None:
        self.bench = Bench(way.partition(" ")[0], folder)
        self.stopped = way.endswith("stopped connector")
        bench = self.bench
        outside = SqliteOutside(bench.path, lambda: sqlite_store(bench.path, bench.clock))
        self.admin = AdminService(outside if " " in way else bench.journal)

    async def fill(self) -> None:
        """Keep events and settle some: two of one subscriber, of which the first waits, and three that have ended."""
        bench, minutes = self.bench, 60.0
        await bench.open()
        for event_id, resource, outcome, kind in (
            ("done", "i_account:1", DONE, "SIM/Updated"),
            ("dead", "i_account:1", DEAD, "SIM/Updated"),
            ("dead-other", "i_account:3@1", DEAD, "SIM/Replaced"),
            ("busy", "i_account:2", waiting(1e9), "SIM/Updated"),
        ):
            await bench.keep(event(event_id, resource, bench.clock.now, event_type=kind))
            entry = await bench.take()
            bench.journal.note(entry, Step("handler", "done", 1, "well", 3))
            await bench.settle(entry, outcome)
            bench.clock.now += minutes
        await bench.keep(event("behind", "i_account:2", bench.clock.now))
        if self.stopped:
            await bench.journal.close()

    async def close(self) -> None:
        """Close what is open."""
        if not self.stopped:
            await self.bench.journal.close()

    async def found(self, limit: int = 100, **wanted: object) -> list[str]:
        """The ids that ``list`` finds."""
        return [each.event_id for each in await self.admin.list(msgspec.convert(wanted, Filter), limit)]


@pytest.fixture(params=WAYS)
async def operated(request: pytest.FixtureRequest, memory_disk: Path) -> AsyncIterator[Operated]:
    operated = Operated(request.param, memory_disk)
    await operated.fill()
    yield operated
    await operated.close()


async def test_every_filter_finds_the_same_on_every_engine(operated: Operated) -> None:
    assert await operated.found() == ["behind", "busy", "dead-other", "dead", "done"]
    assert await operated.found(limit=2) == ["behind", "busy"]
    assert await operated.found(state="dead") == ["dead-other", "dead"]
    assert await operated.found(event_type="SIM/Replaced") == ["dead-other"]
    assert await operated.found(resource="3") == ["dead-other"]
    assert await operated.found(event_id="dead") == ["dead"]
    assert await operated.found(since=1060.0, until=1180.0) == ["dead-other", "dead"]
    assert await operated.found(text="LAT") == ["busy"]


async def test_show_has_the_attempts_the_steps_and_a_masked_body(operated: Operated) -> None:
    shown = await operated.admin.show("busy")
    (series,) = shown.series
    assert (series.series.state, series.series.attempts, series.series.reason) == ("waiting", 1, "later")
    assert [(each.attempt, each.reason) for each in series.failed_attempts] == [(1, "later")]
    assert [(each.handler, each.state) for each in series.steps] == [("handler", "done")]
    assert shown.body["data"] == {"event_type": "SIM/Updated"}


async def test_personal_fields_are_masked_for_every_face() -> None:
    bench = Bench("memory", Path())
    await bench.open()
    full = event("full")
    await bench.keep(msgspec.structs.replace(full, raw=events.encode(events.full("full"))))
    admin = AdminService(bench.journal)
    assert "Family-4711" not in str((await admin.show("full")).body)
    assert "Family-4711" in str((await admin.show("full", unmask=True)).body)
    await bench.journal.close()


async def test_unknown_names_and_names_that_are_no_text_are_told_apart(operated: Operated) -> None:
    with pytest.raises(NotKnown, match="nobody"):
        await operated.admin.show("nobody")
    for ask in (
        operated.admin.show("\udcff"),
        operated.admin.list(Filter(resource="\udcff"), 1),
        operated.admin.select(Filter(text="\udcff"), 1),
        operated.admin.release(["\udcff"]),
    ):
        with pytest.raises(Invalid):
            await ask
    assert await operated.admin.release(["9", "1"]) == [
        Acted("9", "nothing is open for this resource", known=False),
        Acted("1", "nothing is open for this resource", known=False),
    ]
    assert [each async for each in operated.admin.discard(["nobody"])] == [Acted("nobody", "not known", known=False)]


async def test_lanes_tell_what_blocks_and_what_else_keeps_events_from_being_handled(operated: Operated) -> None:
    lanes = await operated.admin.lanes(10)
    (blocked,) = lanes.blocked
    assert (blocked.resources, blocked.event_id, blocked.state, blocked.behind) == (
        ["i_account:2"],
        "busy",
        "waiting",
        1,
    )
    assert (lanes.paused, lanes.target_away) == (False, None)
    assert await operated.admin.pause() == [Acted("delivery", "paused")]
    assert (await operated.admin.lanes(10)).paused
    assert await operated.admin.resume() == [Acted("delivery", "resumed")]
    assert await operated.admin.skip(["2"]) == [Acted("2", "skipped")]
    assert (await operated.admin.lanes(10)).blocked == []


async def test_selection_takes_dead_events_unless_a_state_is_given_and_says_what_is_left(operated: Operated) -> None:
    chosen = await operated.admin.select(Filter(), 1)
    assert [each.event_id for each in chosen.events] == ["dead"]
    assert (chosen.counts, chosen.left) == ({"SIM/Updated dead": 1, "SIM/Replaced dead": 1}, 1)
    assert [each async for each in operated.admin.replay(chosen, rate=1e6)] == [Acted("dead", "replayed")]
    assert await operated.found(state="dead") == ["dead-other", "dead"]
    assert [each.event_id for each in (await operated.admin.select(Filter(), 9)).events] == ["dead-other"]
    chosen = await operated.admin.select(Filter(state="waiting"), 9)
    assert [each async for each in operated.admin.discard(chosen)] == [Acted("busy", "discarded")]
    assert [each async for each in operated.admin.discard(Selection([], {}))] == []


@pytest.mark.parametrize("all_handlers", [False, True])
async def test_replay_begins_with_the_steps_that_ended_well_unless_all_handlers_are_asked_for(
    operated: Operated, all_handlers: bool
) -> None:
    acted = [each async for each in operated.admin.replay(["dead", "nobody"], all_handlers=all_handlers)]
    assert acted == [Acted("dead", "replayed"), Acted("nobody", "not known", known=False)]
    new, old = (await operated.admin.show("dead")).series
    assert (new.series.state, new.series.earlier, old.series.state) == ("pending", old.series.seq, "dead")
    assert [each.handler for each in new.steps] == ([] if all_handlers else ["handler"])


async def test_more_events_than_one_command_takes_are_replayed_in_several(operated: Operated) -> None:
    names = [f"nobody-{number}" for number in range(250)]
    assert [each.name async for each in operated.admin.replay(names)] == names


async def test_file_that_cannot_be_read_or_written_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    admin = AdminService(SqliteOutside(path, lambda: sqlite_store(path, lambda: 0.0)))
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"journal\.db"):
            await admin.stats()
        with pytest.raises(Unavailable, match=r"journal\.db"):
            await admin.pause()
        path.write_bytes(b"no journal" * 1000)
