"""The exception tree, and the one place that renders an ErrorResponse.

A ``ConnectorError`` is an answer to NSPS: status, type, message and error, as the table in
``docs/architecture.md`` gives them (NSPS connector guide, "Responses"). NSPS keeps every answer in its event
history, where an operator reads it, so the texts are for a person.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar, Literal

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, LineTooLong
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestHandler

from connector import log
from connector.web.trace import TRACE

RETRY_AFTER_SECONDS = 30
"""What a 429 or 503 asks NSPS to wait; it sends again after 1 to 10 minutes of its own accord."""


ErrorType = Literal[
    "VALIDATION_ERROR",
    "AUTHENTICATION_ERROR",
    "SERVICE_ERROR",
    "CONNECTION_ERROR",
    "RATE_LIMIT_ERROR",
    "INTERNAL_ERROR",
]


class Detail(msgspec.Struct, frozen=True):
    """Where in the body a fault is, and what it is."""

    loc: list[str | int]
    msg: str


class ErrorResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every answer but the 202 and the connector's own pages (NSPS OpenAPI description)."""

    message: str
    error: str
    type: ErrorType
    details: list[Detail] | None = None


class ConnectorError(Exception):
    """Internal server error."""

    status: ClassVar[int] = 500
    type: ClassVar[ErrorType] = "INTERNAL_ERROR"
    message: ClassVar[str] = "Internal server error"
    closes: ClassVar[bool] = False
    """Whether the connection ends with the answer, since the rest of the body is not worth reading or unreadable."""

    def __init__(
        self,
        error: str | None = None,
        *,
        details: Sequence[Detail] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``error`` says what went wrong; ``details`` where and what."""
        self.error = error or (type(self).__doc__ or "").strip().rstrip(".")
        self.details = list(details)
        self.headers = dict(headers or {})
        super().__init__(self.error)


class NotJson(ConnectorError):
    """The body is not JSON."""

    status = 400
    type = "VALIDATION_ERROR"
    message = "Validation failed"


class BadRequest(ConnectorError):
    """Bad request."""

    status = 400
    type = "VALIDATION_ERROR"
    message = "Bad request"


class BadEncoding(BadRequest):
    """The body does not match its Content-Encoding or Transfer-Encoding."""

    closes = True


class Unauthorized(ConnectorError):
    """Invalid API token."""

    status = 401
    type = "AUTHENTICATION_ERROR"
    message = "Authentication failed"

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class NotFound(ConnectorError):
    """Not found."""

    status = 404
    type = "VALIDATION_ERROR"
    message = "Resource not found"


class MethodNotAllowed(ConnectorError):
    """Method not allowed."""

    status = 405
    type = "VALIDATION_ERROR"
    message = "Method not allowed"

    def __init__(self, allow: str) -> None:
        super().__init__(headers={"Allow": allow})


class BodyTimeout(ConnectorError):
    """The body did not arrive in time."""

    status = 408
    type = "CONNECTION_ERROR"
    message = "Request timeout"
    closes = True


class BodyTooLarge(ConnectorError):
    """The body is over the limit."""

    status = 413
    type = "VALIDATION_ERROR"
    message = "Request body too large"
    closes = True


class ExpectationFailed(ConnectorError):
    """The only expectation met here is 100-continue."""

    status = 417
    type = "VALIDATION_ERROR"
    message = "Expectation failed"


class Invalid(ConnectorError):
    """Validation failed."""

    status = 422
    type = "VALIDATION_ERROR"
    message = "Validation failed"


class NoRoom(ConnectorError):
    """Rate limit exceeded."""

    status = 429
    type = "RATE_LIMIT_ERROR"
    message = "Too many requests"

    def __init__(self, error: str | None = None, *, retry_after: float = RETRY_AFTER_SECONDS) -> None:
        super().__init__(error, headers={"Retry-After": str(max(1, round(retry_after)))})


class InternalError(ConnectorError):
    """The connector has a fault; its log says more."""


class Unavailable(ConnectorError):
    """Cannot keep the event now."""

    status = 503
    type = "SERVICE_ERROR"
    message = "Service unavailable"

    def __init__(self, error: str | None = None, *, retry_after: float = RETRY_AFTER_SECONDS) -> None:
        super().__init__(error, headers={"Retry-After": str(max(1, round(retry_after)))})


class Stopping(Unavailable):
    """Shutting down; send the event again."""


class TargetRefused(ConnectorError):
    """The external system refused the event or has a fault."""

    status = 500
    type = "SERVICE_ERROR"
    message = "External system error"


class TargetDown(ConnectorError):
    """The external system is not available."""

    status = 503
    type = "CONNECTION_ERROR"
    message = "External system is not available"


class TargetNotFound(ConnectorError):
    """The external system knows no such resource."""

    status = 404
    type = "VALIDATION_ERROR"
    message = "Resource not found"


class StartError(Exception):
    """The program cannot start; the message is one line for the operator, and the exit code is 2."""


class InUse(StartError):
    """Another process owns the journal."""


def error_response(error: ConnectorError) -> web.Response:
    """The ErrorResponse of the NSPS OpenAPI description, at the top level of the body."""
    body = ErrorResponse(error.message, error.error, error.type, error.details or None)
    response = web.Response(
        status=error.status, body=_encode(body), content_type="application/json", headers=error.headers
    )
    if error.closes:
        response.force_close()
    return response


_encode = msgspec.json.Encoder().encode


def errors(event_path: str) -> Middleware:
    """The middleware that turns whatever is raised into an ErrorResponse, and logs every refusal with its reason."""

    @web.middleware
    async def errors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
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
        _log(request, refusal, "event.refused" if request.path == event_path else "request.refused")
        return error_response(refusal)

    return errors_middleware


def without_request(
    _: RequestHandler,
    request: web.BaseRequest,
    status: int = 500,
    exc: BaseException | None = None,
    message: str | None = None,
) -> web.StreamResponse:
    """The ErrorResponse where aiohttp has no request to hand on: bytes that are no HTTP, an encoding it cannot inflate.

    Has the signature of ``RequestHandler.handle_error``, in whose stead it stands: that one answers in plain text, and
    logs a stack trace for each stranger that knocks. ``message`` may quote the request, its token too: it is not used.
    """
    refusal: ConnectorError = InternalError()
    if isinstance(exc, ContentEncodingError):
        refusal = BadRequest("The Content-Encoding is not known here; gzip, deflate and none are")
    elif isinstance(exc, LineTooLong):
        refusal = BadRequest("The request line or a header is too long")
    elif status < HTTPStatus.INTERNAL_SERVER_ERROR:
        refusal = BadRequest("The request is not HTTP as it should be")
    if not isinstance(exc, ConnectionError):  # the client has gone: nobody to answer
        if refusal.status == InternalError.status:
            _logger.error("Request failed", action="request.failed", exc_info=exc)
        _logger.warning(
            f"Refused: {refusal.status} {refusal.error}",
            action="request.refused",
            status=refusal.status,
            type=refusal.type,
            reason=type(exc).__name__,
        )
    if request.writer.output_size > 0:
        raise ConnectionError("a part of another answer has been sent")
    response = error_response(refusal)
    response.force_close()
    return response


_logger = log.get_logger()


def _log(request: web.Request, error: ConnectorError, action: str) -> None:
    _logger.warning(
        f"{request.method} refused: {error.status} {error.error}",
        action=action,
        **request[TRACE]._asdict(),
        status=error.status,
        type=error.type,
        reason=error.error,
        details=[f"{'.'.join(map(str, each.loc))}: {each.msg}" for each in error.details],
    )


def _of_http(answer: web.HTTPException) -> ConnectorError:
    if answer.status == HTTPStatus.NOT_FOUND:
        return NotFound()
    return BadRequest(answer.reason) if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR else InternalError()
