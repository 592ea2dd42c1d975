"""An outage of the target, end to end: nothing lost, no attempt spent but to find it out, order kept."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from aiohttp import web

from connector.journal.queries import ReadStats, TargetAway
from connector.journal.sqlite import history
from tests.conftest import Lines
from tests.integration.external.delivery import Told, numbered, serving
from tests.integration.external.targets import Seen, standing, until

FAILURES = 4
BREAKER = {
    "BREAKER_FAILURES": str(FAILURES),
    "BREAKER_COOL_DOWN": "20ms",
    "BREAKER_COOL_DOWN_MAX": "80ms",
    "WORKERS": "16",
}


async def test_an_operator_sees_that_the_target_is_away_and_since_when(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"

    def away() -> TargetAway | None:
        with history.connect(path) as past:
            return past.ask(ReadStats()).target_away

    async with standing() as standin:
        port = int(standin.url.rpartition(":")[2])
        async with serving(standin.url, f"sqlite:///{path}", **BREAKER) as served:
            assert away() is None
            await standin.go_away()
            await served.post_all(numbered(number, 20) for number in range(20))
            await until(lambda: away() is not None)
            first = away()
            target = served.connector.targets.find()
            await until(lambda: target.state().failures >= FAILURES + 4)
            again = away()
            assert first is not None
            assert again is not None
            assert again.since == first.since
            assert "the probe failed" in again.reason
            async with standing(port):
                await until(lambda: away() is None)


@pytest.mark.parametrize("journal", ["memory://", "sqlite"])
async def test_an_outage_costs_no_attempt_but_those_that_show_it(
    journal: str, tmp_path: Path, log_lines: Lines
) -> None:
    url = journal if journal == "memory://" else f"sqlite:///{tmp_path / 'journal.db'}"
    told = Told()

    async def take(seen: Seen) -> web.Response:
        told.note(seen.body)
        return web.Response()

    async with standing() as standin:
        standin.answer = take
        port = int(standin.url.rpartition(":")[2])
        async with serving(standin.url, url, **BREAKER) as served:
            target = served.connector.targets.find()
            await served.post_all(numbered(number, 20) for number in range(100))
            await until(lambda: len(told.numbers) == 100)
            await standin.go_away()
            await served.post_all(numbered(number, 20) for number in range(100, 200))
            await until(lambda: target.state().failures >= FAILURES + 4)
            assert target.state().breaker != "closed"
            assert await served.ready() == 200
            assert served.connector.journal.size == 100
            async with standing(port) as returned:
                returned.answer = take
                await until(lambda: len(told.numbers) == 200 and served.connector.journal.size == 0)
                assert target.state().breaker == "closed"
    assert told.out_of_order() == []
    actions = Counter(line["action"] for line in log_lines())
    probes = actions["breaker.opened"] - 1
    assert actions["event.retrying"] == FAILURES + probes
    assert actions["event.processed"] == 200
    assert actions["event.dead"] == 0


async def test_events_under_way_when_the_target_goes_spend_no_attempt_once_it_is_known(log_lines: Lines) -> None:
    told = Told()
    goes_down = asyncio.Event()
    is_down = True

    async def hang_then_fail(seen: Seen) -> web.Response:
        if is_down:
            await goes_down.wait()
            return web.Response(status=503)
        told.note(seen.body)
        return web.Response()

    async with standing() as standin:
        standin.answer = hang_then_fail
        async with serving(standin.url, **BREAKER) as served:
            await served.post_all(numbered(number, 16) for number in range(16))
            await until(lambda: len(standin.seen) == 16)
            goes_down.set()
            target = served.connector.targets.find()
            await until(lambda: target.state().failures >= 16)
            is_down = False
            await until(lambda: len(told.numbers) == 16 and served.connector.journal.size == 0)
    actions = Counter(line["action"] for line in log_lines())
    assert actions["event.retrying"] == FAILURES + actions["breaker.opened"] - 1


async def test_one_poisonous_event_does_not_stop_delivery_for_all() -> None:
    told = Told()

    async def fail_one(seen: Seen) -> web.Response:
        if b'"event-3"' in seen.body:
            return web.Response(status=500)
        told.note(seen.body)
        return web.Response()

    async with standing() as standin:
        standin.answer = fail_one
        async with serving(standin.url, **BREAKER, MAX_ATTEMPTS="3") as served:
            await served.post_all(numbered(number, 10) for number in range(50))
            await until(lambda: served.connector.journal.size == 0)
    assert told.numbers == set(range(50)) - {3}


async def test_a_slow_rate_spends_no_attempt_on_waiting(monkeypatch: pytest.MonkeyPatch, log_lines: Lines) -> None:
    monkeypatch.setattr("connector.external.client.MAX_WAIT", 0.05)
    told = Told()

    async def take(seen: Seen) -> web.Response:
        told.note(seen.body)
        return web.Response()

    async with standing() as standin:
        standin.answer = take
        async with serving(standin.url, TARGET_RATE="100", TARGET_BURST="1", WORKERS="32") as served:
            await served.post_all(numbered(number, 40) for number in range(80))
            await until(lambda: served.connector.journal.size == 0)
    assert told.numbers == set(range(80))
    assert told.out_of_order() == []
    assert Counter(line["action"] for line in log_lines())["event.retrying"] == 0


async def test_the_trace_of_the_request_and_the_body_arrive_as_they_came(tmp_path: Path) -> None:
    async with standing() as standin, serving(standin.url, f"sqlite:///{tmp_path / 'journal.db'}") as served:
        trace = "463ac35c9f6413ad48485a3953bb6124"
        await served.post(numbered(7, 1), **{"x-b3-traceid": trace, "x-request-id": "request-1"})
        await until(lambda: len(standin.seen) == 1)
        (seen,) = standin.seen
        assert seen.headers["x-event-id"] == "event-7"
        assert (seen.headers["x-b3-traceid"], seen.headers["x-request-id"]) == (trace, "request-1")
        assert seen.headers["traceparent"].split("-")[1] == trace
        assert b'"n": 7' in seen.body


async def test_only_the_chosen_types_are_forwarded_in_the_mapped_form(tmp_path: Path, log_lines: Lines) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('account = "pb_data.account_info.i_account"')
    async with (
        standing() as standin,
        serving(standin.url, FORWARD_TYPES="SIM/Updated", FORWARD_MAPPING=str(mapping)) as served,
    ):
        left_out = numbered(1, 5)
        left_out["data"]["event_type"] = "SIM/Created"
        await served.post_all([left_out, numbered(2, 5)])
        await until(lambda: served.connector.journal.size == 0)
        assert [seen.body for seen in standin.seen] == [b'{"account":3}']
    assert [line["reason"] for line in log_lines() if line["action"] == "event.ignored"] == [
        "FORWARD_TYPES leaves SIM/Created out"
    ]


@pytest.mark.parametrize("after", ["86400", "0", "Mon, 01 Sep 2025 12:00:00 GMT"])
@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_of_the_target_spends_no_attempt_and_is_kept_within_the_longest_wait(
    status: int, after: str, log_lines: Lines
) -> None:
    told = Told()
    refusals = iter([status] * 3)

    async def at_last(seen: Seen) -> web.Response:
        if refusal := next(refusals, None):
            return web.Response(status=refusal, headers={"Retry-After": after})
        told.note(seen.body)
        return web.Response()

    async with standing() as standin:
        standin.answer = at_last
        async with serving(standin.url, RETRY_MAX="50ms", **BREAKER) as served:
            await served.post_all(numbered(number, 20) for number in range(20))
            await until(lambda: served.connector.journal.size == 0)
    assert told.numbers == set(range(20))
    assert told.out_of_order() == []
    actions = Counter(line["action"] for line in log_lines())
    assert actions["event.retrying"] == actions["event.dead"] == 0
    assert 1 <= actions["breaker.opened"] <= 3


@pytest.mark.parametrize("status", [429, 503])
async def test_what_the_target_said_of_when_to_come_again_is_told_to_nsps_at_once(status: int) -> None:
    async def later(_: Seen) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "77"})

    async with standing() as standin:
        standin.answer = later
        async with serving(standin.url, RESPONSE="outcome") as served:
            assert await served.post(numbered(1, 5)) == status
            assert await served.post(numbered(2, 5)) == status
            assert len(standin.seen) == 1
            assert 70 < int(served.last.headers["Retry-After"]) <= 93
            assert served.connector.journal.size == 0
