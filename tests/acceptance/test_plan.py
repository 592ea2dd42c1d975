"""The cases of the guide's test plan that concern a connector which answers at once, against ``python run.py``."""

import asyncio
from pathlib import Path

from tests import events
from tests.process import running
from tests.wire import ask, connect, post

BODY = events.encode(events.full())


async def test_case_1_health_needs_no_token(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        answer = await ask(server.port, post(method="GET", path="/health", token=None))
        assert answer.status == 200
        assert (await ask(server.port, post(method="GET", path="/ready", token=None))).status == 200


async def test_case_2_a_valid_event_is_accepted_and_reaches_the_handler(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        answer = await ask(server.port, post(BODY, "x-b3-traceid: b3", "x-request-id: unique"))
        assert (answer.status, answer.json()) == (202, {"message": "Event accepted for processing"})
        line = await server.line("event.processed", request_id="b3", unique_id="unique")
        assert line["message"] == "Received event: SIM/Replaced | bill status: open"
        assert line["event_id"] == events.full()["event_id"]


async def test_case_3_a_bad_or_missing_token_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        for token in (None, "wrong"):
            answer = await ask(server.port, post(BODY, token=token))
            assert (answer.status, answer.json()["type"]) == (401, "AUTHENTICATION_ERROR")
        await server.line("event.refused", status=401)
        assert server.counts["event.accepted"] == 0


async def test_case_5_a_wrong_method_is_refused_and_a_path_that_is_none_too(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        answer = await ask(server.port, post(method="GET", path="/process-event"))
        assert (answer.status, answer.headers["Allow"], answer.json()["message"]) == (405, "POST", "Method not allowed")
        answer = await ask(server.port, post(BODY, path="/no-such-path"))
        assert (answer.status, answer.json()["message"]) == (404, "Resource not found")


async def test_case_6_a_malformed_event_is_refused_with_details(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        answer = await ask(server.port, post(b'{"event_id": "x", "data": {}}'))
        assert (answer.status, answer.json()["type"]) == (422, "VALIDATION_ERROR")
        assert ["data", "event_type"] in [detail["loc"] for detail in answer.json()["details"]]
        assert (await ask(server.port, post(b"not json"))).status == 400


async def test_case_7_more_events_than_there_is_room_for_are_refused_and_the_accepted_ones_untouched(
    tmp_path: Path,
) -> None:
    hold = {"HANDLERS": "tests.handlers", "QUEUE_SIZE": "5", "WORKERS": "1", "DRAIN_TIMEOUT": "100ms"}
    async with running(tmp_path, **hold) as server:
        first = events.encode(events.minimal("Test/Hold"))
        answers = [await ask(server.port, post(first)) for _ in range(8)]
        assert [answer.status for answer in answers] == [202] * 5 + [429] * 3
        assert answers[-1].json()["type"] == "RATE_LIMIT_ERROR"
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert await server.terminate() == 0
        assert (await server.line("server.drained"))["left"] == 5


async def test_case_10_a_stop_answers_what_is_under_way_and_loses_nothing_in_progress(tmp_path: Path) -> None:
    async with running(tmp_path) as server, connect(server.port) as wire:
        for number in range(50):
            await wire.send(post(events.encode(events.of_subscriber(number % 5, f"{number}"))))
            assert (await wire.answer()).status == 202
        async with asyncio.TaskGroup() as group:
            group.create_task(wire.send(post(BODY)))
            code = group.create_task(server.terminate())
        assert code.result() == 0
        assert server.counts["event.processed"] == server.counts["event.accepted"] >= 50
        assert (await server.line("server.drained"))["left"] == 0
        await server.line("server.stopped")
