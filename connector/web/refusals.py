"""Whatever is raised becomes an ErrorResponse and a log line that says what was refused and why.

A refusal is never kept in a variable: an exception leads to its traceback, that to the frames with the body in them,
and a frame that leads back to the exception keeps all of it until the garbage collector comes by, which it seldom does
here.
"""

from http import HTTPStatus
from typing import Any, Final, NamedTuple

from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, LineTooLong
from aiohttp.typedefs import Handler, Middleware

from connector import log
from connector.errors import ConnectorError
from connector.facts import Refusal, facts
from connector.web.remote import RemoteAddress, plain
from connector.web.responses import (
    BadRequest,
    BrokenOff,
    HeadTooLarge,
    InternalError,
    MethodNotAllowed,
    NotFound,
    TargetTooLong,
    answer_to,
    error_response,
)
from connector.web.trace import TRACE

MAX_LINE: Final = 8192
"""Bytes of a request line."""

MAX_HEADER: Final = 16384
"""Bytes of a header, its name or its value."""

MAX_HEADERS: Final = 128
"""Headers of a request."""

MAX_PATH: Final = 200
"""Characters of a path that a log line shows."""


class Names(NamedTuple):
    """What a refused event calls itself, where that can be read."""

    event_id: str | None
    event_type: str | None


NAMES: Final = web.RequestKey("names", Names)

_logger = log.get_logger()


def refusals(event_paths: frozenset[str], remote: RemoteAddress) -> Middleware:
    """The middleware that turns whatever is raised into an ErrorResponse, and logs every refusal with its reason.

    ``event_paths``  where events are refused
    ``remote``       whose request it is
    """

    def refuse(request: web.Request, error: ConnectorError) -> web.Response:
        event = request.path in event_paths
        fields: dict[str, Any] = dict(request[TRACE]._asdict())
        if (names := request.get(NAMES)) is not None:
            fields |= {name: value for name, value in names._asdict().items() if value is not None}
        if isinstance(error, NotFound | MethodNotAllowed):
            fields["path"] = shown(request.path)
        _say(request.method, error, "event.refused" if event else "request.refused", remote(request), fields)
        return error_response(error)

    @web.middleware
    async def refusals_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ConnectorError as error:
            return refuse(request, error)
        except web.HTTPException as answer:
            return refuse(request, _of_http(answer))
        except ConnectionError:
            raise  # the client has gone: nobody to answer
        except Exception:
            _logger.exception("Request failed", action="request.failed", **request[TRACE]._asdict())
            return refuse(request, InternalError())

    return refusals_middleware


def refuse_no_request(request: web.BaseRequest, status: int, error: BaseException | None) -> web.Response:
    """The ErrorResponse where no handler was asked: bytes that are no HTTP, a line that is too long, CONNECT.

    ``error`` is what aiohttp raised; its text may quote the request, its token too, so it is not used.
    """
    refusal = _of_no_request(status, error)
    if not isinstance(error, ConnectionError):  # the client has gone: nobody to answer
        if isinstance(refusal, InternalError):
            say_failed(error)
        fields = {"cause": type(error).__name__}
        if isinstance(refusal, NotFound):
            fields["path"] = shown(request.raw_path.partition("?")[0])
        _say(request.method, refusal, "request.refused", plain(request.remote or ""), fields)
    if request.writer.output_size > 0:
        raise ConnectionError("a part of another answer has been sent")
    response = error_response(refusal, closes=True)
    response.headers[hdrs.CONNECTION] = "close"  # said by ``force_close`` only to a request of HTTP/1.1
    return response


def say_failed(error: BaseException | None) -> None:
    """Log a bug of the connector, with its stack trace."""
    _logger.error("Request failed", action="request.failed", exc_info=error)


def shown(text: str) -> str:
    """A text of a stranger's as a log line may show it: cut, and without what would act on a terminal."""
    cut = text[:MAX_PATH] + ("..." if len(text) > MAX_PATH else "")
    return cut if cut.isascii() and cut.isprintable() else ascii(cut)[1:-1]


def _say(method: str, error: ConnectorError, action: str, remote: str, more: dict[str, Any]) -> None:
    answer = answer_to(error)
    if isinstance(error, BrokenOff):
        action = "request.broken_off"
        more |= {"received": error.received, "expected": error.expected}
    details = [f"{'.'.join(map(str, each.loc))}: {each.msg}" for each in error.details]
    facts.refused(
        Refusal(type(error).__name__, action, method, answer.status, answer.type, error.error, details, remote, more)
    )


def _of_http(answer: web.HTTPException) -> ConnectorError:
    if answer.status == HTTPStatus.NOT_FOUND:
        return NotFound()
    return BadRequest(answer.reason) if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR else InternalError()


def _of_no_request(status: int, error: BaseException | None) -> ConnectorError:
    match error:
        case ConnectorError():
            return error
        case web.HTTPException():
            return _of_http(error)
        case LineTooLong() if error.args[1:2] == (MAX_LINE,):
            return TargetTooLong(f"The request line is over {MAX_LINE} bytes")
        case LineTooLong():
            return HeadTooLarge(f"A header is over {MAX_HEADER} bytes")
        case BadHttpMessage() if "Too many headers" in error.message:
            return HeadTooLarge(f"There are over {MAX_HEADERS} headers")
        case BadHttpMethod() if "HTTPS traffic" in error.message:
            return BadRequest("This is TLS, and the port is one without TLS: use http, or set TLS_CERT_FILE")
        case _ if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return BadRequest()
        case _:
            return InternalError()
