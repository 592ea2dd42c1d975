"""External systems on real sockets, good and bad, and clients for them."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web
from multidict import CIMultiDictProxy

from connector.external import Target
from tests.unit.external.events import settings

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Seen(NamedTuple):
    """A request that arrived."""

    method: str
    path: str
    headers: CIMultiDictProxy[str]
    body: bytes


async def yes(_: Seen) -> web.Response:
    """The answer of a target that is content with everything."""
    return web.json_response({"result": True})


class Standin:
    """An external system that answers what ``answer`` says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.peers: set[object] = set()
        self.url = ""
        self.answer: Callable[[Seen], Awaitable[web.Response]] = yes
        self.runner: web.AppRunner | None = None

    async def go_away(self) -> None:
        """Listen no more, and close what is open."""
        if self.runner is not None:
            await self.runner.cleanup()

    async def handle(self, request: web.Request) -> web.Response:
        """Note the request and answer it."""
        body = await request.read()
        self.peers.add(request.transport and request.transport.get_extra_info("peername"))
        self.seen.append(Seen(request.method, request.path_qs, request.headers, body))
        return await self.answer(self.seen[-1])


@asynccontextmanager
async def standing(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Standin]:
    """A stand-in that listens."""
    standin = Standin()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", standin.handle)
    runner = standin.runner = web.AppRunner(app, shutdown_timeout=0, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        standin.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        yield standin
    finally:
        await runner.cleanup()


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """The URL of a server that reads a request's head and then does what ``talk`` does, HTTP or not."""
    ends = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            talking = asyncio.ensure_future(talk(reader, writer))
            ending = asyncio.ensure_future(ends.wait())
            await asyncio.wait({talking, ending}, return_when=asyncio.FIRST_COMPLETED)
            talking.cancel()
            ending.cancel()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        ends.set()
        server.close()
        await server.wait_closed()


class Client:
    """A client, and what it told the one who delivers events."""

    def __init__(self, url: str, **overrides: str) -> None:
        self.held: list[str] = []
        self.seconds = 0.0
        self.releases = 0
        self.target = Target(
            settings(TARGET_URL=url, **overrides),
            clock=time.monotonic,
            hold=self._hold,
            release=self._release,
            free=self.held.clear,
        )

    def _hold(self, reason: str, seconds: float) -> None:
        self.held.append(reason)
        self.seconds = seconds

    def _release(self, _: int | None) -> int:
        self.releases += 1
        return 0


@asynccontextmanager
async def calling(url: str, **overrides: str) -> AsyncIterator[Client]:
    """An open client for ``url``; its breaker is off unless the settings say otherwise."""
    quiet = {"BREAKER_FAILURES": "0", "BREAKER_SHARE": "0", "TARGET_TIMEOUT": "5s"}
    client = Client(url, **(quiet | overrides))
    await client.target.open()
    try:
        yield client
    finally:
        await client.target.close()


async def until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds; the test's timeout is the limit."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0.005)
