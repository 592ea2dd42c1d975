"""Each change to aiohttp's insides (``connector.web.aiohttp_inside``) is still taken, whatever aiohttp's release."""

import pytest

from tests.conftest import Lines
from tests.serving import serving
from tests.wire import TOKEN, ask, post


@pytest.mark.parametrize(
    "sent",
    [
        b"no http at all\r\n\r\n",
        b"POST / HTTP/9.9\r\n\r\n",
        b"POST /process-event HTTP/0.9\r\nHost: a\r\n\r\n",
        b"POST /process-event HTTP/2.0\r\nHost: a\r\n\r\n",
        b"CONNECT  \r\n\r\n",
        b"POST /process-event HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n : x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_is_no_request_gets_an_error_response_that_quotes_nothing_and_a_line(
    sent: bytes, log_lines: Lines
) -> None:
    async with serving() as (_, port):
        answer = await ask(port, sent)
    assert (answer.status, answer.json()["type"]) == (400, "VALIDATION_ERROR")
    assert TOKEN not in str(answer)
    lines = log_lines()
    (line,) = [line for line in lines if line["action"] == "request.refused"]
    assert (line["level"], line["status"]) == ("warning", 400)
    assert [line for line in lines if line["level"] == "error"] == []
    assert line["remote"] == "127.0.0.1"
    assert TOKEN not in str(line)


async def test_no_answer_names_the_library_and_its_version() -> None:
    async with serving() as (_, port):
        for path in ("/health", "/nothing"):
            answer = await ask(port, post(path=path, method="GET", token=None))
            assert answer.headers["Server"] == "connector"
