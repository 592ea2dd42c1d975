"""The access log, where ACCESS_LOG asks for it: one line for each HTTP request, with the ids of its other lines."""

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from connector import log
from connector.web.remote import RemoteAddress
from connector.web.trace import TRACE

_log = log.get_logger()


def access_log(remote_of: RemoteAddress) -> type[AbstractAccessLogger]:
    """The class that aiohttp makes a logger of for each connection. ``remote_of`` says whose request it is."""

    class AccessLog(AbstractAccessLogger):
        def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
            """One line; ``time`` is in seconds. The query is left out: nobody knows what a client puts there."""
            trace = request.get(TRACE)
            _log.info(
                f"{request.method} {request.path} {response.status}",
                action="request.served",
                **(trace._asdict() if trace else {}),
                status=response.status,
                ms=round(time * 1000, 1),
                remote=remote_of(request),
            )

    return AccessLog
