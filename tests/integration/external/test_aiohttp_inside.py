"""Kept connections that are not what they seem, on real sockets. Red when an upgrade of aiohttp changes its insides."""

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast
from unittest.mock import Mock

import aiohttp
import pytest

from connector.external import TargetFailed, TargetRetry, aiohttp_inside
from connector.external.aiohttp_inside import Link, Pool
from connector.external.wire import Wire
from tests.integration.external.targets import Client, calling, talking, until

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
NO = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what the other side has confirmed")


class Peer:
    """A server that notes the requests of each connection and does what ``act`` does after reading one."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: list[list[bytes]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.act: Callable[[int, int, asyncio.StreamWriter], Awaitable[None]] = answer

    @property
    def requests(self) -> int:
        """How many requests were read in all."""
        return sum(len(each) for each in self.connections)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read request after request of one connection."""
        mine: list[bytes] = []
        self.connections.append(mine)
        self.tasks.append(cast("asyncio.Task[None]", asyncio.current_task()))
        number = len(self.connections)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(([*head.lower().split(b"content-length: ", 1), b"0"])[1].split(b"\r\n")[0])
                mine.append(await reader.readexactly(length))
                await self.act(number, len(mine), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def answer(_: int, __: int, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


@asynccontextmanager
async def peering(**settings: str) -> AsyncIterator[tuple[Peer, Client]]:
    """A peer and a client for it."""
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        async with calling(peer.url, **settings) as client:
            yield peer, client
    finally:
        server.close()
        if peer.tasks:
            await asyncio.wait(peer.tasks)


def idle(client: Client) -> int:
    """How many connections are kept."""
    pool = cast("Wire", client.target._wire)._pool  # looked at, to wait for what the loop has still to do
    assert isinstance(pool, Pool)
    return sum(1 for links in pool._conns.values() for link, _ in links if link.is_connected())


async def test_a_connection_is_kept_and_used_again() -> None:
    async with peering() as (peer, client):
        for _ in range(3):
            assert (await client.target.post(json={})).status == 200
        assert [len(each) for each in peer.connections] == [3]


@pytest.mark.parametrize("unasked", [OK, NO, b"x", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(unasked: bytes) -> None:
    """Also where it has not been read when the next call begins: the socket is asked."""

    async def twice(_: int, __: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        sent.set()
        await goes_on.wait()
        writer.write(unasked)

    async with peering() as (peer, client):
        peer.act = twice
        for number in range(20):
            sent, goes_on = asyncio.Event(), asyncio.Event()
            assert (await client.target.post(json=number)).status == 200
            goes_on.set()
            if number % 2:
                await until(lambda: not idle(client))
            else:
                await sent.wait()
                await asyncio.sleep(0)  # the bytes are in the socket, and not read yet
        assert peer.requests == 20


async def test_bytes_that_come_before_the_request_is_written_are_no_answer() -> None:
    """By hand, since on a socket nobody can say which of the two will be first."""
    transport = Mock(spec=asyncio.Transport)
    transport.get_extra_info.return_value = None
    pool = Pool()
    link = Link(asyncio.get_running_loop(), pool)
    link.connection_made(transport)
    link.begin()
    link.set_response_params()
    link.data_received(OK)
    assert (link.unasked, link.taken) == (True, False)
    assert transport.abort.called
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await link.read()
    await pool.close()


async def test_bytes_behind_a_complete_answer_end_the_connection_and_not_the_event() -> None:
    async def and_more(_: int, __: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"stray")

    async with peering() as (peer, client):
        peer.act = and_more
        for number in range(20):
            assert (await client.target.post(json=number)).status == 200
        assert [len(each) for each in peer.connections] == [1] * 20


@linux_only
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "GET"])
async def test_a_target_that_closes_without_saying_so_costs_no_attempt(method: str) -> None:
    async def close_after(_: int, __: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        writer.close()

    async with peering() as (peer, client):
        peer.act = close_after
        for number in range(30):
            response = await client.target.request(method, json=None if method == "GET" else number)
            assert response.status == 200
            for _ in range(number % 4):
                await asyncio.sleep(0)
        assert peer.requests == 30


@linux_only
async def test_a_post_over_a_connection_that_was_reset_meanwhile_is_sent_again() -> None:
    async def reset_after(_: int, __: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async with peering() as (peer, client):
        peer.act = reset_after
        statuses = []
        for number in range(20):
            try:
                statuses.append((await client.target.post(json=number)).status)
            except TargetFailed as failed:  # the reset overtook the answer
                assert "reset" in str(failed) or "closed" in str(failed)  # noqa: PT017 - either is right
                statuses.append(200)
        assert peer.requests == 20


async def test_a_post_that_was_taken_and_got_no_answer_is_not_sent_again() -> None:
    async def close_on_the_second(_: int, request: int, writer: asyncio.StreamWriter) -> None:
        if request == 2:
            writer.close()
        else:
            writer.write(OK)

    async with peering() as (peer, client):
        peer.act = close_on_the_second
        await client.target.post(json=1)
        with pytest.raises(TargetRetry, match="closed the connection instead of answering"):
            await client.target.post(json=2)
        assert [len(each) for each in peer.connections] == [2]


async def test_a_put_that_got_no_answer_over_a_kept_connection_is_sent_again_once() -> None:
    async def close_on_the_second(_: int, request: int, writer: asyncio.StreamWriter) -> None:
        if request == 2:
            writer.close()
        else:
            writer.write(OK)

    async with peering() as (peer, client):
        peer.act = close_on_the_second
        await client.target.put(json=1)
        assert (await client.target.put(json=2)).status == 200
        assert [len(each) for each in peer.connections] == [2, 1]


async def test_a_request_that_fails_over_a_fresh_connection_is_not_sent_again() -> None:
    async def close(_: int, __: int, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with peering() as (peer, client):
        peer.act = close
        with pytest.raises(TargetRetry):
            await client.target.put(json=1)
        assert peer.requests == 1


async def test_an_idle_connection_is_kept_no_longer_than_the_target_says(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(aiohttp_inside, "monotonic", lambda: now[0])

    async def short(_: int, __: int, writer: asyncio.StreamWriter) -> None:
        writer.write(OK.replace(b"\r\n\r\n", b"\r\nKeep-Alive: timeout=5, max=9\r\n\r\n"))

    async with peering() as (peer, client):
        peer.act = short
        await client.target.post(json=1)
        now[0] += 3.9
        await client.target.post(json=2)
        assert len(peer.connections) == 1
        now[0] += 4.1
        await client.target.post(json=3)
        assert len(peer.connections) == 2


async def test_a_connection_has_a_greatest_age(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(aiohttp_inside, "monotonic", lambda: now[0])
    async with peering() as (peer, client):
        for _ in range(10):
            await client.target.post(json=1)
            now[0] += 10
        assert 2 <= len(peer.connections) <= 3


async def test_the_time_after_which_a_target_closes_idle_connections_is_learnt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(aiohttp_inside, "monotonic", lambda: now[0])
    writers: list[asyncio.StreamWriter] = []

    async def note(_: int, __: int, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(OK)

    async with peering() as (peer, client):
        peer.act = note
        await client.target.post(json=1)
        now[0] += 5
        writers[-1].close()
        await until(lambda: not idle(client))
        await client.target.post(json=2)
        now[0] += 4.5
        await client.target.post(json=3)
        assert [len(each) for each in peer.connections] == [1, 1, 1]
        now[0] += 3.5
        await client.target.post(json=4)
        assert [len(each) for each in peer.connections] == [1, 1, 2]


async def test_an_answer_before_the_body_was_sent_whole_is_one() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with talking(early) as url, calling(url) as client:
        with pytest.raises(TargetFailed, match="answered 413"):
            await client.target.post(data=b"x" * 20_000_000)


@pytest.mark.parametrize("size", [1, 65536, 65537, 3_000_000])
async def test_a_body_of_any_size_arrives_as_it_is_and_a_small_one_with_its_head(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bytes(number % 251 for number in range(size))
    by_task = Mock(wraps=aiohttp.ClientRequest.write_bytes)
    monkeypatch.setattr(aiohttp.ClientRequest, "write_bytes", lambda *given: by_task(*given))
    async with peering() as (peer, caller):
        for _ in range(2):
            await caller.target.put("/x", data=body, headers={"Content-Type": "application/octet-stream"})
    assert peer.connections == [[body, body]]
    assert by_task.call_count == (0 if size <= aiohttp_inside.SMALL_BODY else 2)
