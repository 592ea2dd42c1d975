"""A network that can be cut and slowed down: a relay of TCP connections with a schedule."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nsps_simulator.running.faults import CUT, DELAY, Fault

CHUNK = 1 << 16
LOOK = 0.01  # seconds


@dataclass(frozen=True)
class Link:
    """One relay: where it leads to, and which faults it makes."""

    place: str
    host: str
    port: int
    faults: tuple[Fault, ...]


class Proxy:
    """Relays the connections of one listening socket. now: seconds since the start of the run."""

    def __init__(self, link: Link, now: Callable[[], float]) -> None:
        self._link = link
        self._now = now
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Relay until cancelled."""
        server = await asyncio.start_server(self._relay, sock=listener)
        try:
            while True:
                if self._has(CUT):
                    self._cut()
                await asyncio.sleep(LOOK)
        finally:
            server.close()
            self._cut()

    def _has(self, kind: str) -> float:
        """Give the value of a kind of fault now (1 for a cut), or 0."""
        now = self._now()
        found = [one for one in self._link.faults if one.kind.startswith(kind) and one.begin <= now < one.end]
        return max((one.value or 1.0 for one in found), default=0.0)

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._has(CUT):
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(self._link.host, self._link.port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}
            for one in (writer, far_writer):
                one.transport.abort() if one.transport.is_closing() else one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if delay := self._has(DELAY):
                    await asyncio.sleep(delay)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            if writer.can_write_eof():
                writer.write_eof()


def bind(host: str, port: int, backlog: int = 1024) -> socket.socket:
    """Make a listening socket. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog)


def links(place: str, targets: Sequence[tuple[str, int]], faults: Sequence[Fault]) -> list[Link]:
    """Make the links of one place."""
    own = tuple(one for one in faults if one.place == place and one.kind.partition("-")[0] in {CUT, DELAY})
    return [Link(place, host, port, own) for host, port in targets]
