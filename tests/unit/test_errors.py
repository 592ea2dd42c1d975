import json
from typing import get_args

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from connector import errors
from connector.errors import ConnectorError, ErrorResponse, ErrorType, Invalid, NoRoom, Stopping, error_response
from connector.web.trace import TRACE, Trace
from tests.conftest import Lines


def tree(kind: type[ConnectorError] = ConnectorError) -> list[type[ConnectorError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in tree(child))]


ANSWERS = {
    errors.NotJson: (400, "VALIDATION_ERROR", "Validation failed"),
    errors.BadRequest: (400, "VALIDATION_ERROR", "Bad request"),
    errors.BadEncoding: (400, "VALIDATION_ERROR", "Bad request"),
    errors.Unauthorized: (401, "AUTHENTICATION_ERROR", "Authentication failed"),
    errors.NotFound: (404, "VALIDATION_ERROR", "Resource not found"),
    errors.MethodNotAllowed: (405, "VALIDATION_ERROR", "Method not allowed"),
    errors.BodyTimeout: (408, "CONNECTION_ERROR", "Request timeout"),
    errors.BodyTooLarge: (413, "VALIDATION_ERROR", "Request body too large"),
    errors.ExpectationFailed: (417, "VALIDATION_ERROR", "Expectation failed"),
    errors.Invalid: (422, "VALIDATION_ERROR", "Validation failed"),
    errors.NoRoom: (429, "RATE_LIMIT_ERROR", "Too many requests"),
    errors.InternalError: (500, "INTERNAL_ERROR", "Internal server error"),
    errors.Unavailable: (503, "SERVICE_ERROR", "Service unavailable"),
}


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_an_answer_is_the_one_of_the_protocol_s_table(kind: type[ConnectorError]) -> None:
    assert (kind.status, kind.type, kind.message) == ANSWERS[kind]


def test_no_kind_of_error_is_without_a_legal_type_and_a_text_for_a_person() -> None:
    for kind in tree():
        assert kind.type in get_args(ErrorType)
        assert kind.message
        assert (kind.__doc__ or "").strip()


def test_an_error_response_has_the_fields_of_the_protocol_at_the_top_level() -> None:
    plain = error_response(NoRoom())
    detailed = error_response(Invalid(details=[errors.Detail(["data", 0], "wrong")]))
    assert plain.body == (b'{"message":"Too many requests","error":"Rate limit exceeded","type":"RATE_LIMIT_ERROR"}')
    assert isinstance(detailed.body, bytes)
    assert json.loads(detailed.body)["details"] == [{"loc": ["data", 0], "msg": "wrong"}]
    assert plain.content_type == detailed.content_type == "application/json"


@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.0, 29.6])
def test_a_wait_is_asked_for_in_whole_seconds_and_never_none(seconds: float) -> None:
    assert int(NoRoom(retry_after=seconds).headers["Retry-After"]) >= 1
    assert int(Stopping(retry_after=seconds).headers["Retry-After"]) >= 1


async def answer(raised: BaseException, path: str = "/process-event") -> web.StreamResponse:
    request = make_mocked_request("POST", path)
    request[TRACE] = Trace("r", "u")

    async def handler(_: web.Request) -> web.StreamResponse:
        raise raised

    return await errors.errors("/process-event")(request, handler)


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
    await answer(Invalid(details=[errors.Detail(["data", "event_type"], "Field required")]), "/elsewhere")
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
