"""Run by hand: what a stranger, or a broken sender, can make a real ``python run.py`` cost.

``python -m tests.attacks bombs``    64 gzip bodies of 2 MB that hold 2 GB each, no good token (``--token``: one)
``python -m tests.attacks lockout``  more clients than descriptors: idle ones, heads that do not end, answers not read
``python -m tests.attacks memory``   2,000 refused bodies of 2 MB, then 1,000 that break off in the middle
``python -m tests.attacks events``   120 events of 2 MB full of small objects, a good token, a handler that hangs

Prints figures. ``--root`` is the folder of another copy of the connector, to compare with.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

from tests import events, process
from tests.process import Server
from tests.wire import TOKEN, ask, connect, post

HEALTH = post(method="GET", path="/health", token=None)
BODY = events.encode(events.minimal())
MIB = 2**20


def bomb() -> bytes:
    """A gzip body of 2 MB that holds 2 GB."""
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(MIB)
    return b"".join(packer.compress(zeros) for _ in range(2048)) + packer.flush()


async def worst_health(port: int, until: "asyncio.Task[Any]") -> float:
    """The longest that /health took, in milliseconds, while something else ran."""
    worst = 0.0
    while not until.done():
        begun = time.perf_counter()
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            await ask(port, HEALTH)
        worst = max(worst, time.perf_counter() - begun)
        await asyncio.sleep(0.01)
    return round(worst * 1000, 1)


async def bombs(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """The processor time and the worst /health of 64 bombs at once."""
    packed = bomb()
    request = post(packed, "Content-Encoding: gzip", token=TOKEN if options.token else "wrong")
    cpu = psutil.Process(server.pid).cpu_times()

    async def send() -> int:
        async with connect(server.port) as wire:
            sending = asyncio.ensure_future(wire.send(request))
            try:
                async with asyncio.timeout(60):
                    return (await wire.answer()).status
            except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
                return 0
            finally:
                sending.cancel()

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        attack = group.create_task(_all([send() for _ in range(64)]))
        worst = await worst_health(server.port, attack)
    after = psutil.Process(server.pid).cpu_times()
    return {
        "bytes of a bomb": len(packed),
        "answers": {status: attack.result().count(status) for status in set(attack.result())},
        "seconds": round(time.perf_counter() - begun, 2),
        "CPU seconds of the server": round(after.user + after.system - cpu.user - cpu.system, 2),
        "worst /health, ms": worst,
    }


async def _all(sending: list[Coroutine[Any, Any, int]]) -> list[int]:
    return await asyncio.gather(*sending)


async def lockout(server: Server, _: argparse.Namespace) -> dict[str, Any]:
    """How long a newcomer waits, and how long the stop takes, with more such clients than descriptors."""
    async with AsyncExitStack() as stack:
        for number in range(300):
            with suppress(OSError):
                wire = await stack.enter_async_context(connect(server.port))
                stack.callback(wire.reset)
                wire.stop_reading()
                if number % 3 == 0:
                    wire.push(post(method="GET", path="/openapi.json", token=None) * 300)
                elif number % 3 == 1:
                    wire.push(b"POST /process-event HTTP/1.1\r\nHost: a\r\n")
        await asyncio.sleep(1)
        begun = time.perf_counter()
        waited = None
        while time.perf_counter() - begun < 120:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                if (await ask(server.port, post(BODY))).status == 202:
                    waited = round(time.perf_counter() - begun, 2)
                    break
            await asyncio.sleep(0.1)
        begun = time.perf_counter()
        code = await _stopped(server)
        return {
            "newcomer served after, s": waited,
            "stop, s": round(time.perf_counter() - begun, 1),
            "exit code": code,
        }


async def _stopped(server: Server) -> int:
    server.send(signal.SIGTERM)
    process.TIMEOUT = 60.0
    return await server.ended()


async def memory(server: Server, _: argparse.Namespace) -> dict[str, Any]:
    """The memory of the server before and after."""

    def resident() -> int:
        return round(psutil.Process(server.pid).memory_info().rss / MIB)

    async def refused(count: int) -> None:
        filler = b'{"data": {"event_type": 7, "x": "%b"}}' % (b"y" * 2_000_000)
        for _ in range(count):
            with suppress(OSError, asyncio.IncompleteReadError):
                async with connect(server.port) as wire:
                    await wire.send(post(filler))
                    await wire.answer()

    async def broken_off(count: int) -> None:
        for number in range(count):
            with suppress(OSError):
                async with connect(server.port) as wire:
                    await wire.send(post(b"{" + b" " * 1_900_000, length=2_000_000))
                    if number % 2:
                        await asyncio.sleep(0.01)
                        wire.reset()

    before = resident()
    await asyncio.gather(*(refused(250) for _ in range(8)))
    after_refusals = resident()
    await asyncio.gather(*(broken_off(125) for _ in range(8)))
    return {
        "MB before": before,
        "MB after 2,000 refused": after_refusals,
        "MB after 1,000 broken off": resident(),
    }


async def large_events(server: Server, _: argparse.Namespace) -> dict[str, Any]:
    """The memory of the server while it has events that take many times their bytes once they are decoded."""
    process_ = psutil.Process(server.pid)
    before, most = process_.memory_info().rss, 0
    filler = ",".join(['{"a":1}'] * (2 * MIB // 8 - 200))
    answers: Counter[int] = Counter()

    async def send(numbers: range) -> None:
        nonlocal most
        for number in numbers:
            body = events.encode(events.of_subscriber(number, f"large-{number}"))[:-1] + b',"x":[%b]}' % filler.encode()
            answers[(await ask(server.port, post(body))).status] += 1
            most = max(most, process_.memory_info().rss)

    await asyncio.gather(*(send(range(start, 120, 8)) for start in range(8)))
    for _tick in range(30):
        await asyncio.sleep(0.1)
        most = max(most, process_.memory_info().rss)
    return {"answers": dict(answers), "MB before": before // MIB, "MB at most": most // MIB}


HANGS = """
import asyncio, connector

@connector.on("*")
async def hangs(event):
    whole = event.document()
    await asyncio.Event().wait()
"""

ATTACKS = {"bombs": bombs, "lockout": lockout, "memory": memory, "events": large_events}


async def main(options: argparse.Namespace) -> int:
    """Run one attack on a connector of its own."""
    process.ROOT = options.root
    with tempfile.TemporaryDirectory() as folder:
        descriptors = 256 if options.what == "lockout" else None
        settings = {"JOURNAL_URL": "sqlite:///journal.db"}
        if options.what == "events":
            (Path(folder) / "hangs.py").write_text(HANGS)
            settings |= {"HANDLERS": "hangs"}
        server = Server(await process.spawn(Path(folder), settings, descriptors))
        try:
            server.port = (await server.line("server.started"))["port"]
            print(json.dumps(await ATTACKS[options.what](server, options), indent=2))
        finally:
            await server.kill()
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=ATTACKS)
    parser.add_argument("--token", action="store_true", help="bombs: with a good token")
    parser.add_argument("--root", type=Path, default=process.ROOT)
    sys.exit(asyncio.run(main(parser.parse_args())))
