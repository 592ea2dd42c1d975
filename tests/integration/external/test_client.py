"""What the client sends, and how it logs in, limits itself and opens its breaker, on real sockets."""

import asyncio
import base64
import json
from collections import Counter
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from connector import external
from connector.external import (
    Kind,
    TargetBusy,
    TargetMistake,
    TargetResponse,
    TargetRetry,
    TargetState,
    TargetUnavailable,
    client,
)
from connector.settings import Settings
from tests.integration.external.targets import Seen, Standin, calling, standing, until
from tests.unit.external.events import event, settings

OAUTH2 = {
    "TARGET_AUTH": "oauth2",
    "TARGET_CLIENT_ID": "client:1",
    "TARGET_CLIENT_SECRET": "made up/secret",
}


async def test_a_call_has_its_body_its_path_and_its_event() -> None:
    async with standing() as standin, calling(f"{standin.url}/base/") as caller:
        answer = await caller.target.post("/prov", json={"imsi": "1"}, params={"dry": 1}, event=event("event-9"))
        assert answer.json() == {"result": True}
        (seen,) = standin.seen
        assert (seen.method, seen.path, json.loads(seen.body)) == ("POST", "/base/prov?dry=1", {"imsi": "1"})
        assert seen.headers["Content-Type"] == "application/json"
        assert seen.headers["x-event-id"] == "event-9"
        assert seen.headers["x-b3-traceid"] == "trace-1"
        assert seen.headers["x-request-id"] == "unique-1"
        assert seen.headers["traceparent"].startswith("00-")
        assert "Authorization" not in seen.headers


async def test_each_method_is_sent_as_itself() -> None:
    async with standing() as standin, calling(standin.url) as caller:
        for call in (caller.target.get, caller.target.put, caller.target.patch, caller.target.delete):
            await call("/sim/1")
        assert [seen.method for seen in standin.seen] == ["GET", "PUT", "PATCH", "DELETE"]


async def test_a_path_cannot_lead_to_another_host() -> None:
    async with standing() as standin, calling(standin.url) as caller:
        for path in ("http://elsewhere.invalid/", "@elsewhere.invalid/", ".elsewhere.invalid"):
            with pytest.raises(TargetMistake, match=r"a path is put after TARGET_URL.*test_client.py, line"):
                await caller.target.post(path)
        assert standin.seen == []


async def test_cookies_of_one_subscriber_do_not_go_out_with_the_next() -> None:
    # Not 127.0.0.1: aiohttp's jar keeps none of an address.
    async with standing() as standin, calling(standin.url.replace("127.0.0.1", "localhost")) as caller:

        async def with_cookie(_: Seen) -> web.Response:
            response = web.Response()
            response.set_cookie("session", "of-one")
            return response

        standin.answer = with_cookie
        await caller.target.get()
        await caller.target.get()
        assert "Cookie" not in standin.seen[1].headers


async def test_basic_and_bearer_are_sent() -> None:
    async with standing() as standin:
        async with calling(standin.url, TARGET_AUTH="basic", TARGET_USER="usér", TARGET_PASSWORD="p:w") as caller:
            await caller.target.get()
        async with calling(standin.url, TARGET_AUTH="bearer", TARGET_TOKEN="t-1") as caller:
            await caller.target.get()
        basic, bearer = (seen.headers["Authorization"] for seen in standin.seen)
        assert base64.b64decode(basic.removeprefix("Basic ")).decode() == "usér:p:w"
        assert bearer == "Bearer t-1"


class TokenServer:
    """Gives tokens ``t-1``, ``t-2``, ... at /token, and takes the last one only at every other path."""

    def __init__(self, standin: Standin, life: float = 3600) -> None:
        self.given = 0
        self.life = life
        self.extra: dict[str, str] = {}
        self.error: web.Response | None = None
        self.standin = standin
        standin.answer = self.answer

    async def answer(self, seen: Seen) -> web.Response:
        if seen.path == "/token":
            await asyncio.sleep(0)
            if self.error is not None:
                return self.error
            self.given += 1
            return web.json_response({"access_token": f"t-{self.given}", "expires_in": self.life, **self.extra})
        good = seen.headers.get("Authorization") == f"Bearer t-{self.given}"
        return web.json_response({"ok": True}) if good else web.json_response({"error": "stale"}, status=401)

    def forms(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(seen.body.decode())) for seen in self.standin.seen if seen.path == "/token"]


async def test_client_credentials_are_fetched_once_for_all_callers() -> None:
    async with standing() as standin, calling(standin.url, TARGET_TOKEN_URL=f"{standin.url}/token", **OAUTH2) as caller:
        server = TokenServer(standin)
        await asyncio.gather(*(caller.target.post("/prov", json={}) for _ in range(8)))
        assert server.given == 1
        assert server.forms() == [{"grant_type": "client_credentials"}]
        login = next(seen for seen in standin.seen if seen.path == "/token").headers["Authorization"]
        assert base64.b64decode(login.removeprefix("Basic ")) == b"client%3A1:made+up%2Fsecret"


async def test_a_401_renews_the_token_once_for_all_callers_and_no_call_is_lost() -> None:
    async with standing() as standin, calling(standin.url, TARGET_TOKEN_URL=f"{standin.url}/token", **OAUTH2) as caller:
        server = TokenServer(standin)
        await caller.target.post("/prov", json={})
        server.given = 10  # as if somebody had revoked the token
        await asyncio.gather(*(caller.target.post("/prov", json={}) for _ in range(8)))
        assert server.given == 11


async def test_a_401_that_stays_is_tried_again_once_only_and_opens_the_breaker() -> None:
    async with (
        standing() as standin,
        calling(standin.url, TARGET_TOKEN_URL=f"{standin.url}/token", BREAKER_FAILURES="1", **OAUTH2) as caller,
    ):
        server = TokenServer(standin)
        server.extra = {"access_token": "never-good"}
        with pytest.raises(TargetRetry, match="answered 401: stale") as fault:
            await caller.target.post("/prov", json={})
        assert fault.value.kind is Kind.REFUSED
        assert Counter(seen.path for seen in standin.seen) == {"/token": 2, "/prov": 1}
        with pytest.raises(TargetUnavailable):
            await caller.target.post("/prov", json={})


async def test_a_token_is_renewed_ahead_of_its_expiry() -> None:
    async with standing() as standin, calling(standin.url, TARGET_TOKEN_URL=f"{standin.url}/token", **OAUTH2) as caller:
        server = TokenServer(standin, life=0)
        await caller.target.post("/prov", json={})
        await caller.target.post("/prov", json={})
        assert server.given == 2
        assert all(seen.path == "/token" or "t-" in seen.headers["Authorization"] for seen in standin.seen)


async def test_a_refresh_token_is_used_and_its_successor_kept() -> None:
    async with (
        standing() as standin,
        calling(
            standin.url,
            TARGET_TOKEN_URL=f"{standin.url}/token",
            TARGET_AUTH="oauth2",
            TARGET_CLIENT_ID="public",
            TARGET_REFRESH_TOKEN="r-1",
            TARGET_SCOPE="prov read",
        ) as caller,
    ):
        server = TokenServer(standin, life=0)
        server.extra = {"refresh_token": "r-2"}
        await caller.target.post("/prov", json={})
        await caller.target.post("/prov", json={})
        assert server.forms() == [
            {"grant_type": "refresh_token", "refresh_token": token, "scope": "prov read", "client_id": "public"}
            for token in ("r-1", "r-2")
        ]


async def test_new_credentials_are_used_for_the_next_token_and_a_refresh_token_of_the_server_goes_on() -> None:
    async with standing() as standin:
        environment = OAUTH2 | {"TARGET_TOKEN_URL": f"{standin.url}/token", "TARGET_REFRESH_TOKEN": "r-1"}
        async with calling(standin.url, **environment) as caller:
            server = TokenServer(standin, life=0)
            server.extra = {"refresh_token": "r-2"}
            await caller.target.post("/prov", json={})
            assert not caller.target.take_secrets(caller.target.settings)
            new = environment | {"TARGET_CLIENT_SECRET": "another-secret"}
            assert caller.target.take_secrets(settings(TARGET_URL=standin.url, **new))
            await caller.target.post("/prov", json={})
            renewed = new | {"TARGET_REFRESH_TOKEN": "r-9"}
            assert caller.target.take_secrets(settings(TARGET_URL=standin.url, **renewed))
            await caller.target.post("/prov", json={})
        logins = [seen.headers["Authorization"] for seen in standin.seen if seen.path == "/token"]
        secrets = [base64.b64decode(each.removeprefix("Basic ")).decode().partition(":")[2] for each in logins]
        assert secrets == ["made+up%2Fsecret", "another-secret", "another-secret"]
        assert [form["refresh_token"] for form in server.forms()] == ["r-1", "r-2", "r-9"]


@pytest.mark.parametrize(
    ("error", "said", "kind"),
    [
        ((400, b'{"error": "invalid_client"}'), "the token server answered 400: invalid_client", Kind.REFUSED),
        ((503, b""), "the token server answered 503", Kind.DOWN),
        ((200, b"<html>"), "the token server answered without a token", Kind.FAILED),
    ],
)
async def test_a_token_server_that_gives_none_fails_once_for_all_who_wait_and_costs_no_attempt(
    error: tuple[int, bytes], said: str, kind: Kind
) -> None:
    async with (
        standing() as standin,
        calling(standin.url, TARGET_TOKEN_URL=f"{standin.url}/token", BREAKER_FAILURES="1", **OAUTH2) as caller,
    ):
        TokenServer(standin).error = web.Response(status=error[0], body=error[1])
        ends = await asyncio.gather(*(caller.target.post("/prov", json={}) for _ in range(8)), return_exceptions=True)
        assert Counter(type(end) for end in ends) == {TargetUnavailable: 8}
        assert {str(end) for end in ends} == {said}
        assert {end.kind for end in ends if isinstance(end, TargetUnavailable)} == {kind}
        assert [seen.path for seen in standin.seen] == ["/token"]
        held = caller.target.held()
        assert held is not None
        assert (held.reason, held.kind) == (said, str(kind))


async def test_the_retry_after_of_a_token_server_holds_the_target() -> None:
    async with (
        standing() as standin,
        calling(standin.url, TARGET_TOKEN_URL=f"{standin.url}/token", **OAUTH2) as caller,
    ):
        TokenServer(standin).error = web.Response(status=429, headers={"Retry-After": "300"})
        with pytest.raises(TargetUnavailable, match="the token server answered 429") as unavailable:
            await caller.target.post("/prov", json={})
        assert unavailable.value.kind is Kind.RATE_LIMITED
        assert 300 <= caller.seconds <= 360


async def test_no_more_calls_are_under_way_than_the_setting_allows() -> None:
    async with standing() as standin, calling(standin.url, TARGET_CONCURRENCY="3") as caller:
        now = most = 0

        async def slow(_: Seen) -> web.Response:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.01)
            now -= 1
            return web.Response()

        standin.answer = slow
        await asyncio.gather(*(caller.target.get() for _ in range(12)))
        assert most == 3


async def test_a_call_whose_turn_is_far_away_goes_back_and_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_WAIT", 0.01)
    async with standing() as standin, calling(standin.url, TARGET_RATE="0.01", TARGET_BURST="2") as caller:
        ends = await asyncio.gather(*(caller.target.get() for _ in range(5)), return_exceptions=True)
        assert Counter(type(end).__name__ for end in ends) == {"TargetResponse": 2, "TargetBusy": 3}
        assert len(standin.seen) == 2
        assert caller.target.state().running == 0


async def test_a_call_that_finds_no_permit_in_time_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_WAIT", 0.01)
    async with standing() as standin, calling(standin.url, TARGET_CONCURRENCY="1") as caller:
        goes_on = asyncio.Event()

        async def wait(_: Seen) -> web.Response:
            await goes_on.wait()
            return web.Response()

        standin.answer = wait
        first = asyncio.create_task(caller.target.get())
        await until(lambda: len(standin.seen) == 1)
        with pytest.raises(TargetBusy):
            await caller.target.get()
        goes_on.set()
        await first


async def test_a_call_that_is_cut_off_gives_its_permit_back() -> None:
    async with standing() as standin, calling(standin.url, TARGET_CONCURRENCY="1") as caller:
        goes_on = asyncio.Event()

        async def hang(_: Seen) -> web.Response:
            await goes_on.wait()
            return web.Response()

        standin.answer, answer = hang, standin.answer
        task = asyncio.create_task(caller.target.get())
        await until(lambda: len(standin.seen) == 1)
        task.cancel()
        await asyncio.wait([task])
        standin.answer = answer
        assert (await caller.target.get()).status == 200
        goes_on.set()


async def test_the_breaker_spares_those_that_were_under_way_when_it_opened() -> None:
    async with (
        standing() as standin,
        calling(
            standin.url,
            BREAKER_FAILURES="2",
            BREAKER_COOL_DOWN="1h",
            BREAKER_COOL_DOWN_MAX="1h",
            TARGET_CONCURRENCY="6",
        ) as caller,
    ):
        all_there = asyncio.Event()

        async def down(_: Seen) -> web.Response:
            if len(standin.seen) == 6:
                all_there.set()
            await all_there.wait()
            return web.Response(status=503)

        standin.answer = down
        ends = await asyncio.gather(*(caller.target.get() for _ in range(6)), return_exceptions=True)
        assert Counter(type(end).__name__ for end in ends) == {"TargetRetry": 2, "TargetUnavailable": 4}
        assert caller.held
        held = caller.target.held()
        assert held is not None
        assert held.reason == "2 failures in a row, at last: the target answered 503"
        assert 2000 < held.seconds <= 4400
        state = caller.target.state()
        assert state == TargetState(
            "open", "2 failures in a row, at last: the target answered 503", 0, 0, 0, calls=6, failures=6
        )


async def test_the_breaker_lets_delivery_go_on_when_the_target_is_back() -> None:
    async with (
        standing() as standin,
        calling(standin.url, BREAKER_FAILURES="1", BREAKER_COOL_DOWN="10ms", TARGET_CONCURRENCY="4") as caller,
    ):
        status = 503

        async def answer(_: Seen) -> web.Response:
            return web.Response(status=status)

        standin.answer = answer
        with pytest.raises(TargetRetry):
            await caller.target.get()
        status = 200
        await until(lambda: caller.releases > 1)
        assert caller.target.held() is None
        calls = 0
        while calls < 20:  # as a worker would: what is given back is tried again
            ends = await asyncio.gather(*(caller.target.get() for _ in range(5)), return_exceptions=True)
            calls += sum(isinstance(end, TargetResponse) for end in ends)
        assert caller.target.state().breaker == "closed"
        assert caller.target.state().allowed == 4


async def test_a_handler_without_a_target_is_told_which_setting_is_missing() -> None:
    async with external.running(external.Targets(Settings.load({}))):
        with pytest.raises(TargetMistake, match="TARGET_URL is not set"):
            external.target()


async def test_a_test_can_put_a_client_in_place() -> None:
    async with standing() as standin, calling(standin.url) as caller:
        with external.using(caller.target):
            assert (await external.target().get()).status == 200
        with pytest.raises(TargetMistake, match="needs a running connector"):
            external.target()
