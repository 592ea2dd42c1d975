"""A client that sends and does not read must not have its answers pile up in memory."""

import asyncio
import socket
from asyncio import BaseTransport, Transport
from typing import cast

import pytest
from aiohttp.web_protocol import RequestHandler

from tests import events
from tests.serving import serving
from tests.wire import TIMEOUT, post

REQUESTS = 3000


async def test_answers_that_nobody_reads_hold_up_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    transports: list[Transport] = []
    connection_made = RequestHandler.connection_made

    def with_a_small_buffer(self: RequestHandler, transport: BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        transports.append(cast("Transport", transport))
        connection_made(self, transport)

    monkeypatch.setattr(RequestHandler, "connection_made", with_a_small_buffer)
    async with serving() as (_, port):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        with client:
            await loop.sock_connect(client, ("127.0.0.1", port))
            request = post(events.encode(events.minimal()))
            sending = asyncio.ensure_future(loop.sock_sendall(client, request * REQUESTS))
            most = await _most_that_is_buffered(transports, sending)
            sending.cancel()
        assert 0 < most <= 80_000  # what aiohttp lets gather is 64 KiB


async def _most_that_is_buffered(transports: list[Transport], sending: "asyncio.Future[None]") -> int:
    """Bytes of answers in memory once they grow no more."""
    before, same = -1, 0
    async with asyncio.timeout(TIMEOUT):
        while same < 200:
            await asyncio.sleep(0.001)
            now = transports[0].get_write_buffer_size() if transports else -1
            same = same + 1 if now == before and (now > 0 or sending.done()) else 0
            before = now
    return before
