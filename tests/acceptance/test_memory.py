"""What is refused, or breaks off, leaves nothing in memory."""

import asyncio
from contextlib import suppress
from pathlib import Path

import psutil

from tests import events
from tests.process import Server, running
from tests.wire import connect, post

SIZE = 2_000_000
COUNT = 200
ROOM = 150 * 2**20


async def test_refused_and_broken_off_bodies_are_let_go(tmp_path: Path) -> None:
    bodies = [
        b'{"data": {"event_type": 7, "x": "%b"}}' % (b"y" * (SIZE - 40)),
        b"[" + b" " * (SIZE - 1),
        events.encode(events.minimal())[:-1] + b" " * (SIZE - 500),
    ]
    async with running(tmp_path) as server:
        process = psutil.Process(server.pid)
        before = process.memory_info().rss
        for number in range(COUNT):
            async with connect(server.port) as wire:
                await wire.send(post(bodies[number % 3]))
                assert (await wire.answer()).status in (400, 422)
        for number in range(COUNT):
            await _break_off(server, reset=bool(number % 2))
        await server.reached("request.broken_off", 1)
        assert process.memory_info().rss - before < ROOM  # each of the two kept 400 MB


async def _break_off(server: Server, *, reset: bool) -> None:
    async with connect(server.port) as wire:
        await wire.send(post(b" " * (SIZE - 1), length=SIZE))
        if reset:
            wire.reset()
            return
        wire.send_eof()
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await wire.answer()
