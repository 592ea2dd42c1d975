"""A proxy with kept connections, as nginx and HAProxy are: what a client of theirs sees of a connector's restart.

It passes POSTs on to its backends in turn. A connection that is refused lets it try the next backend, since nothing was
sent. A connection that ends before the answer, after the request was sent, is an answer that never came: a POST may
have been carried out, so no proxy sends it again, and its client gets a 502.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from tests import events
from tests.wire import TIMEOUT, Wire, open_wire, post


class Proxy:
    """Balances over ``backends``, ports of the loopback interface.

    ``answers``  how often which status came; 502 is the proxy's own, for an answer that never came, and 504 for no
                 backend at all
    """

    def __init__(self, *backends: int) -> None:
        self.backends = list(backends)
        self.answers: Counter[int] = Counter()
        self._pool: dict[int, deque[Wire]] = {}
        self._turn = count()
        self._more = asyncio.Condition()

    def forget(self, backend: int) -> None:
        """Send nothing more to this one."""
        self.backends.remove(backend)

    async def send(self, request: bytes) -> int:
        """The status that a client gets."""
        status = await self._send(request)
        self.answers[status] += 1
        async with self._more:
            self._more.notify_all()
        return status

    async def answered(self, more: int) -> None:
        """Return when so many further requests have their answers."""
        wanted = self.answers.total() + more
        async with asyncio.timeout(TIMEOUT), self._more:
            await self._more.wait_for(lambda: self.answers.total() >= wanted)

    async def _send(self, request: bytes) -> int:
        first = next(self._turn) % len(self.backends)
        for backend in self.backends[first:] + self.backends[:first]:
            pool = self._pool.setdefault(backend, deque())
            while pool and pool[-1].ended:  # its end has come before the request was sent
                pool.pop().close()
            try:
                wire = pool.pop() if pool else await open_wire(backend)
            except OSError:
                continue
            try:
                await wire.send(request)
                answer = await wire.answer()
            except (asyncio.IncompleteReadError, OSError):
                wire.close()
                return 502
            if answer.headers.get("Connection") == "close":
                wire.close()
            else:
                pool.append(wire)
            return answer.status
        return 504

    def close(self) -> None:
        """Close what is kept."""
        for pool in self._pool.values():
            for wire in pool:
                wire.close()


@asynccontextmanager
async def steady(proxy: Proxy, rate: float) -> AsyncIterator[None]:
    """New events through ``proxy``, ``rate`` of them a second; at the end all have their answers."""
    sending: set[asyncio.Task[int]] = set()

    async def send() -> None:
        begun = asyncio.get_running_loop().time()
        for number in count(1):
            sending.add(asyncio.create_task(proxy.send(post(events.encode(events.minimal())))))
            await asyncio.sleep(begun + number / rate - asyncio.get_running_loop().time())

    clock = asyncio.create_task(send())
    try:
        yield
    finally:
        clock.cancel()
        await asyncio.gather(*sending)
        proxy.close()
