"""HTTP byte by byte, for what a well-behaved client cannot send."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, cast

from multidict import CIMultiDict

TOKEN = "a-made-up-token-for-tests"
TIMEOUT = 10.0


class Answer(NamedTuple):
    """A response as it came over the wire."""

    status: int
    headers: CIMultiDict[str]
    body: bytes

    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes; a server that has hung up meanwhile is no error here."""
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    def send_eof(self) -> None:
        """Say that nothing more comes."""
        self._writer.write_eof()

    @property
    def ended(self) -> bool:
        """Whether the server is known to have closed the connection."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    async def closed(self) -> None:
        """Close it, and wait until that is done."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def stop_reading(self) -> None:
        """Leave the answers unread from now on."""
        cast("asyncio.Transport", self._writer.transport).pause_reading()

    def push(self, data: bytes) -> None:
        """Send bytes without waiting until they are taken."""
        self._writer.write(data)

    def reset(self) -> None:
        """Break the connection off (RST), whatever is on its way."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()

    async def answer(self, *, head: bool = False) -> Answer:
        """The next response; ``head``: it is one to HEAD and has no body."""
        async with asyncio.timeout(TIMEOUT):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers: CIMultiDict[str] = CIMultiDict()
            for line in filter(None, lines[1:]):
                name, _, text = line.partition(": ")
                headers.add(name, text)
            length = 0 if head else int(headers.get("Content-Length", "0"))
            return Answer(int(lines[0].split()[1]), headers, await self._reader.readexactly(length))

    async def rest(self) -> bytes:
        """Everything until the server closes the connection."""
        async with asyncio.timeout(TIMEOUT):
            return await self._reader.read()


async def open_wire(port: int, address: str | None = None, host: str = "127.0.0.1") -> Wire:
    """A connection to the server on this port of the loopback interface; ``address``: the one it comes from."""
    local = None if address is None else (address, 0)
    return Wire(*await asyncio.open_connection(host, port, local_addr=local))


@asynccontextmanager
async def connect(port: int, address: str | None = None, host: str = "127.0.0.1") -> AsyncIterator[Wire]:
    """The same, closed at the end."""
    wire = await open_wire(port, address, host)
    try:
        yield wire
    finally:
        await wire.closed()


def post(
    body: bytes = b"",
    *headers: str,
    path: str = "/process-event",
    version: str = "1.1",
    token: str | None = TOKEN,
    length: int | None = None,
    method: str = "POST",
) -> bytes:
    """The bytes of a request; ``length`` overrides Content-Length, -1 leaves it out."""
    lines = [f"{method} {path} HTTP/{version}", "Host: connector", *headers]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if length != -1:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def ask(port: int, request: bytes, *, head: bool = False) -> Answer:
    """The answer to one request on a connection of its own."""
    async with connect(port) as wire:
        await wire.send(request)
        return await wire.answer(head=head)
