"""Many connections that send as NSPS does: what was not answered 202 is sent again, with the same id.

The events of one subscriber are sent one after the other by one connection, so the order in which they were accepted
is known. A connection that breaks, and every answer but 202, means: again, once there is a connector to send to.
"""

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from types import TracebackType
from typing import Self

from tests.journal_support.events import body
from tests.process import Server
from tests.wire import TOKEN

_STATUS = re.compile(rb"HTTP/1\.1 (\d+)")
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)", re.IGNORECASE)


class Senders:
    """``connections`` that each send events of ``lanes`` subscribers in turn, until ``stop``.

    ``accepted``  ids that were answered 202, in order of the answers
    ``sent``      ids by lane, in order of sending
    ``answers``   how often each status came; ``broken`` connections are counted beside, ``unanswered`` are those of
                  them that broke when the request had been written
    """

    def __init__(self, connector: Server, connections: int, lanes: int, *, padding: int = 0) -> None:
        self._connector: Server | None = connector
        self._there = asyncio.Event()
        self._there.set()
        self._stopping = False
        self._news = asyncio.Condition()
        self._padding = padding
        self._tasks = [asyncio.create_task(self._send(number, lanes)) for number in range(connections)]
        self.accepted: dict[str, None] = {}
        self.sent: dict[str, list[str]] = defaultdict(list)
        self.answers: Counter[int] = Counter()
        self.broken = 0
        self.unanswered = 0

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

    def back(self, connector: Server) -> None:
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

    def finish(self) -> None:
        """Begin no new event."""
        self._stopping = True

    async def stop(self) -> None:
        """Begin no new event and return when all that were begun are answered 202."""
        self.finish()
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)

    def _events(self, number: int, lanes: int) -> Iterator[tuple[str, int]]:
        for turn in count():
            lane = number * lanes + turn % lanes + 1
            yield f"event-{number}-{turn}", lane

    async def _send(self, number: int, lanes: int) -> None:
        line = _Line()
        try:
            for event_id, i_account in self._events(number, lanes):
                if self._stopping:
                    break
                self.sent[f"i_account:{i_account}"].append(event_id)
                request = _request(body(event_id, i_account, self._padding))
                while event_id not in self.accepted:
                    await self._there.wait()
                    await self._try(line, event_id, request)
        finally:
            line.hang_up()

    async def _try(self, line: "_Line", event_id: str, request: bytes) -> None:
        assert self._connector is not None
        try:
            status = await line.ask(self._connector.port, request)
        except (OSError, EOFError):
            self.broken += 1
            self.unanswered += line.written
            line.hang_up()
            await asyncio.sleep(0.01)
            return
        self.answers[status] += 1
        if status == 202:
            self.accepted[event_id] = None
        async with self._news:
            self._news.notify_all()
        if status != 202:
            await asyncio.sleep(0.01)


class _Line:
    """A connection that is made when it is needed. ``written``: whether the last request went out on it."""

    def __init__(self) -> None:
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.written = False

    async def ask(self, port: int, request: bytes) -> int:
        """The status of the answer. Raises OSError or EOFError where there is none."""
        self.written = False
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = self._streams
        if reader.at_eof():
            raise EOFError
        writer.write(request)
        self.written = True
        return await _status(reader)

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._streams:
            self._streams[1].transport.abort()
        self._streams = None


def _request(content: bytes) -> bytes:
    head = f"POST /process-event HTTP/1.1\r\nHost: connector\r\nAuthorization: Bearer {TOKEN}\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def _status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    status, length = _STATUS.match(head), _LENGTH.search(head)
    assert status, head
    await reader.readexactly(int(length[1]) if length else 0)
    return int(status[1])
