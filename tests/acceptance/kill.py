"""The kill test: ``python -m tests.acceptance.kill --kills 100``.

Connections send in bursts, each sending again what was not answered 202; the connector is killed with SIGKILL at
random moments and started anew. One event in ten fails at first and is tried again. At the end every event answered
202 was handled, in order per subscriber, and only what a kill caught between a handler's work and its note was handled
again.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from connector.journal.queries import ReadStats
from connector.journal.sqlite import history
from tests.journal_support.running import Handled, handled, start
from tests.journal_support.senders import Senders
from tests.process import Server


class Figures(NamedTuple):
    """What was seen. ``unanswered``: requests that a kill caught; ``repeats``: events that were handled again;
    ``retried``: attempts that failed.
    """

    kills: int
    accepted: int
    unanswered: int
    repeats: int
    most_repeats: int
    retried: int
    slowest_start: float
    faults: Sequence[str]


async def kill_often(
    folder: Path, *, kills: int, seed: int, flaky: int = 0, connections: int = 16, lanes: int = 8
) -> Figures:
    """Run the test in ``folder``; ``lanes`` subscribers a connection; ``flaky`` of a hundred events fail at first."""
    chance = random.Random(seed)
    journal = folder / "files" / "journal.db"
    journal.parent.mkdir()
    connector, slowest = await _start(journal, flaky)
    try:
        async with Senders(connector, connections, lanes) as senders:
            for _ in range(kills):
                enough = len(senders.accepted) + chance.randrange(1, 1500)
                await senders.until(lambda enough=enough: len(senders.accepted) >= enough)  # type: ignore[misc]
                await asyncio.sleep(chance.uniform(0, 0.02))  # a kill is not to come just after an answer
                senders.away()
                await connector.kill()
                connector, took = await _start(journal, flaky)
                slowest = max(slowest, took)
                senders.back(connector)
            await senders.stop()
            accepted = set(senders.accepted)
            await connector.until(lambda: accepted <= {line.event_id for line in handled(folder / "handled")})
    finally:
        await connector.kill()
    lines = handled(folder / "handled")
    repeats = repeated(lines)
    return Figures(
        kills,
        len(accepted),
        senders.unanswered,
        sum(repeats.values()),
        max(repeats.values(), default=0),
        _retried(journal),
        slowest,
        [*lost(accepted, lines), *out_of_order(senders.sent, lines), *unexplained_repeats(lines)],
    )


def lost(accepted: set[str], lines: Sequence[Handled]) -> list[str]:
    """A sentence for each event that was answered 202 and not handled."""
    return [f"{event_id} was answered 202 and not handled" for event_id in accepted - {line.event_id for line in lines}]


def out_of_order(sent: Mapping[str, Sequence[str]], lines: Sequence[Handled]) -> list[str]:
    """A sentence for each subscriber whose events were handled first in another order than they were accepted."""
    first: dict[str, dict[str, None]] = defaultdict(dict)
    for line in lines:
        first[line.lane].setdefault(line.event_id)
    return [f"{lane} was out of order" for lane, ids in first.items() if list(ids) != list(sent[lane])[: len(ids)]]


def repeated(lines: Sequence[Handled]) -> Counter[int]:
    """How many events of each process were handled again by a later one."""
    last = {line.event_id: line.process for line in lines}
    return Counter(line.process for line in lines if last[line.event_id] != line.process)


def unexplained_repeats(lines: Sequence[Handled]) -> list[str]:
    """A sentence for each event that was handled again although it was not among the last of its process.

    Notes are kept in the order of the work, so what a kill leaves without one is the end of what a process did.
    """
    faults = []
    last = {line.event_id: place for place, line in enumerate(lines)}
    by_process: dict[int, list[int]] = defaultdict(list)
    for place, line in enumerate(lines):
        by_process[line.process].append(place)
    for process, places in by_process.items():
        again = [last[lines[place].event_id] != place for place in places]
        count = sum(again)
        if again != [False] * (len(again) - count) + [True] * count:
            faults.append(f"process {process} handled events whose note was kept and which came again")
        if len({lines[place].event_id for place in places}) != len(places):
            faults.append(f"process {process} handled an event twice itself")
    return faults


async def _start(journal: Path, flaky: int) -> tuple[Server, float]:
    began = time.monotonic()
    connector = await start(journal, {"FLAKY": str(flaky)})
    return connector, time.monotonic() - began


def _retried(journal: Path) -> int:
    with history.connect(journal) as past:
        return int(past.ask(ReadStats()).total.get("retried", 0))


def main() -> int:
    """The script; 1 where an event was lost, out of order or repeated without reason."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--flaky", type=int, default=10, help="of a hundred events so many fail at first")
    chosen = options.parse_args()
    with TemporaryDirectory() as folder:
        figures = asyncio.run(kill_often(Path(folder), kills=chosen.kills, seed=chosen.seed, flaky=chosen.flaky))
    for name, value in figures._asdict().items():
        print(f"{name:14} {value:.2f}" if isinstance(value, float) else f"{name:14} {value}")
    return 1 if figures.faults else 0


if __name__ == "__main__":
    sys.exit(main())
