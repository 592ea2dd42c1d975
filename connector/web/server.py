"""The HTTP server: what listens, and how long it waits for clients."""

from typing import Final

from aiohttp import web

from connector import log
from connector.web.access_log import AccessLog
from connector.web.aiohttp_inside import Runner, is_news, name_the_server

KEEPALIVE_TIMEOUT: Final = 75.0
"""Seconds an idle connection is kept; NSPS reuses connections in a burst."""

LINGER: Final = 2.0
"""Seconds that the rest of a refused body is read, so that the client sees the answer and not a reset."""

ANSWER_TIMEOUT: Final = 10.0
"""Seconds that requests under way have to get their answer at a stop."""


def http_runner(app: web.Application, *, access_log: bool) -> web.AppRunner:
    """What serves ``app``, not yet set up. ``access_log``: a line for each request."""
    name_the_server()
    log.server_logger.addFilter(is_news)
    return Runner(
        app,
        access_log_class=AccessLog,
        access_log=log.server_logger if access_log else None,
        logger=log.server_logger,
        keepalive_timeout=KEEPALIVE_TIMEOUT,
        lingering_time=LINGER,
        shutdown_timeout=ANSWER_TIMEOUT,
    )
