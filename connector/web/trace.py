"""The ids that tie log lines to the request that NSPS made.

``x-b3-traceid`` is the log field ``request_id`` and ``x-request-id`` is ``unique_id`` (NSPS connector guide,
"Logging"); where NSPS sent none, one is made.
"""

from typing import Final, NamedTuple
from uuid import uuid4

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import istr

MAX_TRACE_ID: Final = 128
"""Characters kept of an id that came from outside."""

_REQUEST_ID, _UNIQUE_ID = istr("x-b3-traceid"), istr("x-request-id")


class Trace(NamedTuple):
    """The two ids of a request."""

    request_id: str
    unique_id: str


TRACE: Final = web.RequestKey("trace", Trace)


@web.middleware
async def trace(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put the request's ids under ``request[TRACE]``."""
    headers = request.headers
    request[TRACE] = Trace(_clean(headers.get(_REQUEST_ID)), _clean(headers.get(_UNIQUE_ID)))
    return await handler(request)


def _clean(value: str | None) -> str:
    if value and len(value) <= MAX_TRACE_ID and value.isascii() and value.isprintable():
        return value
    kept = "".join(c for c in value or "" if c.isascii() and c.isprintable())[:MAX_TRACE_ID].strip()
    return kept or str(uuid4())
