"""Several handlers for one type: what each has done stands in the journal of a real connector."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connector import DeadLetter, Retry
from connector.journal import Journal
from connector.journal.commands import Command
from connector.journal.queries import SeriesOf, StepsOf
from tests import events
from tests.integration.delivery.three_handlers import errors, tried
from tests.integration.external.targets import until
from tests.serving import Served, serving
from tests.wire import ask, post


@pytest.fixture(autouse=True)
def _fresh() -> None:
    tried.clear()
    errors.clear()


@asynccontextmanager
async def three(folder: Path, **overrides: str) -> AsyncIterator[Served]:
    """A connector over the journal in this folder, whose handlers are ``a``, ``b`` and ``c``."""
    ours = {
        "JOURNAL_URL": f"sqlite:///{folder / 'journal.db'}",
        "MIN_FREE_DISK": "0",
        "HANDLERS": "tests.integration.delivery.three_handlers",
        "RETRY_BASE": "10ms",
        "RETRY_MAX": "20ms",
    }
    async with serving(**ours | overrides) as served:
        yield served


async def send(served: Served) -> None:
    body = events.encode(events.of_subscriber(1, "one"))
    assert (await ask(served.port, post(body))).status == 202


async def states(journal: Journal) -> list[str]:
    """The states of the event's series, the newest first."""
    return [series.state for series in await journal.ask(SeriesOf("one"))]


async def steps(journal: Journal) -> dict[str, tuple[str, int]]:
    """What the handlers have done in the newest series: state and attempts."""
    (newest, *_) = await journal.ask(SeriesOf("one"))
    return {step.handler: (step.state, step.attempts) for step in await journal.ask(StepsOf(newest.seq))}


async def end(journal: Journal) -> None:
    """Return when the event has ended."""
    await until(lambda: journal.size == 0)
    await journal.flush()


async def test_retry_after_a_restart_goes_on_with_the_handler_that_failed(tmp_path: Path) -> None:
    errors["b"] = Retry("busy")
    async with three(tmp_path) as served:
        await send(served)
        await until(lambda: "b2" in tried)
    assert (tried[0], "c1" in tried) == ("a1", False)
    before = len(tried)
    del errors["b"]
    async with three(tmp_path) as served:
        journal = served.connector.journal
        await end(journal)
        assert tried[before:] == [f"b{before}", "c1"]
        assert await steps(journal) == {"a": ("done", 1), "b": ("done", before), "c": ("done", 1)}


@pytest.mark.parametrize("by", ["an operator", "NSPS"])
async def test_replay_of_a_dead_event_runs_only_the_handlers_that_have_not_ended_well(tmp_path: Path, by: str) -> None:
    errors["b"] = DeadLetter("never")
    async with three(tmp_path) as served:
        await send(served)
        await end(served.connector.journal)
        assert await states(served.connector.journal) == ["dead"]
    assert tried == ["a1", "b1", "c1"]
    del errors["b"]
    async with three(tmp_path) as served:
        journal = served.connector.journal
        if by == "NSPS":
            await send(served)
        else:
            assert (await journal.command(Command("replay", ["one"]))).results == {"one": "replayed"}
        await end(journal)
        assert await states(journal) == ["done", "dead"]
        assert await steps(journal) == dict.fromkeys("abc", ("done", 1))
    assert tried == ["a1", "b1", "c1", "b1"]


@pytest.mark.parametrize("journal_url", ["memory://", "sqlite"])
@pytest.mark.parametrize("whole", [False, True])
async def test_replay_runs_all_handlers_where_the_event_had_ended_well_or_that_is_asked_for(
    tmp_path: Path, whole: bool, journal_url: str
) -> None:
    if whole:
        errors["b"] = DeadLetter("never")
    async with three(tmp_path, **({"JOURNAL_URL": journal_url} if journal_url == "memory://" else {})) as served:
        journal = served.connector.journal
        await send(served)
        await end(journal)
        await journal.command(Command("replay", ["one"], whole=whole))
        await end(journal)
    assert tried == ["a1", "b1", "c1"] * 2


async def test_released_event_tries_the_handler_that_was_dead_once_more(tmp_path: Path) -> None:
    errors["b"] = Retry("busy")
    async with three(tmp_path, ON_DEAD="hold", MAX_ATTEMPTS="2") as served:
        journal = served.connector.journal
        await send(served)
        async with asyncio.timeout(10):
            while await states(journal) != ["held"]:
                await journal.flush()
        del errors["b"]
        assert (await journal.command(Command("release", ["1"]))).results == {"1": "released"}
        await end(journal)
        assert await states(journal) == ["done"]
    assert tried == ["a1", "b1", "b2", "c1", "b3"]
