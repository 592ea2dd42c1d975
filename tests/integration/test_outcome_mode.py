"""RESPONSE=outcome: the request waits for what becomes of its event, and only one side retries."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import events, outcome_handlers
from tests.conftest import Reported
from tests.outcome_handlers import Failed, Refused
from tests.serving import serving
from tests.wire import ask, connect, post

MODE = {"RESPONSE": "outcome", "HANDLERS": "tests.outcome_handlers"}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    outcome_handlers.handled.clear()
    outcome_handlers.faults.clear()
    outcome_handlers.gate = asyncio.Event()  # of the loop of this test
    outcome_handlers.begun = asyncio.Event()
    yield
    outcome_handlers.gate.set()


@pytest.fixture(params=["memory", "sqlite"])
def mode(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'journal.db'}"
    return {**MODE, "JOURNAL_URL": url}


def body(event_id: str, event_type: str = "Test/Any") -> bytes:
    return events.encode(events.minimal(event_type, event_id=event_id))


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Failed("down"), 503, "CONNECTION_ERROR"),
        (Failed("failed"), 500, "SERVICE_ERROR"),
        (Failed("rate_limited"), 429, "RATE_LIMIT_ERROR"),
        (Refused("not_found"), 404, "VALIDATION_ERROR"),
        (Refused("refused"), 500, "SERVICE_ERROR"),
        (ValueError("a bug"), 500, "SERVICE_ERROR"),
    ],
)
async def test_the_answer_says_how_the_external_system_failed(
    fault: Exception, status: int, kind: str, mode: dict[str, str]
) -> None:
    outcome_handlers.faults["one"] = fault
    async with serving(**mode) as (_, port):
        answer = await ask(port, post(body("one")))
    assert (answer.status, answer.json()["type"]) == (status, kind)
    assert str(fault) in answer.json()["error"]
    ours = isinstance(fault, ValueError)
    assert (answer.json()["message"] == "Event handler failed") == ours
    assert (status in (429, 503)) == ("Retry-After" in answer.headers)


async def test_what_ends_well_is_202(mode: dict[str, str]) -> None:
    async with serving(**mode) as (_, port):
        assert (await ask(port, post(body("one")))).status == 202
        assert (await ask(port, post(body("two", "Test/Ignored")))).status == 202


async def test_what_was_ignored_says_so_and_why_in_its_202(mode: dict[str, str]) -> None:
    async with serving(**mode) as (_, port):
        done, ignored = await ask(port, post(body("one"))), await ask(port, post(body("two", "Test/Ignored")))
    assert done.json() == {"message": "Event accepted for processing"}
    assert (ignored.status, ignored.json()) == (202, {"message": "Event ignored: nothing to do"})


async def test_an_attempt_whose_failure_was_answered_is_not_repeated_here(mode: dict[str, str]) -> None:
    outcome_handlers.faults["one"] = Failed("down")
    async with serving(**mode) as (connector, port):
        assert (await ask(port, post(body("one")))).status == 503
        assert connector.journal.size == 0
        del outcome_handlers.faults["one"]
        assert (await ask(port, post(body("one")))).status == 202
        assert (await ask(port, post(body("one")))).status == 202
    assert outcome_handlers.handled == ["one", "one"]


@pytest.mark.parametrize("kind", ["down", "rate_limited"])
async def test_the_wait_that_the_external_system_asked_for_is_passed_on(kind: str, mode: dict[str, str]) -> None:
    fault = Failed(kind)
    fault.after = 77.0
    outcome_handlers.faults["one"] = fault
    async with serving(**mode) as (_, port):
        assert (await ask(port, post(body("one")))).headers["Retry-After"] == "77"


async def test_nothing_is_promised_before_the_outcome_where_a_kill_would_lose_it() -> None:
    mode = {**MODE, "JOURNAL_URL": "memory://", "OUTCOME_TIMEOUT": "50ms"}
    async with serving(**mode) as (_, port):
        for _ in range(2):
            answer = await ask(port, post(body("one", "Test/Slow")))
            assert (answer.status, answer.json()["type"]) == (503, "SERVICE_ERROR")
            assert answer.headers["Retry-After"]
        async with connect(port) as wire:
            await wire.send(post(body("two", "Test/Any")))
            assert (await wire.answer()).status == 202
        outcome_handlers.gate.set()
        while (answer := await ask(port, post(body("one", "Test/Slow")))).status == 503:
            pass
        assert answer.status == 202
    assert outcome_handlers.handled.count("one") == 1


async def test_a_stop_promises_nothing_where_it_loses_the_event() -> None:
    mode = {**MODE, "JOURNAL_URL": "memory://", "DRAIN_TIMEOUT": "10ms"}
    async with serving(**mode) as (connector, port), connect(port) as wire:
        await wire.send(post(body("one", "Test/Slow")))
        await outcome_handlers.begun.wait()
        connector.stop_accepting()
        await connector.drain()
        assert (await wire.answer()).status == 503


async def test_an_event_that_runs_on_after_its_202_is_retried_here(tmp_path: Path, reported: Reported) -> None:
    outcome_handlers.faults["one"] = Failed("down")
    mode = {**MODE, "JOURNAL_URL": f"sqlite:///{tmp_path / 'journal.db'}"}
    async with serving(**mode, OUTCOME_TIMEOUT="50ms") as (_, port):
        assert (await ask(port, post(body("one", "Test/Slow")))).status == 202
        outcome_handlers.gate.set()
        await reported("event.retrying")
        outcome_handlers.faults.clear()
        await reported("event.processed")
    assert outcome_handlers.handled[:2] == ["one", "one"]


async def test_the_same_event_sent_again_while_it_runs_gets_the_same_answer(mode: dict[str, str]) -> None:
    outcome_handlers.faults["one"] = Failed("down")
    async with serving(**mode) as (_, port), connect(port) as first, connect(port) as second:
        await first.send(post(body("one", "Test/Slow")))
        await outcome_handlers.begun.wait()
        await second.send(post(body("one", "Test/Slow")))
        await ask(port, post(body("other")))
        outcome_handlers.gate.set()
        assert [(await first.answer()).status, (await second.answer()).status] == [503, 503]
    assert outcome_handlers.handled == ["one", "other"]


async def test_a_stop_answers_who_waits_and_leaves_the_event_in_the_journal(tmp_path: Path) -> None:
    mode = {**MODE, "JOURNAL_URL": f"sqlite:///{tmp_path / 'journal.db'}"}
    async with serving(**mode, DRAIN_TIMEOUT="10ms") as (connector, port), connect(port) as wire:
        await wire.send(post(body("one", "Test/Slow")))
        await outcome_handlers.begun.wait()
        connector.stop_accepting()
        await connector.drain()
        assert (await wire.answer()).status == 202
        assert connector.journal.size == 1
    outcome_handlers.gate.set()
    async with serving(**mode) as (connector, port):
        assert (await ask(port, post(body("one", "Test/Slow")))).status == 202
        await connector.journal.join()
    assert outcome_handlers.handled == ["one", "one"]


async def test_a_refused_event_leaves_nobody_waiting(mode: dict[str, str]) -> None:
    async with serving(**mode) as (connector, port):
        assert connector.answers is not None
        key = connector.schema.parse(body("one"), "request", "unique", 1.0).key
        await connector.journal.close()
        assert (await ask(port, post(body("one")))).status == 503
        assert not connector.answers.is_expected(key)
