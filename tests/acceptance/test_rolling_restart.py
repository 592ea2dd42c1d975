"""A restart behind a proxy with kept connections: no request is left without an answer of ours."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.process import Server, running
from tests.proxy import Proxy, steady

RATE = 500


@asynccontextmanager
async def instances(folder: Path, **settings: str) -> AsyncIterator[list[Server]]:
    async with AsyncExitStack() as stack:
        found = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            found.append(
                await stack.enter_async_context(running(folder / name, JOURNAL_URL="sqlite:///journal.db", **settings))
            )
        yield found


async def test_rolling_restarts_leave_no_request_without_an_answer_of_ours(tmp_path: Path) -> None:
    async with instances(tmp_path) as servers, AsyncExitStack() as stack:
        proxy = Proxy(*(server.port for server in servers))
        async with steady(proxy, RATE):
            await proxy.answered(100)
            for server, name in zip(servers, ("one", "two"), strict=True):
                assert await server.terminate() == 0
                proxy.forget(server.port)
                again = await stack.enter_async_context(running(tmp_path / name, JOURNAL_URL="sqlite:///journal.db"))
                proxy.backends.append(again.port)
                await proxy.answered(100)
    # A request and the end of an idle connection may cross on their way (RFC 9112, 9.5): on a loaded machine one may.
    assert set(proxy.answers) <= {202, 502, 503}
    assert proxy.answers[502] * 100 <= proxy.answers.total()
    assert proxy.answers[202] > 300


async def test_a_balancer_that_forgets_late_has_no_request_refused(tmp_path: Path) -> None:
    async with instances(tmp_path, DRAIN_DELAY="3s") as servers:
        proxy = Proxy(*(server.port for server in servers))
        async with steady(proxy, RATE):
            await proxy.answered(100)
            servers[0].send(signal.SIGTERM)
            await servers[0].line("server.draining")
            await proxy.answered(200)  # both still take events
            proxy.forget(servers[0].port)
            assert await servers[0].ended() == 0
            await proxy.answered(50)
    assert set(proxy.answers) == {202}
