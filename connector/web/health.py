"""Whether the process lives (``/health``) and whether it wants events (``/ready``). Neither needs a token."""

from collections.abc import Callable, Sequence

from aiohttp import web

from connector.errors import Unavailable


class Health:
    """Knows why the connector is not ready, if it is not."""

    def __init__(self) -> None:
        self._why: Callable[[], str | None] = lambda: "Starting"
        self._troubles: Callable[[], Sequence[str]] = lambda: ()

    def watch(
        self, why_not_ready: Callable[[], str | None], troubles: Callable[[], Sequence[str]] = lambda: ()
    ) -> None:
        """Ask ``why_not_ready`` from now on; None means ready. ``troubles`` are said beside "ready"."""
        self._why, self._troubles = why_not_ready, troubles

    async def health(self, _: web.Request) -> web.Response:
        """200 as long as the event loop turns."""
        return web.json_response({"status": "ok"})

    async def ready(self, _: web.Request) -> web.Response:
        """200, or 503 with the reason while starting, stopping, or unable to keep events."""
        if why := self._why():
            raise Unavailable(why)
        troubles = self._troubles()
        return web.json_response({"status": "ready"} | ({"troubles": [*troubles]} if troubles else {}))
