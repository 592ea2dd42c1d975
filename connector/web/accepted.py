"""The 202, written as one piece of bytes.

The answer to an event never changes, and a third of what a bare aiohttp server spends on a request goes into building
a response header by header.
"""

import time
from email.utils import formatdate
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

BODY: Final = b'{"message":"Event accepted for processing"}'
_HEAD: Final = f"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\nDate: "


def accepted(request: web.Request) -> web.StreamResponse:
    """The 202 to this request.

    A client that does not read its answers is not given the next one before it does: aiohttp's own answer waits for
    it, the one piece would not.
    """
    if request.version == HttpVersion11 and request.keep_alive and not request.protocol.writing_paused:
        return ACCEPTED
    return ACCEPTED.as_response()


class OnePiece(web.StreamResponse):
    """The 202 to an HTTP/1.1 request on a connection that stays open. It has no state: one serves all."""

    def as_response(self) -> web.Response:
        """The same answer as aiohttp makes it, for any other connection."""
        return web.Response(status=202, body=BODY, content_type="application/json")

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        transport.write(_head_and_body())
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """All was written by ``prepare``."""

    @property
    def keep_alive(self) -> bool:
        return True


ACCEPTED: Final = OnePiece(status=202)
"""The one that serves all."""

_made = (0, b"")


def _head_and_body() -> bytes:
    global _made  # the Date of an answer changes once a second (RFC 9110, 6.6.1)
    second = int(time.time())
    if _made[0] != second:
        _made = (second, f"{_HEAD}{formatdate(second, usegmt=True)}\r\n\r\n".encode() + BODY)
    return _made[1]
