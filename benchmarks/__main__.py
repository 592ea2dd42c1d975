"""``python -m benchmarks``: the connector beside a bare aiohttp server that keeps nothing, in the same run.

Each round measures every server once, in turn, each as a fresh process, so that a machine whose speed drifts favours
none. Prints markdown.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.clients import ClosedLoop, closed_loop, open_loop
from benchmarks.load import EVENT_FILE, Answers
from benchmarks.servers import Kind, running

WARM_UP: Final = 1.0
"""Seconds of load before the measured ones."""

SETTLE: Final = 60.0
"""Seconds that a server may take to process what it has accepted."""

BUSY: Final = 0.95
"""Share of its core from which a process counts as having had no time left."""

SPIN: Final = 0.9
"""Share of its core that the client of the open loop uses when it has the core to itself: it never sleeps."""

BARE: Final = Kind("bare", None)

QUEUE: Final = "1000000"
"""QUEUE_SIZE for memory://, whose backlog is its queue: large enough to refuse nothing."""


class Measured(NamedTuple):
    """One server in one round.

    ``answers``  what the client saw
    ``rate``     accepted events a second
    ``settled``  events a second from the first request until the last accepted event was processed
    ``cpu``      microseconds of the server's processor time per event, processing included
    ``busy``     share of its core that the server used during the load, 0 to 1
    ``rss``      resident memory at the end of the load, in MB
    """

    answers: Answers
    rate: float
    settled: float
    cpu: float
    busy: float
    rss: float


def measure(kind: Kind, load: ClosedLoop, options: argparse.Namespace, folder: Path) -> Measured:
    """Start one server, put it under load, wait until it has processed what it accepted, stop it."""
    handles = kind.settings is not None
    with running(kind, options.server_core, folder) as server:
        warm = load(server.port, WARM_UP, options.connections, options.client_core)
        if handles:
            server.wait_processed(warm.accepted, SETTLE)
        before = server.cpu()
        answers = load(server.port, options.seconds, options.connections, options.client_core)
        under_load, rss = server.cpu() - before, server.rss()
        behind = server.wait_processed(warm.accepted + answers.accepted, SETTLE) if handles else 0.0
        cpu = server.cpu() - before
    accepted, seconds = answers.accepted, answers.seconds
    return Measured(
        answers,
        rate=accepted / seconds,
        settled=accepted / (seconds + behind),
        cpu=cpu / accepted * 1e6,
        busy=under_load / seconds,
        rss=rss,
    )


def rounds(kinds: Sequence[Kind], load: ClosedLoop, options: argparse.Namespace, folder: Path) -> list[list[Measured]]:
    """For each round, each server's figures, in the order of ``kinds``."""
    return [[measure(kind, load, options, folder) for kind in kinds] for _ in range(options.rounds)]


def at_the_limit(kinds: Sequence[Kind], options: argparse.Namespace, folder: Path) -> list[list[Measured]]:
    """As many events as each server takes, printed as a table; ratios are to the bare server of the same round."""
    found = rounds(kinds, closed_loop(options.client), options, folder)
    print(f"\n### As fast as it goes: {options.connections} connections, each sends when it is answered\n")
    print("| server | accepted/s | ratio | settled/s | ratio | CPU µs/event | ratio | p50 ms | p95 ms | p99 ms | MB |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for place, kind in enumerate(kinds):
        of = Column(found, place)
        cells = [
            f"{of.median(lambda each: each.rate):.0f}",
            f"{of.ratio(lambda each: each.rate):.2f}",
            f"{of.median(lambda each: each.settled):.0f}" if kind.settings is not None else "-",
            f"{of.ratio(lambda each: each.settled):.2f}" if kind.settings is not None else "-",
            f"{of.median(lambda each: each.cpu):.0f}",
            f"{1 / of.ratio(lambda each: each.cpu):.2f}",
            *latencies(of),
            f"{of.median(lambda each: each.rss):.0f}",
        ]
        print(f"| {kind.name} | {' | '.join(cells)} |")
    refusals(kinds, found)
    limits(kinds, found)
    return found


def at_equal_load(
    kinds: Sequence[Kind], rate: float, options: argparse.Namespace, folder: Path
) -> list[list[Measured]]:
    """The same events at the same moments to each server, printed as a table."""

    def load(port: int, seconds: float, connections: int, core: int) -> Answers:
        return open_loop(port, seconds, connections, core, rate)

    found = rounds(kinds, load, options, folder)
    print(f"\n### At equal load: {rate:.0f} events/s at random moments, whether or not the server keeps up\n")
    print("| server | CPU µs/event | p50 ms | p95 ms | p99 ms | p99 ratio |")
    print("|---|---|---|---|---|---|")
    for place, kind in enumerate(kinds):
        of = Column(found, place)
        cells = [f"{of.median(lambda each: each.cpu):.0f}", *latencies(of)]
        print(f"| {kind.name} | {' | '.join(cells)} | {of.ratio(lambda each: each.answers.p99):.2f} |")
    refusals(kinds, found)
    if (share := min(each.answers.cpu for measured in found for each in measured)) < SPIN:
        print(f"\n**In one round the client had {share:.0%} of its core: others on the machine spoiled latencies.**")
    return found


class Column:
    """The rounds of one server, beside those of the first one."""

    def __init__(self, found: Sequence[Sequence[Measured]], place: int) -> None:
        self._pairs = [(each[place], each[0]) for each in found]

    def median(self, figure: Callable[[Measured], float]) -> float:
        """The median of a figure over the rounds."""
        return median(figure(own) for own, _ in self._pairs)

    def ratio(self, figure: Callable[[Measured], float]) -> float:
        """The median over the rounds of the figure divided by the first server's in the same round."""
        return median(figure(own) / figure(first) for own, first in self._pairs)


def latencies(of: Column) -> list[str]:
    """Median p50, p95 and p99."""
    figures: list[Callable[[Measured], float]] = [
        lambda each: each.answers.p50,
        lambda each: each.answers.p95,
        lambda each: each.answers.p99,
    ]
    return [f"{of.median(figure):.2f}" for figure in figures]


def refusals(kinds: Sequence[Kind], found: Sequence[Sequence[Measured]]) -> None:
    """Say which server refused events: its figures are not those of accepting."""
    for place, kind in enumerate(kinds):
        if refused := sum(each[place].answers.refused for each in found):
            print(f"\n**{kind.name} refused {refused} events.**")


def limits(kinds: Sequence[Kind], found: Sequence[Sequence[Measured]]) -> None:
    """Say where it was not the server that set the pace."""
    for place, kind in enumerate(kinds):
        of = Column(found, place)
        if (busy := of.median(lambda each: each.busy)) < BUSY:
            print(f"\n{kind.name} used {busy:.0%} of its core: the client, or others on the machine, set the pace.")
        if (busy := of.median(lambda each: each.answers.cpu)) >= BUSY:
            print(f"\n**The client used {busy:.0%} of its core against {kind.name}: it may have been the limit.**")


def kinds_of(options: argparse.Namespace) -> list[Kind]:
    """The bare server first, then a connector for each journal."""
    kinds = [BARE]
    for journal in options.journal or ["memory", "sqlite"]:
        settings = dict(each.split("=", 1) for each in options.set)
        if journal == "memory":
            settings = {"QUEUE_SIZE": QUEUE, **settings, "JOURNAL_URL": "memory://"}
        else:
            settings |= {"JOURNAL_URL": "sqlite:///journal.db"}
        kinds.append(Kind(journal, settings))
    return kinds


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("limit", "equal", "all"), default="all")
    parser.add_argument(
        "--journal", action="append", choices=("memory", "sqlite"), help="several, if given several times; default both"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load for each server and round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--client", choices=("auto", "wrk", "asyncio"), default="auto", help="of the closed loop")
    parser.add_argument("--rate", type=float, help="events/s of the equal load; if not given, half of the slowest")
    parser.add_argument("--event", help="the event that is sent; examples/events/sim-updated.json if not given")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the connector")
    parser.add_argument("--server-core", type=int, default=cores[0])
    parser.add_argument("--client-core", type=int, default=cores[-1])
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where journals and logs go while it runs")
    parser.add_argument("--json", type=Path, help="a file that takes the figures with their spread")
    parser.add_argument("--baseline", type=Path, help="a file that --json wrote, to compare with")
    options = parser.parse_args(arguments)
    if options.event:
        os.environ[EVENT_FILE] = options.event
    if options.server_core == options.client_core:
        parser.error("server and client need a core each")
    if any("=" not in each for each in options.set):
        parser.error("--set needs NAME=VALUE")
    return options


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit code."""
    options = parse(arguments)
    print(f"`python -m benchmarks {' '.join(arguments)}`".replace(" `", "`"))
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        folder = Path(name)
        kinds = kinds_of(options)
        rate = options.rate
        results: dict[str, list[list[Measured]]] = {}
        if options.what != "equal":
            results["limit"] = at_the_limit(kinds, options, folder)
        if options.what != "limit":
            rate = rate or bearable(results.get("limit") or [[measure_once(kind, options, folder) for kind in kinds]])
            results["equal"] = at_equal_load(kinds, rate, options, folder)
    figures = summary(kinds, results)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2))
    if options.baseline is not None:
        beside(json.loads(options.baseline.read_text()), figures)
    return 0


def bearable(found: Sequence[Sequence[Measured]]) -> float:
    """Half of what the slowest server takes, so that none is measured as it falls behind."""
    return 0.5 * min(median(each[place].rate for each in found) for place in range(len(found[0])))


def measure_once(kind: Kind, options: argparse.Namespace, folder: Path) -> Measured:
    """One server at its limit."""
    return measure(kind, closed_loop(options.client), options, folder)


Figures = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Part of the benchmark, server, figure: its median, least and greatest over the rounds."""


def summary(kinds: Sequence[Kind], results: Mapping[str, Sequence[Sequence[Measured]]]) -> Figures:
    """The figures with their spread."""
    read: dict[str, Callable[[Measured], float]] = {
        "accepted/s": lambda each: each.rate,
        "CPU µs/event": lambda each: each.cpu,
        "p50 ms": lambda each: each.answers.p50,
        "p99 ms": lambda each: each.answers.p99,
    }
    figures: Figures = {}
    for part, found in results.items():
        for place, kind in enumerate(kinds):
            values = {name: [figure(each[place]) for each in found] for name, figure in read.items()}
            figures.setdefault(part, {})[kind.name] = {
                name: {"median": median(each), "least": min(each), "greatest": max(each)}
                for name, each in values.items()
            }
    return figures


def beside(before: Figures, now: Figures) -> None:
    """Print the figures beside those of an earlier run; a change within the spread of both is called noise."""
    print("\n### Beside the baseline\n")
    print("| part | server | figure | before | now | change | |")
    print("|---|---|---|---|---|---|---|")
    for part, servers in now.items():
        for server, figures in servers.items():
            for name, value in figures.items():
                old = before.get(part, {}).get(server, {}).get(name)
                if old is None:
                    continue
                overlap = value["least"] <= old["greatest"] and old["least"] <= value["greatest"]
                change = value["median"] / old["median"] - 1
                cells = f"{old['median']:.2f} | {value['median']:.2f} | {change:+.0%} | {'noise' if overlap else ''}"
                print(f"| {part} | {server} | {name} | {cells} |")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
