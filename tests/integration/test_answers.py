"""The answer table of the protocol: every path, method and fault."""

import asyncio
import gzip
import zlib
from email.utils import parsedate_to_datetime
from typing import get_args

import pytest

from connector.web.responses import ErrorType
from tests import events
from tests.conftest import Lines
from tests.serving import serving
from tests.wire import TOKEN, Answer, ask, connect, post

BODY = events.encode(events.minimal())


def assert_accepted(answer: Answer) -> None:
    assert (answer.status, answer.json()) == (202, {"message": "Event accepted for processing"})
    assert answer.headers["Content-Type"].startswith("application/json")
    assert parsedate_to_datetime(answer.headers["Date"])


def assert_refused(answer: Answer, status: int) -> None:
    assert answer.status == status, answer
    assert answer.headers["Content-Type"].startswith("application/json")
    body = answer.json()
    assert {"message", "error", "type"} <= set(body) <= {"message", "error", "type", "details"}
    assert body["type"] in get_args(ErrorType)
    assert body["message"]
    assert body["error"]
    assert_tells_nothing(answer)


def assert_tells_nothing(answer: Answer) -> None:
    told = str(answer).lower()
    for secret in ("traceback", "aiohttp", "python", TOKEN, ".py"):
        assert secret not in told


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("header", ["", "Connection: close", "Connection: keep-alive"])
async def test_an_event_is_accepted_over_any_kind_of_connection(version: str, header: str) -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(BODY, *filter(None, [header]), version=version))
        assert_accepted(await wire.answer())
        kept = header == "Connection: keep-alive" or (version == "1.1" and not header)
        if kept:
            await wire.send(post(BODY, "Connection: close", version=version))
            assert_accepted(await wire.answer())
        assert await wire.rest() == b""


@pytest.mark.parametrize(
    "path", ["/process-event", "/process-event/", "/process-event?from=nsps", "http://connector/process-event"]
)
async def test_every_form_of_the_event_path_is_found(path: str) -> None:
    async with serving() as (_, port):
        assert_accepted(await ask(port, post(BODY, path=path)))


async def test_the_root_path_can_take_the_events() -> None:
    async with serving(EVENT_PATH="/") as (_, port):
        assert_accepted(await ask(port, post(BODY, path="/")))
        assert_refused(await ask(port, post(BODY, path="/process-event")), 404)
        assert (await ask(port, post(path="/health", method="GET", token=None))).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/Process-Event",
        "//process-event",
        "/process-event/../x",
        "/%",
        "/%ff%00",
        "/" + "x" * 4000,
        "*",
        "/process-event%2f",
        "/healthy",
        "/metrics.php?x=%zz",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS", "PROPFIND"])
async def test_an_unknown_path_is_not_found_whatever_the_method(path: str, method: str) -> None:
    if path == "*" and method != "OPTIONS":
        return  # no request at all (RFC 9112, 3.2.4)
    async with serving() as (_, port):
        answer = await ask(port, post(BODY, path=path, method=method, token=None))
        assert_refused(answer, 404)
        assert (answer.json()["message"], answer.json()["error"]) == ("Resource not found", "Not found")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
async def test_the_event_path_names_the_method_it_takes(method: str) -> None:
    async with serving() as (_, port):
        answer = await ask(port, post(method=method, path="/process-event"))
        assert_refused(answer, 405)
        assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json"])
async def test_a_page_of_the_connector_takes_no_other_method_than_get_head_and_options(path: str) -> None:
    async with serving() as (_, port):
        got = await ask(port, post(method="GET", path=path, token=None))
        head = await ask(port, post(method="HEAD", path=path, token=None), head=True)
        refused = await ask(port, post(BODY, method="POST", path=path))
        assert got.status == head.status == 200
        assert head.headers["Content-Length"] == got.headers["Content-Length"]
        assert_refused(refused, 405)
        assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"
        options = await ask(port, post(method="OPTIONS", path=path, token=None))
        assert (options.status, options.headers["Allow"]) == (200, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("path", ["/process-event", "/nothing"])
async def test_head_is_refused_without_a_body(path: str) -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(method="HEAD", path=path))
        assert (await wire.answer(head=True)).status == (405 if path == "/process-event" else 404)
        await wire.send(post(BODY))
        assert_accepted(await wire.answer())


async def test_connect_opens_no_tunnel() -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere\r\n\r\n")
        assert (await wire.answer()).status in (400, 404)


@pytest.mark.parametrize(
    "headers", [[], ["Authorization: Basic eDp5"], ["Authorization: Bearer wrong"], ["Authorization:"]]
)
async def test_a_request_without_a_good_token_is_refused(headers: list[str]) -> None:
    async with serving() as (_, port):
        answer = await ask(port, post(BODY, *headers, token=None))
        assert_refused(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json() == {
            "message": "Authentication failed",
            "error": "Invalid API token",
            "type": "AUTHENTICATION_ERROR",
        }


async def test_a_token_of_bytes_that_are_no_text_is_refused() -> None:
    async with serving() as (_, port):
        request = post(BODY, "Authorization: Bearer X", token=None).replace(b"Bearer X", b"Bearer \xff\xfe\x80")
        assert_refused(await ask(port, request), 401)


@pytest.mark.parametrize("headers", [[], ["Expect: 100-continue"]])
async def test_the_token_is_checked_before_the_body_has_come(headers: list[str]) -> None:
    async with serving() as (_, port):
        assert_refused(await ask(port, post(b"", *headers, token="wrong", length=1_000_000)), 401)


async def test_a_body_is_asked_for_once_where_the_client_waits_for_that() -> None:
    async with serving() as (_, port), connect(port) as wire:
        for _ in range(2):
            await wire.send(post(b"", "Expect: 100-continue", length=len(BODY)))
            assert (await wire.answer()).status == 100
            await wire.send(BODY)
            assert_accepted(await wire.answer())


async def test_an_http_1_0_client_is_not_asked_to_go_on() -> None:
    async with serving() as (_, port):
        assert_accepted(await ask(port, post(BODY, "Expect: 100-continue", version="1.0")))


@pytest.mark.parametrize("path", ["/process-event", "/health", "/nothing"])
async def test_an_unknown_expectation_is_refused_and_logged(path: str, log_lines: Lines) -> None:
    async with serving() as (_, port):
        answer = await ask(port, post(BODY, "Expect: a-miracle", "x-b3-traceid: b3", path=path))
        assert_refused(answer, 417)
    (line,) = [line for line in log_lines() if line.get("status") == 417]
    assert line["request_id"] == "b3"


async def test_every_token_counts_while_tokens_are_rotated() -> None:
    async with serving(API_TOKEN="new-one,old-one") as (_, port):
        for token in ("new-one", "old-one"):
            assert_accepted(await ask(port, post(BODY, token=token)))
        assert_refused(await ask(port, post(BODY, token="new-one,old-one")), 401)
        assert_refused(await ask(port, post(BODY)), 401)


@pytest.mark.parametrize("body", [b"", b"x", b"{", b"\xff", b'{"data": NaN}', b'{"data":{"event_type":"\\ud800"}}'])
async def test_a_body_that_is_not_json_is_refused(body: bytes) -> None:
    async with serving() as (_, port):
        answer = await ask(port, post(body))
        assert_refused(answer, 400)
        assert answer.json()["message"] == "Validation failed"
        assert answer.json()["type"] == "VALIDATION_ERROR"


async def test_a_faulty_event_is_refused_with_where_and_what(log_lines: Lines) -> None:
    async with serving() as (_, port):
        answer = await ask(
            port, post(b'{"data": {"event_type": 7}, "pb_data": {"account_info": {"lastname": "Secretname"}}}')
        )
        assert_refused(answer, 422)
    assert answer.json()["message"] == answer.json()["error"] == "Validation failed"
    assert [detail["loc"] for detail in answer.json()["details"]] == [
        ["data", "event_type"],
        ["pb_data", "account_info", "bill_status"],
    ]
    assert all(set(detail) == {"loc", "msg"} and detail["msg"] for detail in answer.json()["details"])
    (line,) = [line for line in log_lines() if line["action"] == "event.refused"]
    assert line["status"] == 422
    assert len(line["details"]) == 2
    assert "Secretname" not in str(line)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'{"event_id": "e-7", "data": {"event_type": "SIM/Updated"}, "pb_data": 7}', ("e-7", "SIM/Updated")),
        (b'{"event_id": "e-7", "data": []}', ("e-7", None)),
        (b'{"event_id": 7, "data": {}}', ("7", None)),
        (b'{"event_id": "\\u202e\\n", "data": {"event_type": {}}}', ("\\u202e\\n", None)),
        (b'{"event_id": [], "data": {"event_type": ""}}', (None, "")),
        (b"not JSON", (None, None)),
    ],
)
async def test_a_refused_event_can_be_found_by_what_it_calls_itself(
    body: bytes, names: tuple[str | None, str | None], log_lines: Lines
) -> None:
    async with serving() as (_, port):
        assert (await ask(port, post(body))).status in (400, 422)
    (line,) = [line for line in log_lines() if line["action"] == "event.refused"]
    assert (line.get("event_id"), line.get("event_type")) == names


async def test_an_event_without_room_can_be_found_too(log_lines: Lines) -> None:
    async with serving(QUEUE_SIZE="1", DRAIN_TIMEOUT="0") as (_, port):
        for name in ("first", "second"):
            await ask(port, post(events.encode(events.minimal("Test/Hold", event_id=name))))
    (line,) = [line for line in log_lines() if line["action"] == "event.refused"]
    assert (line["status"], line["event_id"], line["event_type"]) == (429, "second", "Test/Hold")


async def test_a_body_of_exactly_the_limit_is_accepted_and_one_byte_more_is_not() -> None:
    async with serving(MAX_BODY_BYTES="100k") as (_, port):
        body = BODY + b" " * (100 * 1024 - len(BODY))
        assert_accepted(await ask(port, post(body)))
        assert_refused(await ask(port, post(body + b" ")), 413)


async def test_a_length_over_the_limit_is_refused_before_the_body_has_come() -> None:
    async with serving(MAX_BODY_BYTES="100k") as (_, port), connect(port) as wire:
        await wire.send(post(b"{", length=10**12))
        answer = await wire.answer()
        assert_refused(answer, 413)
        assert answer.headers["Connection"] == "close"


@pytest.mark.parametrize("size", [90, 110])
async def test_a_chunked_body_is_held_to_the_limit(size: int) -> None:
    async with serving(MAX_BODY_BYTES="100k") as (_, port), connect(port) as wire:
        await wire.send(post(b"", "Transfer-Encoding: chunked", length=-1))
        body = BODY + b" " * (size * 1024 - len(BODY))
        for start in range(0, len(body), 4000):
            part = body[start : start + 4000]
            await wire.send(b"%x\r\n%b\r\n" % (len(part), part))
        await wire.send(b"0\r\n\r\n")
        answer = await wire.answer()
        assert_accepted(answer) if size < 100 else assert_refused(answer, 413)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_body_is_read(encoding: str) -> None:
    body = gzip.compress(BODY) if encoding == "gzip" else zlib.compress(BODY)
    async with serving() as (_, port):
        assert_accepted(await ask(port, post(body, f"Content-Encoding: {encoding}")))


async def test_a_compressed_body_is_held_to_the_limit_by_its_inflated_size() -> None:
    async with serving(MAX_BODY_BYTES="100k") as (_, port):
        body = gzip.compress(BODY + b" " * 100 * 1024)
        assert_refused(await ask(port, post(body, "Content-Encoding: gzip")), 413)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate"])
async def test_a_body_that_is_not_in_its_encoding_is_refused(encoding: str) -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(BODY, f"Content-Encoding: {encoding}"))
        assert_refused(await wire.answer(), 400)


@pytest.mark.parametrize(
    "body",
    [
        b"not gzip at all, as one sees",
        gzip.compress(BODY, mtime=0)[:-8] + bytes(8),
        gzip.compress(BODY, mtime=0) + b"more",
    ],
    ids=["no gzip", "wrong checksum", "more after the end"],
)
async def test_a_connection_whose_body_cannot_be_inflated_is_closed_without_a_stack_trace(
    body: bytes, log_lines: Lines
) -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(b"", "Content-Encoding: gzip", "Transfer-Encoding: chunked", length=-1))
        await wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        answer = await wire.answer()
        assert_refused(answer, 400)
        assert answer.headers["Connection"] == "close"
        assert await wire.rest() == b""
    lines = log_lines()
    assert [line for line in lines if line["level"] == "error"] == []
    assert [line["status"] for line in lines if line["action"] == "event.refused"] == [400]


async def test_a_cut_off_gzip_body_is_refused() -> None:
    async with serving() as (_, port):
        body = gzip.compress(events.encode(events.full()))
        assert_refused(await ask(port, post(body[: len(body) // 2], "Content-Encoding: gzip")), 400)


@pytest.mark.parametrize("encoding", ["br", "zstd", "rot13", "gzip, gzip", "gzip\xff"])
async def test_an_encoding_that_is_not_taken_is_named_with_those_that_are(encoding: str) -> None:
    async with serving() as (_, port):
        answer = await ask(port, post(BODY, f"Content-Encoding: {encoding}"))
        assert_refused(answer, 415)
        assert "gzip, deflate" in answer.json()["error"]
        assert answer.headers["Accept-Encoding"] == "gzip, deflate"


@pytest.mark.parametrize("encoding", ["identity", "", "identity, ", "IDENTITY"])
async def test_no_encoding_may_be_said_in_any_way(encoding: str) -> None:
    async with serving() as (_, port):
        assert_accepted(await ask(port, post(BODY, f"Content-Encoding: {encoding}")))


async def test_chunks_that_are_none_are_refused() -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(b'5\r\n{"dat\r\nzz\r\n', "Transfer-Encoding: chunked", length=-1))
        answer = await wire.answer()
        assert answer.status == 400
        assert_tells_nothing(answer)


@pytest.mark.parametrize("sent", [b"", b'{"data":'])
async def test_a_body_that_does_not_come_is_given_up(sent: bytes, log_lines: Lines) -> None:
    async with serving(BODY_TIMEOUT="50ms") as (_, port), connect(port) as wire:
        await wire.send(post(sent, length=len(BODY)))
        answer = await wire.answer()
        assert_refused(answer, 408)
        assert answer.json()["type"] == "CONNECTION_ERROR"
        assert answer.headers["Connection"] == "close"
    assert [line["status"] for line in log_lines() if line["action"] == "event.refused"] == [408]


async def test_a_client_that_hangs_up_in_its_body_leaves_no_error_behind(log_lines: Lines) -> None:
    async with serving() as (_, port):
        async with connect(port) as wire:
            await wire.send(post(b'{"data":', length=len(BODY)))
        assert_accepted(await ask(port, post(BODY)))
    assert [line for line in log_lines() if line["level"] == "error"] == []


async def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    hold = events.encode(events.minimal("Test/Hold"))
    async with serving(QUEUE_SIZE="3", WORKERS="1", DRAIN_TIMEOUT="0") as (_, port):
        for _ in range(3):
            assert_accepted(await ask(port, post(hold)))
        answer = await ask(port, post(hold))
        assert_refused(answer, 429)
        assert answer.json()["type"] == "RATE_LIMIT_ERROR"
        assert int(answer.headers["Retry-After"]) >= 1


async def test_a_duplicate_is_answered_like_an_event_even_where_the_queue_is_full(log_lines: Lines) -> None:
    hold = events.encode(events.minimal("Test/Hold", event_id="once"))
    async with serving(QUEUE_SIZE="1", DRAIN_TIMEOUT="0") as (_, port):
        for _ in range(2):
            assert_accepted(await ask(port, post(hold)))
        assert_refused(await ask(port, post(BODY)), 429)
    actions = [line["action"] for line in log_lines() if line.get("event_id") == "once"]
    assert actions == ["event.accepted", "event.unordered", "event.duplicate"]


async def test_a_bug_gives_an_error_response_without_a_trace(monkeypatch: pytest.MonkeyPatch, log_lines: Lines) -> None:
    async with serving() as (connector, port):
        monkeypatch.setattr(connector.journal, "keep", None)  # a call of it is the bug
        answer = await ask(port, post(BODY, "x-request-id: unique"))
        assert_refused(answer, 500)
        assert answer.json()["type"] == "INTERNAL_ERROR"
    failed = [line for line in log_lines() if line["action"] == "request.failed"]
    assert [line["unique_id"] for line in failed] == ["unique"]


async def test_a_stopping_connector_is_not_ready_and_takes_no_event() -> None:
    async with serving() as (connector, port):
        connector.stop_accepting()
        answer = await ask(port, post(BODY))
        assert_refused(answer, 503)
        assert int(answer.headers["Retry-After"]) >= 1
        assert_refused(await ask(port, post(method="GET", path="/ready", token=None)), 503)
        assert (await ask(port, post(method="GET", path="/health", token=None))).status == 200


async def test_an_event_whose_body_is_on_its_way_at_the_stop_is_not_lost_behind_a_202(log_lines: Lines) -> None:
    async with serving() as (connector, port), connect(port) as wire:
        await wire.send(post(BODY[:-5], "x-request-id: late", length=len(BODY)))
        assert (await ask(port, post(method="GET", path="/health", token=None))).status == 200
        await connector.drain()
        assert_refused(await wire.answer(), 503)
    actions = [line["action"] for line in log_lines() if line.get("unique_id") == "late"]
    assert actions == ["event.refused"]


@pytest.mark.parametrize(
    "data",
    [
        b"event\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n",
        b"POST /process-event HTTP/9.9\r\n\r\n",
        b"POST /process-event HTTP/1.1\r\nno header\r\n\r\n",
        b"POST /process-event HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
        b"POST /process-event HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /process-event HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\x00b\r\n\r\n",
        bytes(range(256)) * 40,
    ],
    ids=lambda data: repr(data[:50]),
)
async def test_bytes_that_are_not_http_get_no_version_and_no_trace(data: bytes, log_lines: Lines) -> None:
    async with serving() as (_, port):
        async with connect(port) as wire:
            await wire.send(data)
            assert_refused(await wire.answer(), 400)
            assert await wire.rest() == b""
        assert_accepted(await ask(port, post(BODY)))
    lines = log_lines()
    assert [line for line in lines if line["level"] == "error"] == []
    assert [line["status"] for line in lines if line["action"] == "request.refused"] == [400]


@pytest.mark.parametrize(
    ("head", "status", "limit"),
    [
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 414, "8192 bytes"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431, "16384 bytes"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 20_000 + b": 1\r\n\r\n", 431, "16384 bytes"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431, "128 headers"),
    ],
    ids=["request line", "header's value", "header's name", "many headers"],
)
async def test_a_head_that_is_too_large_is_told_the_limit(
    head: bytes, status: int, limit: str, log_lines: Lines
) -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(head)
        answer = await wire.answer()
        assert_refused(answer, status)
        assert limit in answer.json()["error"]
        assert await wire.rest() == b""
    (line,) = [line for line in log_lines() if line["action"] == "request.refused"]
    assert (line["status"], line["remote"]) == (status, "127.0.0.1")


async def test_a_token_in_a_header_that_cannot_be_read_is_neither_logged_nor_sent_back(log_lines: Lines) -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(post(BODY).replace(TOKEN.encode(), TOKEN.encode() + b"\x00"))
        answer = await wire.answer()
        assert_refused(answer, 400)
    assert TOKEN not in str(log_lines())


async def test_pipelined_events_are_answered_in_order() -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(
            post(BODY)
            + post(b"{")
            + post(BODY)
            + post(BODY, token="wrong")
            + post(BODY, method="PUT")
            + post(BODY, path="/nothing")
            + post(method="GET", path="/health")
            + post(BODY)
        )
        answers = [await wire.answer() for _ in range(8)]
        assert [answer.status for answer in answers] == [202, 400, 202, 401, 405, 404, 200, 202]


@pytest.mark.parametrize(
    "refusal", [post(BODY, token="wrong"), post(BODY, path="/nothing"), post(BODY, method="PUT"), post(b"{")]
)
async def test_a_refusal_does_not_cost_the_connection(refusal: bytes) -> None:
    async with serving() as (_, port), connect(port) as wire:
        await wire.send(refusal)
        assert (await wire.answer()).status >= 400
        await wire.send(post(BODY))
        assert_accepted(await wire.answer())


async def test_a_body_that_comes_in_pieces_is_put_together() -> None:
    request = post(events.encode(events.full()))
    async with serving() as (_, port), connect(port) as wire:
        for start in range(0, len(request), 97):
            await wire.send(request[start : start + 97])
            await asyncio.sleep(0)
        assert_accepted(await wire.answer())


async def test_a_client_that_offers_http_2_is_served() -> None:
    upgrade = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAAA"]
    async with serving() as (_, port):
        assert_accepted(await ask(port, post(BODY, *upgrade)))


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/json; charset=latin-1", "nonsense", "multipart/form-data"]
)
async def test_the_content_type_does_not_matter(content_type: str) -> None:
    async with serving() as (_, port):
        assert_accepted(await ask(port, post(BODY, f"Content-Type: {content_type}")))


async def test_a_megabyte_is_accepted() -> None:
    async with serving() as (_, port):
        assert_accepted(await ask(port, post(BODY + b" " * (1_000_000 - len(BODY)))))
