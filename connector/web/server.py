"""The HTTP server of a connector: from its start to the end of its last connection."""

from typing import Final

from aiohttp import web

from connector import log
from connector.settings import Settings
from connector.web.aiohttp_inside import Runner, name_the_server
from connector.web.listener import Listener, most_connections
from connector.web.tls import Certificate

_log = log.get_logger()

ANSWER_TIMEOUT: Final = 10.0
"""Seconds that requests under way have to get their answer at a stop."""


class HttpServer:
    """Serves an application over HTTP. ``start`` and ``stop`` once each."""

    def __init__(self, app: web.Application, settings: Settings) -> None:
        self._settings = settings
        self._runner = Runner(app)
        self._listener: Listener | None = None

    async def start(self) -> int:
        """Start the application, then listen; the port. Raises StartError."""
        settings = self._settings
        certificate = Certificate(settings.tls_cert_file, settings.tls_key_file) if settings.tls_cert_file else None
        name_the_server()
        await self._runner.setup()
        most = most_connections(settings.max_connections, 2 * settings.workers)
        if most < settings.max_connections:
            _log.warning(
                f"The limit of descriptors leaves room for {most} connections",
                action="connections.limited",
                connections=most,
                asked=settings.max_connections,
            )
        self._listener = Listener(
            self._runner.made,
            most=most,
            per_address=min(settings.max_connections_per_address, max(1, most // 2)),
            tls=certificate.context if certificate is not None else None,
        )
        await self._listener.listen(settings.host, settings.port)
        return self._listener.port

    def leave(self) -> None:
        """From now on each answer ends its connection, so that clients go elsewhere."""
        if self._listener is not None:
            self._runner.made.leave()

    def close(self) -> None:
        """Take no new connection from now on."""
        self.leave()
        if self._listener is not None:
            self._listener.close()

    async def stop(self) -> None:
        """Answer what has arrived, end all connections, then the application."""
        self.close()
        if self._listener is not None:
            await self._listener.end(ANSWER_TIMEOUT)
        await self._runner.cleanup()
