"""Run by hand: many bodies against a real ``python run.py``, each answer checked.

``python -m tests.fuzz mutated``    100,000 damaged bodies: every answer is 202, 400, 413 or 422 and well-formed
``python -m tests.fuzz generated``  10,000 events up to 1 MB: each answered as the protocol says and seen by a worker
``python -m tests.fuzz raw``        100,000 raw requests, good and damaged: each answered or said, every accepted event
                                    handled, memory flat

Bounded by ``--count`` and ``--seconds``; prints figures, and exits with 1 when anything is not as it should be.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests import events
from tests.delivery import Delivered, deliver, well_formed
from tests.events import Sample
from tests.mutation import STRUCTURAL, mutate
from tests.process import Server, running
from tests.raw_requests import Raw, answers, raw
from tests.wire import connect

LEGAL = {202, 400, 413, 422}
MAX_BODY = 64 * 1024
CHUNK = 2000
"""Bodies that are made and checked at a time."""


def seeds() -> list[bytes]:
    """Bodies to damage: bare and full, ASCII and not, one just over the limit."""
    full = events.full()
    wide = events.full()
    wide["pb_data"]["account_info"]["product_name"] = "Größe L 套餐 📶"
    large = events.minimal(padding="x" * MAX_BODY)
    few = [events.encode(each) for each in (full, events.minimal(), events.of_subscriber(7, "id-7"), large)]
    return [*few[:3] * 8, events.encode(wide, ascii_only=False), events.encode(wide), few[3]]


def mutated(seed: int, count: int) -> Iterator[Sample]:
    """Damaged bodies; their status is not foreseen."""
    chance, bodies = random.Random(seed), seeds()
    for _ in range(count):
        yield Sample(mutate(chance.choice(bodies), chance, chance.choice((None, *STRUCTURAL))), 0, "")


def until(deadline: float, samples: Iterator[Sample]) -> Iterator[Sample]:
    """``samples`` until the time is over."""
    for sample in samples:
        if time.monotonic() > deadline:
            return
        yield sample


async def fuzz(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Post damaged bodies; what came back, and what should not have."""
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    sent = size = 0
    deadline = time.monotonic() + options.seconds
    for start in range(0, options.count, CHUNK):
        count = min(CHUNK, options.count - start)
        samples = list(until(deadline, mutated(options.seed + start, count)))
        for each in await deliver(server.port, samples, connections=options.connections):
            sent, size = sent + 1, size + len(each.sample.body)
            statuses[each.answer.status if each.answer else 0] += 1
            if each.answer is None or each.answer.status not in LEGAL or not well_formed(each.answer):
                wrong.append(repr(each.sample.body[:300]))
        server.lines[:] = [line for line in server.lines if line["level"] == "error"]
        if len(samples) < count:
            break
    return {"bodies": sent, "bytes": size, "answers": dict(sorted(statuses.items())), "wrong": wrong[:5]}


async def real(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Post generated events; whether each was answered and seen as it should be."""
    delivered: list[Delivered] = []
    samples = until(time.monotonic() + options.seconds, events.generate(options.seed, options.count))
    delivered = await deliver(server.port, samples, connections=options.connections)
    accepted = {each.unique_id for each in delivered if each.accepted}
    await server.reached("event.processed", len(accepted))
    seen = Counter(line["unique_id"] for line in server.lines if line["action"] == "event.processed")
    wrong = [f"{each.unique_id}: {each.answer}" for each in delivered if each.wrong]
    wrong += [
        f"{each} was seen {seen[each]} times" for each in accepted | set(seen) if seen[each] != (each in accepted)
    ]
    sizes = sorted(len(each.sample.body) for each in delivered)
    return {
        "bodies": len(delivered),
        "bytes": sum(sizes),
        "sizes": {"least": sizes[0], "median": sizes[len(sizes) // 2], "largest": sizes[-1]},
        "answers": dict(sorted(Counter(each.answer.status if each.answer else 0 for each in delivered).items())),
        "refused for want of room, then taken": sum(each.refusals > 0 for each in delivered),
        "seen by a worker": len(seen),
        "wrong": wrong[:5],
    }


async def wild(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Send raw requests, each on a connection of its own with a FIN behind it; what came back."""
    chance = random.Random(options.seed)
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    memory: list[int] = []
    deadline = time.monotonic() + options.seconds
    process = psutil.Process(server.pid)

    async def one(sent: Raw) -> None:
        try:
            async with connect(server.port) as wire:
                await wire.send(sent.data)
                wire.send_eof()
                found = answers(await wire.rest())
        except (ValueError, TimeoutError, ConnectionError) as error:
            wrong.append(f"{error!r}: {sent.data[:300]!r}, {len(sent.data)} bytes")
            return
        statuses.update(status for status, _ in found)
        if any(status >= 500 and status != 503 for status, _ in found):
            wrong.append(f"{found}: {sent.data[:300]!r}")

    async def many() -> None:
        for _ in range(CHUNK // options.connections):
            await one(raw(chance))

    while statuses.total() < options.count and time.monotonic() < deadline:
        await asyncio.gather(*(many() for _ in range(options.connections)))
        memory.append(process.memory_info().rss >> 20)
        server.lines[:] = [line for line in server.lines if line["level"] == "error"]
    handled = ("event.processed", "event.dead", "event.ignored", "event.superseded")
    async with asyncio.timeout(60):
        while sum(server.counts[action] for action in handled) < server.counts["event.accepted"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return {
        "answers": dict(sorted(statuses.items())),
        "accepted": server.counts["event.accepted"],
        "handled": sum(server.counts[action] for action in handled),
        "MB": {"after a fifth": memory[len(memory) // 5], "at the end": memory[-1], "most": max(memory)},
        "wrong": wrong[:5],
    }


WHAT = {"mutated": fuzz, "generated": real, "raw": wild}


async def main(options: argparse.Namespace) -> int:
    """Run one of the two; the exit code."""
    limits = {} if options.what == "generated" else {"MAX_BODY_BYTES": str(MAX_BODY), "BODY_TIMEOUT": "2s"}
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), **limits, JOURNAL_URL=options.journal) as server:
            started = time.monotonic()
            figures = await WHAT[options.what](server, options)
            figures["seconds"] = round(time.monotonic() - started, 1)
            figures["exit code"] = await server.terminate()
            errors = [line for line in server.lines if line["level"] == "error"]
            figures["errors in the log"] = [str(line)[:500] for line in errors][:5]
            figures["noise"] = [*server.noise, server.stderr][:5] if server.noise or server.stderr else []
    print(json.dumps(figures, indent=2))
    return int(bool(figures["wrong"] or figures["errors in the log"] or figures["noise"] or figures["exit code"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float, default=300.0, help="no new body after this time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--journal", default="memory://")
    chosen = parser.parse_args()
    chosen.count = chosen.count or (10_000 if chosen.what == "generated" else 100_000)
    sys.exit(asyncio.run(main(chosen)))
