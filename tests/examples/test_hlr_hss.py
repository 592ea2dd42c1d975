"""The HLR/HSS connector: what it sends for what it gets, and how it lives with an HLR/HSS that is not well."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from aiohttp import web

from connector import DeadLetter, external
from connector.external import TargetDead, TargetRetry
from examples.hlr_hss import handlers
from examples.hlr_hss.hlr import Hlr
from examples.hlr_hss.provisioning import BARRED, GRANTED, Profiles
from tests.conftest import Lines
from tests.integration.external.delivery import TOKEN, Served, serving
from tests.integration.external.targets import calling, until
from tests.unit.external.events import event

HLR_TOKEN = "token-of-the-hlr"
OLD, NEW = "001010000000001", "001010000000002"
ACCOUNT = {"i_account": 7, "id": "99900000007@msisdn", "bill_status": "open", "blocked": False}
PROFILES = Profiles.load({})
LOGIN = {"TARGET_AUTH": "bearer", "TARGET_TOKEN": HLR_TOKEN}


def pb_data(**account: Any) -> dict[str, Any]:
    return {"account_info": ACCOUNT | account, "sim_info": {"imsi": NEW}}


class Running(NamedTuple):
    """The stand-in and where it is."""

    hlr: Hlr
    url: str


@asynccontextmanager
async def hlr(mood: str = "fine") -> AsyncIterator[Running]:
    standin = Hlr(HLR_TOKEN, mood)
    runner = web.AppRunner(standin.app, shutdown_timeout=0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Running(standin, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("account", "status", "msisdn"),
    [
        ({}, GRANTED, ["99900000007"]),
        ({"blocked": None}, GRANTED, ["99900000007"]),
        ({"blocked": True}, BARRED, ["99900000007"]),
        ({"bill_status": "suspended"}, BARRED, []),
        ({"bill_status": None}, BARRED, []),
        ({"bill_status": "O"}, GRANTED, ["99900000007"]),
        ({"bill_status": "active", "blocked": True}, BARRED, ["99900000007"]),
        ({"id": "99900000007@voip"}, GRANTED, []),
        ({"id": "@msisdn"}, GRANTED, []),
        ({"id": None}, GRANTED, []),
    ],
)
def test_nobody_is_granted_service_who_should_not_be(account: dict[str, Any], status: str, msisdn: list[str]) -> None:
    subscriber = PROFILES.subscriber(event(**pb_data(**account)))
    assert (subscriber["subscriber_status"], subscriber["msisdn"]) == (status, msisdn)


def test_profiles_come_from_the_access_policy_and_else_from_the_settings() -> None:
    attributes = [{"name": "cs_profile", "value": "gold"}, {"name": "eps_profile", "value": ""}]
    profiles = Profiles.load({"HLR_EPS_PROFILE": "eps-basic"})
    subscriber = profiles.subscriber(event(**pb_data(), access_policy_info=[{"attributes": attributes}]))
    assert (subscriber["cs_profile"], subscriber["eps_profile"]) == ("gold", "eps-basic")
    assert PROFILES.subscriber(event(**pb_data()))["cs_profile"] == "default"


@pytest.mark.parametrize("imsi", [None, "", "00101", "0010100000000011", "00101000000000x", "٠٠١٠١٠٠٠٠٠٠٠٠٠٢"])
def test_an_imsi_that_is_none_ends_the_event(imsi: str | None) -> None:
    with pytest.raises(DeadLetter, match="6 to 15 digits"):
        PROFILES.subscriber(event(account_info=ACCOUNT, sim_info={"imsi": imsi}))


def test_an_imsi_of_another_operator_ends_the_event() -> None:
    profiles = Profiles.load({"HLR_IMSI_PATTERN": "00102.*"})
    with pytest.raises(DeadLetter, match="HLR_IMSI_PATTERN"):
        profiles.subscriber(event(**pb_data()))


def test_a_pattern_that_is_none_stops_the_start() -> None:
    with pytest.raises(ValueError, match="HLR_IMSI_PATTERN is no regular expression"):
        Profiles.load({"HLR_IMSI_PATTERN": "("})


async def test_a_replaced_sim_gives_its_number_to_the_new_one() -> None:
    replaced = event("event-2", **pb_data(), prev_sim_info={"imsi": OLD})
    async with hlr() as there, calling(there.url, **LOGIN) as caller:
        with external.using(caller.target):
            await handlers.update(event(account_info=ACCOUNT, sim_info={"imsi": OLD}))
            await handlers.release(replaced)
            await handlers.update(replaced)
    old, new = there.hlr.subscribers[OLD], there.hlr.subscribers[NEW]
    assert (old["subscriber_status"], old["msisdn"]) == (BARRED, [])
    assert (new["subscriber_status"], new["msisdn"]) == (GRANTED, ["99900000007"])


async def test_a_replacement_by_the_same_card_does_not_bar_it() -> None:
    async with hlr() as there, calling(there.url, **LOGIN) as caller:
        with external.using(caller.target):
            await handlers.release(event(**pb_data(), prev_sim_info={"imsi": NEW}))
    assert there.hlr.calls == {}


async def test_a_no_with_a_200_is_not_taken_for_a_yes() -> None:
    async with hlr("refusing") as there, calling(there.url, **LOGIN) as caller:
        with external.using(caller.target), pytest.raises(TargetRetry, match="subscriber database is locked"):
            await handlers.update(event(**pb_data()))


async def test_an_unknown_subscriber_ends_the_event() -> None:
    async with hlr("unknown") as there, calling(there.url, **LOGIN) as caller:
        with external.using(caller.target), pytest.raises(TargetDead, match="404: no such subscriber"):
            await handlers.update(event(**pb_data()))


def document(number: int, event_type: str = "SIM/Updated") -> dict[str, Any]:
    """Event ``number``, of a subscriber of its own who has no number yet."""
    return {
        "event_id": f"event-{number}",
        "data": {"event_type": event_type},
        "pb_data": {
            "account_info": ACCOUNT | {"i_account": number, "id": None},
            "sim_info": {"imsi": f"00101{number:010d}"},
        },
    }


@asynccontextmanager
async def served(url: str, journal_url: str = "memory://", **overrides: str) -> AsyncIterator[Served]:
    environment = {"HANDLERS": "examples.hlr_hss.handlers", "BREAKER_COOL_DOWN": "20ms"} | LOGIN | overrides
    async with serving(url, journal_url, **environment) as connector:
        yield connector


@pytest.mark.parametrize("mood", ["flaky", "down", "limited", "refusing"])
async def test_every_sim_is_provisioned_once_the_hlr_is_well(mood: str, log_lines: Lines) -> None:
    async with hlr(mood) as there, served(there.url, RETRY_MAX="200ms") as connector:
        await connector.post_all(document(number) for number in range(20))
        await until(lambda: there.hlr.calls[mood] > 2)
        there.hlr.mood = "fine"
        await until(lambda: connector.connector.journal.size == 0)
    assert len(there.hlr.subscribers) == 20
    assert Counter(line["action"] for line in log_lines())["event.processed"] == 20


async def test_the_cases_of_the_test_plan_that_do_not_ask_for_the_outcome(tmp_path: Path) -> None:
    async with (
        hlr() as there,
        served(there.url, f"sqlite:///{tmp_path / 'journal.db'}", MAX_BACKLOG="1") as connector,
        aiohttp.ClientSession(connector.url) as session,
    ):
        login = {"Authorization": f"Bearer {TOKEN}"}

        async def status(method: str, path: str, headers: dict[str, str] = login, body: Any = None) -> int:
            async with session.request(method, path, headers=headers, json=body) as response:
                return response.status

        assert await status("GET", "/health", {}) == 200
        assert await connector.post(document(1)) == 202
        await until(lambda: connector.connector.journal.size == 0)
        assert await status("POST", "/process-event", {"Authorization": "Bearer wrong"}, document(2)) == 401
        assert await status("DELETE", "/process-event") == 405
        assert await status("POST", "/process-event", body={"data": {}}) == 422
        there.hlr.mood = "refusing"
        assert await connector.post(document(3)) == 202
        assert await connector.post(document(4)) == 429


@pytest.mark.parametrize("journal", ["memory://", "sqlite"])
async def test_the_whole_test_plan_when_requests_wait_for_the_outcome(journal: str, tmp_path: Path) -> None:
    url = journal if journal == "memory://" else f"sqlite:///{tmp_path / 'journal.db'}"
    async with (
        hlr() as there,
        served(there.url, url, RESPONSE="outcome", BREAKER_FAILURES="3", BREAKER_COOL_DOWN="1h") as connector,
        aiohttp.ClientSession(connector.url) as session,
    ):

        async def answer(
            number: int, mood: str = "fine", method: str = "POST", path: str = "/process-event", token: str = TOKEN
        ) -> tuple[int, str]:
            there.hlr.mood = mood
            login = {"Authorization": f"Bearer {token}"}
            async with session.request(method, path, headers=login, json=document(number)) as response:
                body = await response.json()
                return response.status, body.get("type", body.get("message", body.get("status")))

        assert await answer(0, method="GET", path="/health") == (200, "ok")
        assert await answer(1) == (202, "Event accepted for processing")
        assert list(there.hlr.subscribers) == [document(1)["pb_data"]["sim_info"]["imsi"]]
        assert await answer(2, token="wrong") == (401, "AUTHENTICATION_ERROR")
        assert await answer(3, "unknown") == (404, "VALIDATION_ERROR")
        assert await answer(4, method="DELETE") == (405, "VALIDATION_ERROR")
        async with session.post(
            "/process-event", headers={"Authorization": f"Bearer {TOKEN}"}, json={"data": {}}
        ) as response:
            assert response.status == 422
        assert await answer(6, "refusing") == (500, "SERVICE_ERROR")
        for number in (7, 8, 9):
            assert await answer(number, "down") == (503, "CONNECTION_ERROR")
        calls = there.hlr.calls["down"]
        assert await answer(10, "down") == (503, "CONNECTION_ERROR")
        assert there.hlr.calls["down"] == calls
        assert connector.connector.journal.size == 0


async def test_a_rate_limit_of_the_hlr_is_told_as_one_when_requests_wait_for_the_outcome() -> None:
    async with hlr("limited") as there, served(there.url, RESPONSE="outcome") as connector:
        assert await connector.post(document(1)) == 429


async def test_a_stop_answers_the_request_whose_sim_is_being_provisioned(tmp_path: Path) -> None:
    async with hlr("slow") as there:
        there.hlr.delay = 0.2
        async with served(there.url, f"sqlite:///{tmp_path / 'journal.db'}", RESPONSE="outcome") as connector:
            request = asyncio.create_task(connector.post(document(1)))
            await until(lambda: there.hlr.calls["slow"] == 1)
            await connector.stop()
            assert await request == 202
        assert len(there.hlr.subscribers) == 1


async def test_a_stop_loses_no_event_that_the_hlr_has_not_taken(tmp_path: Path) -> None:
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    async with hlr("down") as there:
        async with served(there.url, journal) as connector:
            await connector.post_all(document(number) for number in range(1, 9))
        there.hlr.mood = "fine"
        assert there.hlr.subscribers == {}
        async with served(there.url, journal) as connector:
            await until(lambda: len(there.hlr.subscribers) == 8)


async def test_the_stand_in_can_be_told_how_to_behave_and_says_what_it_did_not_understand() -> None:
    async with hlr() as there, aiohttp.ClientSession(there.url) as session:
        for body, status in ((b'{"mood": "slow", "delay": 0}', 200), (b'{"mood": "odd"}', 422), (b"mood", 422)):
            async with session.put("/mood", data=body) as response:
                assert response.status == status
        assert (there.hlr.mood, there.hlr.delay) == ("slow", 0.0)
        async with session.get(f"/subscribers/{OLD}") as response:
            assert response.status == 404


async def test_the_readme_shows_the_event_that_is_there() -> None:
    folder = Path(handlers.__file__).parent
    event_json, readme = (folder / "event.json").read_text(), (folder / "README.md").read_text()
    (imsi,) = re.findall(r"subscribers/(\d{15})", readme)
    assert f'"imsi": "{imsi}"' in event_json
