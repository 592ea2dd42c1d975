"""Many connections that send as NSPS does: what was not answered 202 is sent again, with the same id.

The events of one subscriber are sent one after the other by one connection, so the order in which they were accepted
is known. A connection that breaks, and every answer but 202, means: again, once there is a connector to send to.
"""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from tests.journal_support.events import body
from tests.journal_support.running import TOKEN, Running

_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)


class Senders:
    """``connections`` that each send events of ``lanes`` subscribers in turn, until ``stop``.

    ``accepted``  ids that were answered 202, in order of the answers
    ``sent``      ids by lane, in order of sending
    ``answers``   how often each status came; ``broken`` connections are counted beside
    """

    def __init__(self, connector: Running, connections: int, lanes: int, *, most: int = 10**9, padding: int = 0) -> None:
        self._connector: Running | None = connector
        self._there = asyncio.Event()
        self._there.set()
        self._stopping = False
        self._news = asyncio.Condition()
        self._most = most
        self._padding = padding
        self._tasks = [asyncio.create_task(self._send(number, lanes)) for number in range(connections)]
        self.accepted: dict[str, None] = {}
        self.sent: dict[str, list[str]] = defaultdict(list)
        self.answers: Counter[int] = Counter()
        self.broken = 0
        self.cut_off = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def away(self) -> None:
        """There is no connector to send to at present."""
        self._connector = None
        self._there.clear()

    def back(self, connector: Running) -> None:
        """Send to this one from now on."""
        self._connector = connector
        self._there.set()

    async def until(self, there: Callable[[], bool]) -> None:
        """Return as soon as ``there`` holds; asked again with every answer."""
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: there() or any(task.done() for task in self._tasks))
        if not there():
            for task in self._tasks:
                if task.done():
                    task.result()

    async def stop(self) -> None:
        """Begin no new event and return when all that were begun are answered 202."""
        self._stopping = True
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    def _events(self, number: int, lanes: int) -> Iterator[tuple[str, int]]:
        for turn in range(self._most):
            lane = number * lanes + turn % lanes + 1
            yield f"event-{number}-{turn}", lane

    async def _send(self, number: int, lanes: int) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for event_id, i_account in self._events(number, lanes):
            if self._stopping:
                break
            self.sent[f"i_account:{i_account}"].append(event_id)
            content = body(event_id, i_account, self._padding)
            request = (
                f"POST /process-event HTTP/1.1\r\nHost: connector\r\nAuthorization: Bearer {TOKEN}\r\n"
                f"Content-Length: {len(content)}\r\n\r\n"
            ).encode() + content
            while event_id not in self.accepted:
                await self._there.wait()
                written = False
                try:
                    if streams is None:
                        assert self._connector is not None
                        streams = await asyncio.open_connection("127.0.0.1", self._connector.port)
                    streams[1].write(request)
                    written = True
                    status = await _status(streams[0])
                except (OSError, EOFError):
                    self.broken += 1
                    self.cut_off += written
                    if streams:
                        streams[1].close()
                    streams = None
                    await asyncio.sleep(0.01)
                    continue
                self.answers[status] += 1
                if status == 202:
                    self.accepted[event_id] = None
                async with self._news:
                    self._news.notify_all()
                if status != 202:
                    await asyncio.sleep(0.01)
        if streams:
            streams[1].close()


async def _status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    status, length = _STATUS.match(head), _LENGTH.search(head)
    assert status, head
    await reader.readexactly(int(length[1]) if length else 0)
    return int(status[1])
