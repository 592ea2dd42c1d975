"""Handlers that misbehave beside one that does not: what the healthy events cost with them and without.

``python -m tests.acceptance.handler_zoo`` prints both times and their ratio; the test asks for the order alone.
"""

import asyncio
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests import events
from tests.process import Server, running
from tests.wire import ask, post

SUBSCRIBERS = 30
EACH = 3

ZOO = """
import decimal, gc, logging, warnings
class Text(Exception):
    def __str__(self): raise SystemExit(3)

class Base(BaseException): pass

def raises(error):
    raise error

async def group(error):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(raises, error))

async def leaves(error):
    task = asyncio.create_task(group(error))
    await asyncio.wait({task}, timeout=0.05)

async def forever():
    while True:
        try: await asyncio.Event().wait()
        except asyncio.CancelledError: pass

def recursion(): return recursion()

def forks():
    child = os.fork()
    if not child: os._exit(0)
    os.waitpid(child, 0)

async def cancels():
    asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)

KINDS = [
    sys.exit, recursion, cancels, forever,
    lambda: raises(Text()), lambda: raises(Base()), lambda: raises(KeyboardInterrupt()),
    lambda: raises(GeneratorExit()), lambda: raises(StopIteration()), lambda: raises(MemoryError()),
    lambda: raises(BaseExceptionGroup("g", [SystemExit()])), lambda: group(ValueError()), lambda: leaves(SystemExit(1)),
    lambda: raises(ValueError("x" * 10**7)), lambda: raises(asyncio.CancelledError()), lambda: raises(TimeoutError()),
    lambda: os.chdir("/"), lambda: asyncio.sleep(0), lambda: Ignored("returned"), lambda: Retry,
    lambda: logging.getLogger("a").error("%d", "no number"), lambda: decimal.setcontext(decimal.Context(prec=1)),
    lambda: asyncio.ensure_future(group(ValueError("left behind"))), lambda: "x" * 10**7, lambda: object(),
    lambda: warnings.simplefilter("error"), lambda: os.umask(0), lambda: time.sleep(0.2), lambda: gc.disable(),
    lambda: threading.Thread(target=time.sleep, args=(3600,), daemon=True).start(), forks,
    lambda: raises(Retry("soon", after=0)), lambda: raises(ExceptionGroup("g", [ValueError(), Retry("in a group")])),
]

@on("Zoo/*", timeout=1)
async def animal(event):
    found = KINDS[int(event.event_type.partition("/")[2])]()
    if asyncio.iscoroutine(found): found = await found
    return found

@on("Zoo/Thread", timeout=1)
def thread(event):
    time.sleep(3600)

@on("SIM/Updated")
async def healthy(event):
    return "done"
"""

KINDS = [*map(str, range(33)), "Thread"]
"""The types of the events, ``Zoo/...``: numbers of ``KINDS`` in the text, and a plain function that hangs."""


async def healthy_seconds(folder: Path, kinds: list[str]) -> float:
    """The seconds until all healthy events are done, in order, among one event of each of these kinds."""
    (folder / "zoo.py").write_text("import asyncio, os, sys, threading, time\nfrom connector import *\n" + ZOO)
    async with running(folder, HANDLERS="zoo", WORKERS="48", DRAIN_TIMEOUT="1s", RETRY_BASE="5s") as server:
        begun = time.perf_counter()
        for number, kind in enumerate(kinds):
            await _accept(server, f"zoo-{kind}", 1000 + number, f"Zoo/{kind}")
        for number in range(SUBSCRIBERS * EACH):
            await _accept(server, f"healthy-{number}", number % SUBSCRIBERS, "SIM/Updated")
        await server.until(lambda: len(_done(server)) == SUBSCRIBERS * EACH, "the healthy events")
        seconds = time.perf_counter() - begun
        order: dict[int, list[int]] = defaultdict(list)
        for number in _done(server):
            order[number % SUBSCRIBERS].append(number)
        assert all(numbers == sorted(numbers) for numbers in order.values())
        if kinds:
            await server.reached("event.retrying", 12)
        await _accept(server, "healthy-at-last", 1, "SIM/Updated")
        await server.line("event.processed", event_id="healthy-at-last")
        assert await server.terminate() == 0
    return seconds


def _done(server: Server) -> list[int]:
    ended = (line["event_id"] for line in server.lines if line["action"] == "event.processed")
    return [int(name.removeprefix("healthy-")) for name in ended if name[:8] == "healthy-" and name[8:].isdecimal()]


async def _accept(server: Server, event_id: str, i_account: int, event_type: str) -> None:
    body = events.encode(events.of_subscriber(i_account, event_id, event_type))
    assert (await ask(server.port, post(body))).status == 202


async def main() -> None:
    """Measure both, in turn."""
    for _ in range(3):
        with tempfile.TemporaryDirectory() as alone, tempfile.TemporaryDirectory() as among:
            without = await healthy_seconds(Path(alone), [])
            with_zoo = await healthy_seconds(Path(among), KINDS)
        print(f"{SUBSCRIBERS * EACH} healthy events: {without:.2f} s alone, {with_zoo:.2f} s among {len(KINDS)} others;"
              f" factor {with_zoo / without:.1f}")  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
