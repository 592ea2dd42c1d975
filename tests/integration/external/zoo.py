"""Targets that misbehave, each in its own way, by name; and the handler that calls the one that a type names."""

import asyncio
import gzip
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from connector import Event, on
from connector.external import target

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What a target does after it has read one request."""

OK: Final = b"HTTP/1.1 200 OK\r\n"
FINE: Final = OK + b"Content-Length: 2\r\n\r\n{}"
MOVED: Final = b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"


def says(*parts: bytes, close: bool = False, pause: float = 0.02) -> Act:
    """Writes these parts, ``pause`` seconds apart."""

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, part in enumerate(parts):
            if number and pause:
                await asyncio.sleep(pause)
            writer.write(part)
            await writer.drain()
        if close:
            writer.close()

    return act


def refuses(status: str, *headers: str) -> Act:
    """Answers this status."""
    lines = [f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "", ""]
    return says("\r\n".join(lines).encode())


def repeats(first: bytes, part: bytes, pause: float = 0.0) -> Act:
    """Writes ``first``, then ``part`` for ever."""

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return act


async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Never answers."""
    await asyncio.Event().wait()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Resets the connection."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


DONE: Final[Mapping[str, Act]] = {
    "fine": says(FINE),
    "longbody": says(OK + b"Content-Length: 3000000\r\n\r\n" + b"x" * 3_000_000),
    "longheader": says(OK + b"X: " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n"),
    "manyheaders": says(OK + b"X: x\r\n" * 2000 + b"Content-Length: 0\r\n\r\n"),
    "twolengths": says(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "nolength": says(OK + b"Content-Length: many\r\n\r\n{}"),
    "notgzip": says(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf"),
    "noencoding": says(OK + b"Content-Encoding: zstd, br\r\nContent-Length: 4\r\n\r\nhalf"),
    "bomb": says(
        OK
        + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n"
        + gzip.compress(b"\0" * 50_000_000, compresslevel=1),
        close=True,
    ),
    "body204": says(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}"),
    "stray": says(FINE + b"and more"),
    "twice": says(FINE, FINE, pause=0),
    "then404": says(FINE, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", pause=0),
    "closes": says(FINE, close=True),
    "halfbody": says(OK + b"Content-Length: 100\r\n\r\nhalf", close=True),
    "dripbody": repeats(OK + b"Content-Length: 100000\r\n\r\n", b"x", 0.01),
    "endlesschunks": repeats(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.001),
    "flood": repeats(OK + b"\r\n", b"x" * 65536),
    "brokenchunks": says(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "latin1": says(OK + b'Content-Length: 4\r\n\r\n"\xfc"\n'),
    "continues": says(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + FINE),
    "slow": says(b"", b"", FINE),
    "halfhead": says(OK + b"X: ", close=True),
}
"""They carry the call out, so its event is done; and what each answers."""

NOT_DONE: Final[Mapping[str, Act]] = {
    "silent": nothing,
    "hangsup": says(b"", close=True),
    "resets": reset,
    "ssh": says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "binary": says(b"\x00\xff" * 500),
    "nostatus": says(b"HTTP/1.1 abc OK\r\n\r\n"),
    "http09": says(b"<html>fine</html>", close=True),
    "speakstls": says(b"\x15\x03\x01\x00\x02\x02\x46", close=True),
    "driphead": repeats(b"", b"H", 0.01),
    "continuesonly": repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    "moved": says(MOVED),
    "nobody": refuses("401 Who"),
    "busy0": refuses("429 Busy", "Retry-After: 0"),
    "busypast": refuses("429 Busy", "Retry-After: Mon, 01 Sep 2025 12:00:00 GMT"),
    "busylong": refuses("429 Busy", "Retry-After: 86400"),
    "downpast": refuses("503 Down", "Retry-After: -5"),
    "down0": refuses("503 Down", "Retry-After: 0"),
    "timeout0": refuses("408 Slow", "Retry-After: 0"),
    "broken": refuses("500 Broken"),
    "gateway": refuses("502 Gateway"),
    "odd999": refuses("999 Odd"),
    "upgrades": refuses("101 Switching", "Upgrade: other", "Connection: upgrade"),
}
"""They do not carry it out, so its event is tried again."""


@on("*")
async def call(event: Event) -> str:
    """Call the target that the event's type names."""
    response = await target(event.event_type.partition("/")[2]).post(data=event.raw, event=event)
    return f"{response.status} {response.note}".strip()


@asynccontextmanager
async def kept(told: Callable[[str, bytes], None]) -> AsyncIterator[dict[str, str]]:
    """All of them, listening: their URLs by name. ``told`` is called with each request's body."""
    servers, tasks, urls = [], set[asyncio.Task[None]](), {}

    def serving(name: str, act: Act) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    told(name, await reader.readexactly(length))
                    await act(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                pass
            finally:
                tasks.discard(task)
                writer.transport.abort()

        return serve

    for name, act in {**DONE, **NOT_DONE}.items():
        server = await asyncio.start_server(serving(name, act), "127.0.0.1", 0)
        servers.append(server)
        urls[name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        urls["refused"] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        urls["nohost"] = "http://nobody.invalid"
        try:
            yield urls
        finally:
            for task in list(tasks):
                task.cancel()
            if tasks:
                await asyncio.wait(list(tasks))
            for server in servers:
                server.close()
