"""Whether the process lives (``/health``) and whether it wants events (``/ready``). Neither needs a token."""

from collections.abc import Callable

from aiohttp import web

from connector.errors import Unavailable


class Health:
    """Knows why the connector is not ready, if it is not."""

    def __init__(self) -> None:
        self._why: Callable[[], str | None] = lambda: "Starting"

    def watch(self, why_not_ready: Callable[[], str | None]) -> None:
        """Ask ``why_not_ready`` from now on; None means ready."""
        self._why = why_not_ready

    async def health(self, _: web.Request) -> web.Response:
        """200 as long as the event loop turns."""
        return web.json_response({"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        """200, or 503 with the reason while starting, stopping, or unable to keep events."""
        if why := self._why():
            raise Unavailable(why)
        return web.json_response({"status": "ready"})
