"""What a healthy event costs beside subscribers that wait: ``python -m benchmarks.lanes``.

Workers and the SQLite journal in this process, without the server. Before each measurement so many subscribers
are blocked by an event that waits for an hour, each with a backlog behind it; then healthy events of other subscribers
are accepted and handled, and the time and the processor time for each is taken.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import uvloop

from connector import log
from connector.app import steady_clock
from connector.delivery.workers import Workers
from connector.events.event import Event
from connector.handlers import Handlers, handler_of, on
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.queries import FindBlocked
from connector.journal.sqlite.store import SqliteStore
from connector.outcome import Retry, RetryPolicy

AT_ONCE: Final = 256
"""Events accepted at the same time."""


class Cost(NamedTuple):
    """Microseconds for a healthy event: on the clock, and of the processor in all threads."""

    wall: float
    cpu: float


@on("Test/Fails")
async def fails(_: Event) -> None:
    """Wait for an hour."""
    raise Retry("busy", after=3600)


@on("Test/Healthy")
async def works(_: Event) -> None:
    """End well."""


def event(number: int, kind: str, lane: str) -> Event:
    """An event of 1.5 KB."""
    event_id = f"{kind}-{number}"
    account = {"account_info": {"bill_status": "open"}}
    body = {"event_id": event_id, "data": {"event_type": kind}, "pb_data": account, "padding": "x" * 1400}
    return Event(event_id, kind, (lane,), "request", "unique", time.time(), json.dumps(body).encode())


async def accept(journal: GroupCommitJournal, events: Sequence[Event]) -> None:
    """Accept events, so many at the same time."""
    for start in range(0, len(events), AT_ONCE):
        await asyncio.gather(*(journal.keep(each) for each in events[start : start + AT_ONCE]))


async def measure(folder: Path, blocked: int, behind: int, count: int) -> Cost:
    """The cost of ``count`` healthy events beside ``blocked`` subscribers, each with ``behind`` more."""
    clock = steady_clock()
    keep = 1e9
    path = folder / "journal.db"
    store = SqliteStore(path, keep_done=keep, keep_dead=keep, keep_ids=keep, min_free_disk=0, clock=clock)
    journal = GroupCommitJournal(store, capacity=10_000_000, queue_size=1000, clock=clock)
    handlers = Handlers([handler_of(fails), handler_of(works)])
    policy = RetryPolicy(longest=3600.0)
    workers = Workers(journal, handlers, policy, count=8, timeout=60.0, hold_dead=False, clock=clock)
    await journal.open(lambda *_: None)
    workers.start()
    failing = range(blocked * (1 + behind))
    await accept(journal, [event(number, "Test/Fails", f"blocked:{number % blocked}") for number in failing])
    await journal.join()
    healthy = [event(number, "Test/Healthy", f"healthy:{number % 5000}") for number in range(count)]
    wall, cpu = time.perf_counter(), time.process_time()
    await accept(journal, healthy)
    await journal.join()
    cost = Cost((time.perf_counter() - wall) / count * 1e6, (time.process_time() - cpu) / count * 1e6)
    waiting = len(await journal.ask(FindBlocked(blocked + 1)))
    if journal.size != blocked * (1 + behind) or waiting != blocked:
        raise SystemExit(f"{journal.size} events are open and {waiting} subscribers wait: that was not measured")
    await workers.drain(1.0, everything=False)
    await journal.close()
    return cost


def main() -> None:
    """Print a table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--blocked", type=int, nargs="+", default=[0, 1000, 10_000])
    options.add_argument("--behind", type=int, default=3)
    options.add_argument("--events", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=3)
    chosen = options.parse_args()
    log.configure("error")
    costs: dict[int, list[Cost]] = {blocked: [] for blocked in chosen.blocked}
    for _ in range(chosen.rounds):
        for blocked, found in costs.items():
            with TemporaryDirectory(dir=".") as folder:
                found.append(uvloop.run(measure(Path(folder), blocked, chosen.behind, chosen.events)))
    print("| blocked subscribers | open behind them | µs/event | CPU µs/event |\n|---|---|---|---|")
    for blocked, found in costs.items():
        wall, cpu = (statistics.median(each) for each in zip(*found, strict=True))
        print(f"| {blocked:,} | {blocked * chosen.behind:,} | {wall:.0f} | {cpu:.0f} |")


if __name__ == "__main__":
    main()
