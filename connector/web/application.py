"""The aiohttp application: what is served at which path, who may, and what is around every answer."""

import time
from typing import Any, Final

from aiohttp import hdrs, web

from connector import log
from connector.settings import Settings
from connector.web.accept import Accept
from connector.web.access_log import access_log
from connector.web.bearer import AUTH, BearerAuth, Guesses
from connector.web.health import Health
from connector.web.openapi import OpenApiPage
from connector.web.refusals import MAX_HEADER, MAX_HEADERS, MAX_LINE, refusals
from connector.web.remote import RemoteAddress
from connector.web.routes import Page, add_routes, both_forms, not_found
from connector.web.trace import trace

READ_AHEAD: Final = 2**16
"""Bytes of a body that are read ahead of whoever takes them; twice as many may be in memory of each connection."""


def application(settings: Settings, accept: Accept, health: Health) -> web.Application:
    """What answers every request; ``accept`` takes the events."""
    remote = RemoteAddress(settings.trusted_proxies)
    auth = BearerAuth(settings.api_token, remote, Guesses(time.monotonic))
    app = web.Application(client_max_size=settings.max_body_bytes, handler_args=_protocol(settings, remote))
    app[AUTH] = auth
    add_routes(
        app,
        {
            settings.event_path: Page({hdrs.METH_POST: accept.handle}, auth),
            "/health": Page({hdrs.METH_GET: health.health}),
            "/ready": Page({hdrs.METH_GET: health.ready}),
            "/openapi.json": Page({hdrs.METH_GET: OpenApiPage(settings.event_path, accept.schema).get}),
        },
        [trace, refusals(both_forms(settings.event_path), remote)],
        not_found(settings.event_path, auth),
    )
    return app


def _protocol(settings: Settings, remote: RemoteAddress) -> dict[str, Any]:
    """What aiohttp is to do with a connection, whoever serves the application.

    It inflates nothing, since that would be before the token is checked (``connector.web.bodies`` does it), and does
    not wait for the rest of a body that nobody reads (``connector.web.aiohttp_inside`` does).
    """
    return {
        "access_log_class": access_log(remote),
        "access_log": log.server_logger if settings.access_log else None,
        "logger": log.server_logger,
        "keepalive_timeout": settings.keepalive_timeout,
        "lingering_time": 0,
        "auto_decompress": False,
        "read_bufsize": READ_AHEAD,
        "max_line_size": MAX_LINE,
        "max_field_size": MAX_HEADER,
        "max_headers": MAX_HEADERS,
    }
