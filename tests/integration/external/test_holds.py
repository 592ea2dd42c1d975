"""A target that is held holds those who call it, and nobody else: the real application, two targets, and neither."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiohttp import web

from connector import Event, on
from connector.external import target
from tests.conftest import Lines
from tests.integration.external.delivery import Served, serving
from tests.integration.external.targets import Seen, Standin, standing, until

KINDS = ("hlr", "crm", "both", "several", "nothing")
handled: list[str] = []
HERE = "tests.integration.external.test_holds"


@on("Calls/*")
async def calls(event: Event) -> None:
    await target(event.event_type.partition("/")[2]).post(json={}, event=event)


@on("Calls/both")
async def calls_both(event: Event) -> None:
    await target("crm").post(json={}, event=event)
    await target("hlr").post(json={}, event=event)


@on("Calls/several")
async def calls_several(event: Event) -> None:
    await asyncio.gather(*(target("hlr").post(f"/{number}", json={}, event=event) for number in range(3)))


@on("Calls/nothing")
async def calls_nothing(event: Event) -> None:
    handled.append(event.event_id)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    handled.clear()


def event(kind: str, number: int) -> dict[str, Any]:
    return {
        "event_id": f"{kind}-{number}",
        "data": {"event_type": f"Calls/{kind}"},
        "pb_data": {"account_info": {"bill_status": "open", "i_account": number + 1000 * KINDS.index(kind)}},
    }


class Moody:
    """What a target answers: ``refusal`` while it is set."""

    def __init__(self, standin: Standin, refusal: web.Response | None = None) -> None:
        self.refusal = refusal
        self.standin = standin
        standin.answer = self.answer

    async def answer(self, _: Seen) -> web.Response:
        return (
            web.Response(status=self.refusal.status, headers=self.refusal.headers) if self.refusal else web.Response()
        )


def two(hlr: Standin, crm: Standin, **settings: str) -> Any:
    """A connector with both targets and few workers."""
    usual = {"WORKERS": "2", "BREAKER_COOL_DOWN": "20ms", "BREAKER_COOL_DOWN_MAX": "50ms"}
    names = {"HANDLERS": HERE, "TARGETS": "hlr,crm", "HLR_URL": hlr.url, "CRM_URL": crm.url}
    return serving("http://127.0.0.1:9", **(usual | names | settings))


def size(served: Served) -> int:
    return served.connector.journal.size


async def test_events_that_call_nothing_or_another_target_go_on_while_one_is_held(log_lines: Lines) -> None:
    async with standing() as hlr, standing() as crm:
        moody = Moody(hlr, web.Response(status=429, headers={"Retry-After": "3600"}))
        async with two(hlr, crm) as served:
            await served.post_all(event("hlr", number) for number in range(30))
            await until(lambda: hlr.seen != [])
            await served.post_all(event("nothing", number) for number in range(20))
            await served.post_all(event("crm", number) for number in range(20))
            await until(lambda: len(handled) == 20 and len(crm.seen) == 20)
            await until(lambda: size(served) == 30)
            assert len(hlr.seen) <= 2  # those that were under way
            assert await served.ready() == 200
            assert moody.refusal is not None
    actions = Counter(line["action"] for line in log_lines())
    assert actions["event.retrying"] == actions["event.dead"] == 0


async def test_events_that_wait_for_a_permit_hold_no_worker_and_come_in_their_turn() -> None:
    go_on = asyncio.Event()

    async with standing() as hlr, standing() as crm:

        async def waits(_: Seen) -> web.Response:
            await go_on.wait()
            return web.Response()

        hlr.answer = waits
        async with two(hlr, crm, WORKERS="3", HLR_CONCURRENCY="1", HLR_TIMEOUT="30s") as served:
            await served.post_all(event("hlr", number) for number in range(20))
            await until(lambda: hlr.seen != [])
            await served.post_all(event("nothing", number) for number in range(20))
            await served.post_all(event("crm", number) for number in range(20))
            await until(lambda: (len(handled), len(crm.seen), size(served)) == (20, 20, 20))
            seen = len(hlr.seen)
            go_on.set()
            assert seen == 1
            await until(lambda: size(served) == 0)
    assert len(hlr.seen) == 20


async def test_events_that_wait_for_their_turn_hold_no_worker_and_come_as_the_rate_allows(log_lines: Lines) -> None:
    async with standing() as hlr, standing() as crm:
        async with two(hlr, crm, HLR_RATE="0.01", HLR_BURST="1") as served:
            await served.post_all(event("hlr", number) for number in range(20))
            await until(lambda: hlr.seen != [])
            await served.post_all(event("nothing", number) for number in range(20))
            await until(lambda: (len(handled), size(served)) == (20, 19))
            assert len(hlr.seen) == 1
        async with two(hlr, crm, HLR_RATE="200", HLR_BURST="1") as served:
            await served.post_all(event("hlr", 100 + number) for number in range(60))
            await until(lambda: size(served) == 0)
    assert len(hlr.seen) == 61
    actions = Counter(line["action"] for line in log_lines())
    assert actions["event.retrying"] == actions["event.dead"] == 0


async def test_calls_that_one_attempt_makes_at_once_share_a_permit_and_do_not_send_it_back(log_lines: Lines) -> None:
    async with standing() as hlr, standing() as crm, two(hlr, crm, HLR_CONCURRENCY="1") as served:
        await served.post_all([event("several", 1)])
        await until(lambda: size(served) == 0)
    assert sorted(seen.path for seen in hlr.seen) == ["/0", "/1", "/2"]
    assert not [line for line in log_lines() if line["action"] == "event.retrying"]


async def test_the_end_of_a_hold_lets_those_who_waited_go_on_in_order() -> None:
    async with standing() as hlr, standing() as crm:
        moody = Moody(hlr, web.Response(status=503, headers={"Retry-After": "0"}))
        async with two(hlr, crm) as served:
            await served.post_all(event("hlr", number % 5) | {"event_id": f"e-{number}"} for number in range(50))
            await until(lambda: len(hlr.seen) > 3)
            refused = len(hlr.seen)
            moody.refusal = None
            await until(lambda: size(served) == 0)
    keys = [seen.headers["x-event-id"] for seen in hlr.seen[refused:]]
    for subscriber in range(5):
        numbers = [
            number for number in (int(key.split("e-")[1].split("/")[0]) for key in keys) if number % 5 == subscriber
        ]
        assert numbers == sorted(set(numbers))


async def test_ten_errors_of_one_subscriber_do_not_hold_the_others() -> None:
    async with standing() as hlr, standing() as crm:

        async def one_is_poison(seen: Seen) -> web.Response:
            return web.Response(status=500 if "poison" in seen.headers["x-event-id"] else 200)

        hlr.answer = one_is_poison
        async with two(hlr, crm, RESPONSE="outcome") as served:
            for number in range(12):
                assert await served.post(event("hlr", 1) | {"event_id": f"poison-{number}"}) == 500
            assert [await served.post(event("hlr", 100 + number)) for number in range(20)] == [202] * 20


async def test_a_later_call_of_an_attempt_to_a_held_target_spends_the_attempt_and_is_bounded(
    log_lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.external.client.MAX_WAIT", 0.02)
    async with standing() as hlr, standing() as crm:
        Moody(hlr, web.Response(status=429, headers={"Retry-After": "3600"}))
        async with two(hlr, crm, MAX_ATTEMPTS="3", RETRY_MAX="50ms") as served:
            await served.post_all([event("both", 1)])
            await until(lambda: size(served) == 0)
    assert len(crm.seen) == 3
    assert [line["attempt"] for line in log_lines() if line["action"] == "event.dead"] == [3]


async def test_sixty_events_do_not_come_back_within_a_moment() -> None:
    moments: list[float] = []
    limited = True

    async with standing() as hlr, standing() as crm:

        async def once_limited(_: Seen) -> web.Response:
            if limited:
                return web.Response(status=429, headers={"Retry-After": "1"})
            moments.append(asyncio.get_running_loop().time())
            return web.Response()

        hlr.answer = once_limited
        async with two(hlr, crm, WORKERS="16") as served:
            await served.post_all(event("hlr", number) for number in range(60))
            await until(lambda: len(hlr.seen) >= 1)
            limited = False
            await until(lambda: size(served) == 0)
    assert max(moments) - min(moments) > 0.05
