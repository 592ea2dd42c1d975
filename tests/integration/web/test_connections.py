"""How connections end: announced, with every answer that is due, and in time whoever holds them."""

import asyncio
import json
import signal
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from connector.web import aiohttp_inside, listener
from connector.web import server as server_module
from connector.web.bearer import Guesses
from tests import events
from tests.conftest import Lines, Reported
from tests.process import Server, running, spawn
from tests.serving import serving
from tests.wire import TOKEN, Wire, ask, connect, post

BODY = events.encode(events.minimal())
HEALTH = post(method="GET", path="/health", token=None)


async def test_a_body_that_is_too_large_is_not_asked_for() -> None:
    async with serving(MAX_BODY_BYTES="10k") as (_, port), connect(port) as wire:
        await wire.send(post(b"", "Expect: 100-continue", length=20_000))
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (413, "close")


async def test_a_refused_body_that_comes_slowly_does_not_cost_its_sender_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aiohttp_inside, "LINGER", 0.5)
    async with serving(MAX_BODY_BYTES="10k") as (_, port), connect(port) as wire:
        await wire.send(post(b"", length=1_000_000))
        for _ in range(30):
            await wire.send(b"x" * 1000)
            await asyncio.sleep(0.05)  # a slow line
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (413, "close")
        wire.send_eof()
        assert await wire.rest() == b""  # its end, and no reset


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
async def test_host_of_two_colons_takes_ipv4_and_ipv6_and_names_ipv4_clients_as_usual(log_lines: Lines) -> None:
    async with serving(HOST="::") as (_, port):
        for host in ("127.0.0.1", "::1"):
            async with connect(port, host=host) as wire:
                await wire.send(post(BODY, token="wrong-token-0123456789"))
                assert (await wire.answer()).status == 401
        remotes = [line["remote"] for line in log_lines() if line["action"] == "event.refused"]
    assert remotes == ["127.0.0.1", "::1"]


async def test_a_half_closed_client_gets_its_answer() -> None:
    async with serving() as (_, port):
        for _ in range(25):
            async with connect(port) as wire:
                await wire.send(post(BODY))
                wire.send_eof()
                answer = await wire.answer()
                assert (answer.status, answer.headers["Connection"]) == (202, "close")
                assert await wire.rest() == b""


async def test_all_requests_that_came_before_the_fin_get_their_answers() -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(BODY) * 40)
        wire.send_eof()
        answers = [await wire.answer() for _ in range(40)]
        assert [each.status for each in answers] == [202] * 40
        assert [each.headers.get("Connection") for each in answers] == [None] * 39 + ["close"]
        assert await wire.rest() == b""


async def test_a_fin_behind_an_answered_request_ends_the_connection_at_once() -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(BODY))
        assert (await wire.answer()).status == 202
        wire.send_eof()
        assert await wire.rest() == b""


async def test_a_head_that_is_cut_off_is_answered_and_said(log_lines: Lines) -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(BODY) + b"POST /process-event HTTP/1.1\r\nHos")
        wire.send_eof()
        assert (await wire.answer()).status == 202
        assert (await wire.answer()).status == 400
        assert await wire.rest() == b""
    assert [line["status"] for line in log_lines() if line["action"] == "request.broken_off"] == [400]


async def test_a_port_scan_leaves_no_line(log_lines: Lines) -> None:
    async with serving() as (_, port):
        async with connect(port) as wire:
            wire.send_eof()
            assert await wire.rest() == b""
        async with connect(port) as wire:
            wire.reset()
    assert [line for line in log_lines() if line["action"].startswith(("request", "connection"))] == []


@pytest.mark.parametrize(
    "request_line", ["CONNECT nsps.example:443", "GET http://nsps.example", "OPTIONS http://nsps.example", "GET //"]
)
async def test_a_target_that_is_no_path_gets_an_error_response_and_a_line(request_line: str, log_lines: Lines) -> None:
    async with serving() as (_, port):
        answer = await ask(port, f"{request_line} HTTP/1.1\r\nHost: nsps.example\r\n\r\n".encode())
    assert (answer.status, answer.json()["type"]) == (404, "VALIDATION_ERROR")
    (line,) = [line for line in log_lines() if line["action"] == "request.refused"]
    assert line["path"]
    assert line["path"] in request_line


async def test_a_wrong_path_is_named_with_the_right_one_to_whom_has_a_token(log_lines: Lines) -> None:
    path = "/proces-event/%E2%80%AE" + "x" * 1000
    async with serving() as (_, port):
        known = await ask(port, post(BODY, path=path))
        stranger = await ask(port, post(BODY, path=path, token="wrong"))
    assert known.status == stranger.status == 404
    assert "/process-event" in known.json()["error"]
    assert "/proces-event/" in known.json()["error"]
    assert "/process-event" not in stranger.json()["error"]
    for line in [line for line in log_lines() if line["action"] == "request.refused"]:
        assert line["path"].startswith("/proces-event/\\u202e")
        assert len(line["path"]) < 300


async def test_a_refused_body_is_not_read_and_nothing_is_taken_for_it(log_lines: Lines) -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(b"", "Expect: 100-continue", token="wrong", length=200))
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (401, "close")
        await wire.send(post(BODY))
        assert await wire.rest() == b""
    assert [line for line in log_lines() if line["action"] in ("event.accepted", "request.failed")] == []


@pytest.mark.parametrize("path", ["/process-event", "/nothing", "/health"])
async def test_an_answer_before_the_body_is_seen_by_a_client_that_sends_all_of_it(path: str) -> None:
    async with serving(MAX_BODY_BYTES="10M") as (_, port), connect(port) as wire:
        sending = asyncio.create_task(wire.send(post(BODY + b" " * 5_000_000, path=path, token="wrong")))
        answer = await wire.answer()
        assert answer.status in (401, 404, 405)
        assert answer.headers["Connection"] == "close"
        await sending
        assert await wire.rest() == b""


async def test_a_head_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch, reported: Reported) -> None:
    monkeypatch.setattr(listener, "HEAD_TIMEOUT", 0.05)
    monkeypatch.setattr(listener, "_LOOK", 0.02)
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(BODY))
        assert (await wire.answer()).status == 202
        await wire.send(b"POST /process-event HTTP/1.1\r\n")
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (408, "close")
        (line,) = await reported("request.refused")
        assert line["status"] == 408


async def test_answers_that_nobody_reads_end_their_connection(
    monkeypatch: pytest.MonkeyPatch, reported: Reported
) -> None:
    monkeypatch.setattr(listener, "WRITE_TIMEOUT", 0.05)
    monkeypatch.setattr(listener, "_LOOK", 0.02)
    async with serving() as (_, port), connect(port) as wire:
        wire.stop_reading()
        wire.push(post(method="GET", path="/openapi.json", token=None) * 2000)
        (line,) = await reported("connection.given_up")
        assert line["reason"] == "unread_answers"
        wire.reset()


async def test_a_newcomer_is_served_however_many_idle_connections_there_are(reported: Reported) -> None:
    async with serving(MAX_CONNECTIONS="6") as (_, port), AsyncExitStack() as stack:
        nsps = await stack.enter_async_context(connect(port))
        await nsps.send(post(BODY))
        assert (await nsps.answer()).status == 202
        strangers = [await stack.enter_async_context(connect(port)) for _ in range(10)]
        await strangers[-1].send(HEALTH)
        assert (await strangers[-1].answer()).status == 200
        others = [await stack.enter_async_context(connect(port, "127.0.0.2")) for _ in range(10)]
        await _served([others[-1]])
        await reported("connections.full")
        await nsps.send(post(BODY))  # who has shown a token is not ended for strangers
        assert (await nsps.answer()).status == 202


async def test_strangers_who_guess_tokens_do_not_hold_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Guesses, "BURST", 0)
    monkeypatch.setattr(Guesses, "PAUSE", 3600.0)
    monkeypatch.setattr(Guesses, "LONGEST", 3600.0)
    monkeypatch.setattr(listener, "STRANGER", 0.01)
    monkeypatch.setattr(server_module, "ANSWER_TIMEOUT", 0.1)
    async with serving(MAX_CONNECTIONS="6", MAX_CONNECTIONS_PER_ADDRESS="6") as (_, port), AsyncExitStack() as stack:
        for address in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            for _ in range(3):
                wire = await stack.enter_async_context(connect(port, address))
                await wire.send(post(BODY, token="wrong"))
        assert (await ask(port, post(BODY))).status == 202


async def test_newcomers_wait_where_all_connections_are_busy(reported: Reported) -> None:
    busy = {"MAX_CONNECTIONS": "2", "RESPONSE": "outcome", "HANDLERS": "tests.handlers", "OUTCOME_TIMEOUT": "300ms"}
    busy["DRAIN_TIMEOUT"] = "0"
    errors: list[object] = []  # one in the sweep would end the sweeping
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with serving(**busy) as (_, port), AsyncExitStack() as stack:
        for number in (1, 2):
            wire = await stack.enter_async_context(connect(port))
            await wire.send(post(events.encode(events.minimal("Test/Hold", event_id=str(number)))))
            await reported("event.accepted", number)
        assert (await ask(port, HEALTH)).status == 200  # once one of the others has its answer
    assert not errors


async def test_one_address_cannot_take_the_room_of_all_others(reported: Reported) -> None:
    async with serving(MAX_CONNECTIONS="40", MAX_CONNECTIONS_PER_ADDRESS="3") as (_, port), AsyncExitStack() as stack:
        trusted = [await stack.enter_async_context(connect(port)) for _ in range(3)]
        for wire in trusted:
            await wire.send(post(BODY))
            assert (await wire.answer()).status == 202
        strangers = [await stack.enter_async_context(connect(port)) for _ in range(6)]
        (line, *_) = await reported("connections.per_address")
        assert line["remote"] == "127.0.0.1"
        assert await strangers[0].rest() == b""
        for wire in [*trusted, strangers[-1]]:  # a balancer's connections do not count
            await wire.send(post(BODY))
            assert (await wire.answer()).status == 202


async def test_the_journal_finds_its_descriptors_whoever_connects(tmp_path: Path) -> None:
    server = Server(await spawn(tmp_path, {"JOURNAL_URL": "sqlite:///journal.db"}, descriptors=100))
    try:
        server.port = (await server.line("server.started"))["port"]
        async with AsyncExitStack() as stack:
            for _ in range(150):
                await stack.enter_async_context(connect(server.port))
            assert (await ask(server.port, post(BODY))).status == 202
            await server.line("connections.limited")
            await server.line("connections.per_address")
        assert await server.terminate() == 0
        assert [line for line in server.lines if line["level"] == "error"] == []
    finally:
        await server.kill()


async def _served(wires: list[Wire]) -> None:
    for wire in wires:
        await wire.send(post(BODY))
        assert (await wire.answer()).status == 202


async def test_from_the_signal_on_every_answer_ends_its_connection(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            running(tmp_path, JOURNAL_URL="sqlite:///journal.db", DRAIN_DELAY="500ms")
        )
        wires = [await stack.enter_async_context(connect(server.port)) for _ in range(5)]
        await _served(wires)
        server.send(signal.SIGTERM)
        await server.line("server.draining")
        ready = await ask(server.port, post(method="GET", path="/ready", token=None))
        assert (ready.status, ready.headers["Connection"]) == (503, "close")
        for wire in wires:
            await wire.send(post(BODY))
            answer = await wire.answer()
            assert (answer.status, answer.headers["Connection"]) == (202, "close")
            assert await wire.rest() == b""
        new = await ask(server.port, post(BODY))
        assert (new.status, new.headers["Connection"]) == (202, "close")
        assert await server.ended() == 0


async def test_a_request_on_a_kept_connection_after_the_signal_gets_an_answer_of_ours(tmp_path: Path) -> None:
    async with running(tmp_path, HANDLERS="tests.handlers", DRAIN_TIMEOUT="400ms") as server:
        assert (await ask(server.port, post(events.encode(events.minimal("Test/Hold"))))).status == 202
        async with connect(server.port) as wire:
            await _served([wire])
            server.send(signal.SIGTERM)
            await server.line("server.draining")
            await wire.send(post(BODY))
            answer = await wire.answer()
            assert (answer.status, answer.headers["Connection"]) == (503, "close")
        assert await server.ended() == 0


async def test_a_stop_waits_neither_for_clients_that_do_not_read_nor_for_half_a_request(tmp_path: Path) -> None:
    async with running(tmp_path) as server, AsyncExitStack() as stack:
        for _ in range(10):
            silent = await stack.enter_async_context(connect(server.port))
            await silent.send(b"POST /process-event HTTP/1.1\r\n")
            deaf = await stack.enter_async_context(connect(server.port))
            stack.callback(deaf.reset)
            deaf.stop_reading()
            deaf.push(post(method="GET", path="/openapi.json", token=None) * 500)
        assert (await ask(server.port, HEALTH)).status == 200
        async with asyncio.timeout(15):
            assert await server.terminate() == 0


async def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(log_lines: Lines) -> None:
    async with serving() as (_, port), AsyncExitStack() as stack:
        for _ in range(10):
            assert (await ask(port, post(BODY, token="wrong"))).status == 401
        slow = [await stack.enter_async_context(connect(port)) for _ in range(3)]
        for wire in slow:
            await wire.send(post(BODY, token="wrong"))
        assert (await ask(port, post(BODY))).status == 202  # while those wait
        assert (await ask(port, post(BODY, token=None))).status == 401  # no guess
        assert (await slow[0].answer()).status == 401
    assert TOKEN not in json.dumps(log_lines())


async def test_a_refusal_names_the_client_behind_a_trusted_proxy(log_lines: Lines) -> None:
    forged = "X-Forwarded-For: 203.0.113.1, 198.51.100.7"
    async with serving(TRUSTED_PROXIES="127.0.0.0/8") as (_, port):
        await ask(port, post(BODY, forged, token="wrong"))
    async with serving() as (_, port):
        await ask(port, post(BODY, forged, token="wrong"))
    remotes = [line["remote"] for line in log_lines() if line["action"] == "event.refused"]
    assert remotes == ["198.51.100.7", "127.0.0.1"]
