"""What becomes of an event after its 202, as the log tells it."""

from typing import Any

import pytest

from connector import log
from tests import events
from tests.conftest import Lines, Reported
from tests.serving import serving
from tests.wire import TOKEN, ask, connect, post

IDS = {"request_id": "b3-1", "unique_id": "unique-1", "event_id": "event-1"}
TRACE = ("x-b3-traceid: b3-1", "x-request-id: unique-1")


def of_event(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["action"].startswith("event.")]


@pytest.mark.parametrize(
    ("event_type", "action", "level"),
    [
        ("SIM/Updated", "event.processed", "info"),
        ("Test/Blocking", "event.processed", "info"),
        ("Test/Ignored", "event.ignored", "info"),
        ("Test/Dead", "event.dead", "error"),
        ("Test/Retry", "event.retrying", "warning"),
    ],
)
async def test_the_ids_of_the_request_stand_in_every_line_of_its_event(
    event_type: str, action: str, level: str, reported: Reported, log_lines: Lines
) -> None:
    body = events.encode(events.minimal(event_type, event_id="event-1"))
    async with serving() as (_, port):
        assert (await ask(port, post(body, *TRACE))).status == 202
        (ended,) = await reported(action)
        (accepted,) = await reported("event.accepted")
    assert ended["level"] == level
    for line in (accepted, ended):
        assert line.items() >= (IDS | {"event_type": event_type}).items()
        assert line["timestamp"]
        assert line["message"]


async def test_an_event_without_ids_has_the_same_made_ones_in_all_its_lines(reported: Reported) -> None:
    body = events.encode(events.minimal())
    async with serving() as (_, port):
        for _ in range(2):
            await ask(port, post(body))
        processed = await reported("event.processed", 2)
        accepted = await reported("event.accepted", 2)
    for name in IDS:
        made = [line[name] for line in accepted]
        assert sorted(made) == sorted(line[name] for line in processed)
        assert len(set(made)) == 2
        assert all(made)


async def test_a_refusal_s_line_has_the_ids_of_its_request(log_lines: Lines) -> None:
    async with serving() as (_, port):
        for request in (
            post(b"{", *TRACE),
            post(b"{}", *TRACE),
            post(b"{}", *TRACE, token="wrong"),
            post(b"{}", *TRACE, path="/nothing"),
            post(b"{}", *TRACE, method="PUT"),
        ):
            await ask(port, request)
    refused = [line for line in log_lines() if line["action"] in ("event.refused", "request.refused")]
    assert [line["status"] for line in refused] == [400, 422, 401, 404, 405]
    for line in refused:
        assert (line["request_id"], line["unique_id"]) == ("b3-1", "unique-1")
        assert line["reason"]


async def test_the_access_log_has_the_ids_and_keeps_the_query_to_itself(reported: Reported) -> None:
    async with serving(ACCESS_LOG="true") as (_, port):
        await ask(port, post(events.encode(events.minimal()), *TRACE, path="/process-event?secret=1"))
        await ask(port, post(b"{", *TRACE))
        await ask(port, post(method="GET", path="/nothing", token=None))
        await ask(port, b"no http\r\n\r\n")
        served = await reported("request.served", 4)
    assert [line["status"] for line in served] == [202, 400, 404, 400]
    assert all(line["ms"] >= 0 and line["remote"] == "127.0.0.1" for line in served)
    for line in served[:2]:
        assert (line["request_id"], line["unique_id"]) == ("b3-1", "unique-1")
    assert "secret" not in str(served)


async def test_the_access_log_is_off_unless_it_is_asked_for(log_lines: Lines) -> None:
    async with serving() as (_, port):
        await ask(port, post(method="GET", path="/health", token=None))
    assert [line for line in log_lines() if line["action"] == "request.served"] == []


async def test_an_event_costs_two_lines_with_the_default_handler_one_of_them_the_known_sentence(
    reported: Reported, log_lines: Lines
) -> None:
    async with serving(HANDLERS="") as (_, port):
        await ask(port, post(events.encode(events.minimal())))
        (processed,) = await reported("event.processed")
        assert len(of_event([*await reported("event.accepted"), processed, *log_lines()])) == 2
    assert processed["message"] == "Received event: SIM/Updated | bill status: open"


async def test_no_token_no_body_and_no_personal_field_is_logged(
    capfd: pytest.CaptureFixture[str], log_lines: Lines
) -> None:
    event = events.full()
    broken = events.full() | {"event_id": "broken"}
    broken["pb_data"]["account_info"]["i_account"] = "not a number"
    async with serving() as (connector, port):
        for body in (events.encode(event), events.encode(event), events.encode(broken), events.encode(event)[:-3]):
            await ask(port, post(body))
        await ask(port, post(b"", token="wrong-secret"))
        await connector.drain()
    assert log.writer.flush()
    captured = capfd.readouterr()
    account = event["pb_data"]["account_info"]
    for secret in (
        TOKEN,
        "wrong-secret",
        *(account[name] for name in ("firstname", "lastname", "email", "phone1", "zip")),
    ):
        assert secret not in captured.out + captured.err
    assert "event.processed" in captured.out


@pytest.mark.parametrize(
    ("event_type", "action", "times"),
    [("SIM/Updated", "event.processed", 1), ("Test/Ignored", "event.ignored", 1), ("Test/Dead", "event.dead", 2)],
)
async def test_an_event_that_comes_again_is_processed_again_only_if_it_is_dead(
    event_type: str, action: str, times: int, reported: Reported, log_lines: Lines
) -> None:
    body = events.encode(events.minimal(event_type, event_id="once"))
    async with serving() as (connector, port):
        assert (await ask(port, post(body))).status == 202
        await reported(action)
        assert (await ask(port, post(body))).status == 202
        ended = await reported(action, times)
        await connector.drain()
        assert len(ended) + len([line for line in log_lines() if line["action"] == action]) == times


async def test_one_subscriber_s_events_are_processed_in_the_order_of_their_202(reported: Reported) -> None:
    async with serving() as (_, port), connect(port) as wire:
        for number in range(60):
            body = events.encode(events.of_subscriber(number % 3, f"{number}"))
            await wire.send(post(body))
            assert (await wire.answer()).status == 202
        processed = await reported("event.processed", 60)
    for subscriber in range(3):
        order = [int(line["event_id"]) for line in processed if int(line["event_id"]) % 3 == subscriber]
        assert order == sorted(order)


async def test_a_subscriber_that_waits_for_its_retry_holds_nobody_else(reported: Reported) -> None:
    async with serving(WORKERS="1") as (_, port):
        await ask(port, post(events.encode(events.of_subscriber(1, "waits", "Test/Retry"))))
        await ask(port, post(events.encode(events.of_subscriber(1, "behind"))))
        await ask(port, post(events.encode(events.of_subscriber(2, "other"))))
        assert [line["event_id"] for line in await reported("event.processed")] == ["other"]
        (retrying,) = await reported("event.retrying")
    assert (retrying["event_id"], retrying["reason"]) == ("waits", "made to wait")


async def test_the_line_of_a_failed_attempt_has_the_number_of_that_attempt(reported: Reported) -> None:
    async with serving() as (_, port):
        await ask(port, post(events.encode(events.minimal("Test/Retry"))))
        assert (await reported("event.retrying"))[0]["attempt"] == 1


@pytest.mark.parametrize(
    "event_type",
    ["Test/Cancelled", "Test/Unprintable"],
)
async def test_no_exception_of_a_handler_ends_a_worker(event_type: str, reported: Reported) -> None:
    async with serving(WORKERS="1", DRAIN_TIMEOUT="100ms") as (_, port):
        await ask(port, post(events.encode(events.of_subscriber(1, "fails", event_type))))
        await ask(port, post(events.encode(events.of_subscriber(2, "other"))))
        assert (await reported("event.processed", patience=1))[0]["event_id"] == "other"


async def test_the_drain_processes_what_is_open_and_says_what_is_left(reported: Reported) -> None:
    async with serving(WORKERS="1", DRAIN_TIMEOUT="100ms") as (connector, port):
        for number in range(20):
            await ask(port, post(events.encode(events.of_subscriber(number, f"{number}"))))
        await ask(port, post(events.encode(events.of_subscriber(99, "hangs", "Test/Hold"))))
        await connector.drain()
        assert len(await reported("event.processed", 20)) == 20
        (drained,) = await reported("server.drained")
    assert (drained["left"], drained["cut_off"], drained["level"]) == (1, 1, "warning")


async def test_it_is_said_that_a_journal_in_memory_keeps_nothing(log_lines: Lines) -> None:
    async with serving():
        pass
    assert [line["level"] for line in log_lines() if line["action"] == "journal.not_durable"] == ["warning"]
