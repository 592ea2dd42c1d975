"""The answers: the one table from errors to status, type and message, and the ErrorResponse that is made of them.

The table is that of ``docs/architecture.md`` (NSPS connector guide, "Responses"). No other room knows a status code.
"""

import math
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec
from aiohttp import hdrs, web

from connector.errors import (
    ConnectorError,
    Detail,
    Invalid,
    Later,
    NoRoom,
    NotJson,
    NotKnown,
    Unavailable,
)

ErrorType = Literal[
    "VALIDATION_ERROR",
    "AUTHENTICATION_ERROR",
    "SERVICE_ERROR",
    "CONNECTION_ERROR",
    "RATE_LIMIT_ERROR",
    "INTERNAL_ERROR",
]


class ErrorResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every answer but the 202 and the connector's own pages (NSPS OpenAPI description)."""

    message: str
    error: str
    type: ErrorType
    details: list[Detail] | None = None


class BadRequest(ConnectorError):
    """A request that is not HTTP as it should be."""

    text = "The request is not HTTP as it should be"


class BadEncoding(ConnectorError):
    """A body that is not in the encoding it claims."""

    text = "The body does not match its Content-Encoding or Transfer-Encoding"


class BrokenOff(ConnectorError):
    """A request that ends before its end. ``received``, ``expected``: bytes of it; None where that is not known."""

    text = "The request ends before its end"

    def __init__(self, error: str, received: int, expected: int | None = None) -> None:
        super().__init__(error)
        self.received = received
        self.expected = expected


class UnknownEncoding(ConnectorError):
    """A Content-Encoding that is not taken."""

    text = "The Content-Encoding is not known here; gzip, deflate and none are"


class TargetTooLong(ConnectorError):
    """A request line over the limit."""

    text = "The request line is too long"


class HeadTooLarge(ConnectorError):
    """A header over the limit, or too many of them."""

    text = "The headers are too large"


class HeadTimeout(ConnectorError):
    """A head that did not arrive in time."""

    text = "The head of the request did not arrive in time"


class Unauthorized(ConnectorError):
    """A request without a good token."""

    text = "Invalid API token"


class NotFound(ConnectorError):
    """A path that nothing is served at."""

    text = "Not found"


class MethodNotAllowed(ConnectorError):
    """A method that the path does not take. ``allow``: those that it takes, as the header ``Allow`` has them."""

    text = "Method not allowed"

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


class BodyTimeout(ConnectorError):
    """A body that did not arrive within BODY_TIMEOUT."""

    text = "The body did not arrive in time"


class BodyTooLarge(ConnectorError):
    """A body over MAX_BODY_BYTES."""

    text = "The body is over the limit"


class ExpectationFailed(ConnectorError):
    """An ``Expect`` other than 100-continue."""

    text = "The only expectation met here is 100-continue"


class InternalError(ConnectorError):
    """A bug of the connector. What it was stands in the log, not in the answer."""


class HandlerFailed(ConnectorError):
    """With RESPONSE=outcome: the connector's own handler failed, or gave the event up."""

    text = "The handler of the event failed"


class TargetRefused(ConnectorError):
    """With RESPONSE=outcome: the external system refused the event or failed."""

    text = "The external system refused the event or failed"


class TargetDown(Later):
    """With RESPONSE=outcome: the external system cannot be reached."""

    text = "The external system is not available"


class TargetNotFound(ConnectorError):
    """With RESPONSE=outcome: the external system knows no such resource."""

    text = "The external system knows no such resource"


class Answer(NamedTuple):
    """What a kind of error is answered with.

    ``closes``  whether the connection ends with the answer, since the rest of the body is not worth reading or
                unreadable
    """

    status: int
    type: ErrorType
    message: str
    closes: bool = False


ANSWERS: Final[Mapping[type[ConnectorError], Answer]] = {
    NotJson: Answer(400, "VALIDATION_ERROR", "Validation failed"),
    BadRequest: Answer(400, "VALIDATION_ERROR", "Bad request"),
    BadEncoding: Answer(400, "VALIDATION_ERROR", "Bad request", closes=True),
    BrokenOff: Answer(400, "VALIDATION_ERROR", "Bad request", closes=True),
    Unauthorized: Answer(401, "AUTHENTICATION_ERROR", "Authentication failed"),
    NotFound: Answer(404, "VALIDATION_ERROR", "Resource not found"),
    NotKnown: Answer(404, "VALIDATION_ERROR", "Resource not found"),
    TargetNotFound: Answer(404, "VALIDATION_ERROR", "Resource not found"),
    MethodNotAllowed: Answer(405, "VALIDATION_ERROR", "Method not allowed"),
    BodyTimeout: Answer(408, "CONNECTION_ERROR", "Request timeout", closes=True),
    HeadTimeout: Answer(408, "CONNECTION_ERROR", "Request timeout", closes=True),
    BodyTooLarge: Answer(413, "VALIDATION_ERROR", "Request body too large", closes=True),
    TargetTooLong: Answer(414, "VALIDATION_ERROR", "Request line too long", closes=True),
    UnknownEncoding: Answer(415, "VALIDATION_ERROR", "Content encoding not supported", closes=True),
    ExpectationFailed: Answer(417, "VALIDATION_ERROR", "Expectation failed"),
    Invalid: Answer(422, "VALIDATION_ERROR", "Validation failed"),
    NoRoom: Answer(429, "RATE_LIMIT_ERROR", "Too many requests"),
    HeadTooLarge: Answer(431, "VALIDATION_ERROR", "Request headers too large", closes=True),
    HandlerFailed: Answer(500, "SERVICE_ERROR", "Event handler failed"),
    TargetRefused: Answer(500, "SERVICE_ERROR", "External system error"),
    TargetDown: Answer(503, "CONNECTION_ERROR", "External system is not available"),
    Unavailable: Answer(503, "SERVICE_ERROR", "Service unavailable"),
    ConnectorError: Answer(500, "INTERNAL_ERROR", "Internal server error"),
}
"""By kind of error; a kind that is not here is answered as the nearest one that it is derived from."""


def answer_to(error: ConnectorError) -> Answer:
    """The row of the table that holds for an error."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


def error_response(error: ConnectorError, *, closes: bool = False) -> web.Response:
    """The ErrorResponse of the NSPS OpenAPI description, at the top level of the body.

    ``closes``: end the connection with it, also where the table does not.
    """
    answer = answer_to(error)
    body = ErrorResponse(answer.message, error.error, answer.type, error.details or None)
    response = web.Response(
        status=answer.status, body=_encode(body), content_type="application/json", headers=_headers(error)
    )
    if closes or answer.closes:
        response.force_close()
    return response


def _headers(error: ConnectorError) -> dict[str, str]:
    match error:
        case Unauthorized():
            return {hdrs.WWW_AUTHENTICATE: "Bearer"}
        case UnknownEncoding():
            return {hdrs.ACCEPT_ENCODING: "gzip, deflate"}
        case MethodNotAllowed():
            return {hdrs.ALLOW: error.allow}
        case Later():
            return {hdrs.RETRY_AFTER: str(max(1, math.ceil(error.retry_after)))}
        case _:
            return {}


_encode = msgspec.json.Encoder().encode
