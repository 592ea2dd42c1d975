"""Whatever is raised becomes an ErrorResponse and a log line that says what was refused and why."""

from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, LineTooLong
from aiohttp.typedefs import Handler, Middleware

from connector import log
from connector.errors import ConnectorError
from connector.facts import Refusal, facts
from connector.web.responses import BadRequest, InternalError, NotFound, answer_to, error_response
from connector.web.trace import TRACE

_logger = log.get_logger()


def refusals(event_path: str) -> Middleware:
    """The middleware that turns whatever is raised into an ErrorResponse, and logs every refusal with its reason."""

    @web.middleware
    async def refusals_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ConnectorError as error:
            refusal = error
        except web.HTTPException as answer:
            refusal = _of_http(answer)
        except ConnectionError:
            raise  # the client has gone: nobody to answer
        except Exception:
            refusal = InternalError()
            _logger.exception("Request failed", action="request.failed", **request[TRACE]._asdict())
        _say(
            request,
            refusal,
            "event.refused" if request.path == event_path else "request.refused",
            **request[TRACE]._asdict(),
        )
        return error_response(refusal)

    return refusals_middleware


def refuse_no_request(request: web.BaseRequest, status: int, error: BaseException | None) -> web.StreamResponse:
    """The ErrorResponse where there is no request to hand on: bytes that are no HTTP, a line that is too long.

    ``error`` is what aiohttp raised; its text may quote the request, its token too, so it is not used.
    """
    refusal: ConnectorError = InternalError()
    if isinstance(error, ContentEncodingError):
        refusal = BadRequest("The Content-Encoding is not known here; gzip, deflate and none are")
    elif isinstance(error, LineTooLong):
        refusal = BadRequest("The request line or a header is too long")
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
        refusal = BadRequest()
    if not isinstance(error, ConnectionError):  # the client has gone: nobody to answer
        if isinstance(refusal, InternalError):
            _logger.error("Request failed", action="request.failed", exc_info=error)
        _say(request, refusal, "request.refused", cause=type(error).__name__)
    if request.writer.output_size > 0:
        raise ConnectionError("a part of another answer has been sent")
    return error_response(refusal, closes=True)


def _say(request: web.BaseRequest, error: ConnectorError, action: str, **more: Any) -> None:
    answer = answer_to(error)
    facts.refused(
        Refusal(
            type(error).__name__,
            action,
            request.method,
            answer.status,
            answer.type,
            error.error,
            [f"{'.'.join(map(str, each.loc))}: {each.msg}" for each in error.details],
            request.remote,
            more,
        )
    )


def _of_http(answer: web.HTTPException) -> ConnectorError:
    if answer.status == HTTPStatus.NOT_FOUND:
        return NotFound()
    return BadRequest(answer.reason) if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR else InternalError()
