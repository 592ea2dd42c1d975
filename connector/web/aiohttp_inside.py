"""Every change to aiohttp's insides, each with its reason.

``tests/integration/web/test_aiohttp_inside.py`` goes red where a release of aiohttp does not take one any more. aiohttp
offers no other way to any of them. Nothing else of the project touches what aiohttp does not document.
"""

import logging

import aiohttp.web_response
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from connector.web.refusals import refuse_no_request


class Connection(RequestHandler):
    """The connection of a client.

    1. What is no request gets an ErrorResponse and a line. aiohttp answers in plain text, which may quote the request
       with its token, and logs a stack trace of it.
    """

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer where there is no request to hand on."""
        return refuse_no_request(request, status, exc)


class Server(web.Server):
    """Makes our connections instead of aiohttp's."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application with our server."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )


def name_the_server() -> None:
    """Answers say ``Server: connector``: aiohttp names itself and its version to everybody."""
    aiohttp.web_response.SERVER_SOFTWARE = "connector"  # type: ignore[attr-defined]


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of aiohttp's is worth logging: not so for a body that is not in its encoding.

    It was refused and logged, and aiohttp stumbles over the rest of it.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], web.RequestPayloadError))
