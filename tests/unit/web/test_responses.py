import json

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from connector.errors import ConnectorError, Detail, Invalid, NoRoom, NotJson, Stopping, Unavailable
from connector.web import responses
from connector.web.refusals import refusals
from connector.web.remote import RemoteAddress
from connector.web.responses import ErrorResponse, ErrorType, answer_to, error_response
from connector.web.trace import TRACE, Trace
from tests.conftest import Lines


def tree(kind: type[ConnectorError] = ConnectorError) -> list[type[ConnectorError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]


@pytest.mark.parametrize(
    ("error", "status", "kind", "message"),
    [
        (NotJson(), 400, "VALIDATION_ERROR", "Validation failed"),
        (responses.BadRequest(), 400, "VALIDATION_ERROR", "Bad request"),
        (responses.BadEncoding(), 400, "VALIDATION_ERROR", "Bad request"),
        (responses.Unauthorized(), 401, "AUTHENTICATION_ERROR", "Authentication failed"),
        (responses.NotFound(), 404, "VALIDATION_ERROR", "Resource not found"),
        (responses.MethodNotAllowed("POST"), 405, "VALIDATION_ERROR", "Method not allowed"),
        (responses.BodyTimeout(), 408, "CONNECTION_ERROR", "Request timeout"),
        (responses.BodyTooLarge(), 413, "VALIDATION_ERROR", "Request body too large"),
        (responses.ExpectationFailed(), 417, "VALIDATION_ERROR", "Expectation failed"),
        (Invalid(), 422, "VALIDATION_ERROR", "Validation failed"),
        (NoRoom(), 429, "RATE_LIMIT_ERROR", "Too many requests"),
        (responses.InternalError(), 500, "INTERNAL_ERROR", "Internal server error"),
        (Unavailable(), 503, "SERVICE_ERROR", "Service unavailable"),
        (Stopping(), 503, "SERVICE_ERROR", "Service unavailable"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, ConnectorError) else None,
)
def test_an_answer_is_the_one_of_the_protocol_s_table(
    error: ConnectorError, status: int, kind: ErrorType, message: str
) -> None:
    assert answer_to(error)[:3] == (status, kind, message)


def test_no_kind_of_error_is_without_a_text_for_a_person() -> None:
    for kind in tree():
        assert kind.text


def test_an_error_response_has_the_fields_of_the_protocol_at_the_top_level() -> None:
    plain = error_response(NoRoom())
    detailed = error_response(Invalid(details=[Detail(["data", 0], "wrong")]))
    assert plain.body == (b'{"message":"Too many requests","error":"Rate limit exceeded","type":"RATE_LIMIT_ERROR"}')
    assert isinstance(detailed.body, bytes)
    assert json.loads(detailed.body)["details"] == [{"loc": ["data", 0], "msg": "wrong"}]
    assert plain.content_type == detailed.content_type == "application/json"


@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.0, 29.6])
def test_a_wait_is_asked_for_in_whole_seconds_and_never_too_short_a_one(seconds: float) -> None:
    for error in (NoRoom(retry_after=seconds), Stopping(retry_after=seconds)):
        assert int(error_response(error).headers["Retry-After"]) >= max(1.0, seconds)


async def answer(raised: BaseException, path: str = "/process-event") -> web.StreamResponse:
    request = make_mocked_request("POST", path)
    request[TRACE] = Trace("r", "u")

    async def handler(_: web.Request) -> web.StreamResponse:
        raise raised

    return await refusals(frozenset({"/process-event"}), RemoteAddress())(request, handler)


async def test_a_bug_gives_500_without_its_text_and_a_log_line_with_it(log_lines: Lines) -> None:
    response = await answer(RuntimeError("the inner secret"))
    assert isinstance(response, web.Response)
    assert response.status == 500
    assert isinstance(response.body, bytes)
    body = json.loads(response.body)
    assert body["type"] == "INTERNAL_ERROR"
    assert set(body) == set(ErrorResponse.__struct_fields__) - {"details"}
    assert b"secret" not in response.body
    failed, refused = log_lines()
    assert (failed["action"], failed["level"]) == ("request.failed", "error")
    assert "the inner secret" in failed["exception"]
    assert (refused["action"], refused["status"]) == ("event.refused", 500)
    for line in (failed, refused):
        assert (line["request_id"], line["unique_id"]) == ("r", "u")


async def test_a_refusal_is_logged_with_its_reason(log_lines: Lines) -> None:
    await answer(Invalid(details=[Detail(["data", "event_type"], "Field required")]), "/elsewhere")
    (line,) = log_lines()
    assert (line["action"], line["level"], line["status"]) == ("request.refused", "warning", 422)
    assert line["reason"] == "Validation failed"
    assert line["details"] == ["data.event_type: Field required"]


@pytest.mark.parametrize(
    ("raised", "status"), [(web.HTTPNotFound(), 404), (web.HTTPBadRequest(), 400), (web.HTTPBadGateway(), 500)]
)
async def test_the_framework_s_own_answers_become_ours(
    raised: web.HTTPException, status: int, log_lines: Lines
) -> None:
    response = await answer(raised)
    assert (response.status, response.content_type) == (status, "application/json")
    assert log_lines()


async def test_a_client_that_has_gone_is_not_answered_and_no_bug(log_lines: Lines) -> None:
    with pytest.raises(ConnectionResetError):
        await answer(ConnectionResetError())
    assert log_lines() == []
