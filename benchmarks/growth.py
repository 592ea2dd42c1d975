"""``python -m benchmarks.growth``: does an event cost more when much waits, or when much is remembered?

Each journal is filled first, then a server is started on it and put under load by the client of the closed loop, as
many rounds as asked for, all sizes in turn. With a backlog delivery is paused, so that it stays what it is.
Prints markdown and draws ``growth.svg`` beside this file.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks import prefill
from benchmarks.clients import closed_loop
from benchmarks.servers import Kind, running

BACKLOGS: Final = (0, 10_000, 100_000, 1_000_000)
IDS: Final = (0, 1_000_000, 10_000_000)
PICTURE: Final = Path(__file__).parent / "growth.svg"


class Size(NamedTuple):
    """A journal of a certain size: what grows in it, how far, and the file."""

    what: str
    many: int
    file: Path


class Cost(NamedTuple):
    """One round: seconds from the start of the process to the open port, microseconds of processor time an accepted
    event, milliseconds of latency, resident megabytes after the load.
    """

    start: float
    cpu: float
    p99: float
    rss: float


def fill(what: str, counts: Sequence[int], folder: Path) -> list[Size]:
    """The journals of each size."""
    sizes = []
    for count in counts:
        file = folder / f"{what}-{count}.db"
        print(f"filling {file.name}", file=sys.stderr)
        if what == "backlog":
            prefill.backlog(file, count, paused=True)
        else:
            prefill.remembered(file, count)
        sizes.append(Size(what, count, file))
    return sizes


def measure(size: Size, options: argparse.Namespace, folder: Path) -> Cost:
    """One round on a copy of the journal."""
    copy = folder / "journal.db"
    shutil.copyfile(size.file, copy)
    os.sync()
    kind = Kind(size.file.stem, {"JOURNAL_URL": f"sqlite:///{copy}", "MAX_BACKLOG": "10000000", "LOG_LEVEL": "INFO"})
    load = closed_loop("auto")
    began = time.monotonic()
    try:
        with running(kind, options.server_core, folder) as server:
            start = time.monotonic() - began
            load(server.port, 1.0, options.connections, options.client_core)
            before = server.cpu()
            answers = load(server.port, options.seconds, options.connections, options.client_core)
            if size.what != "backlog":
                time.sleep(1.0)
            return Cost(start, (server.cpu() - before) / answers.accepted * 1e6, answers.p99, server.rss())
    finally:
        for left in folder.glob("journal.db*"):
            left.unlink()


def report(sizes: Sequence[Size], found: Sequence[Sequence[Cost]]) -> list[tuple[str, float]]:
    """Print the table; the labels and ratios of its rows."""
    names = {"backlog": "pending events", "ids": "remembered ids"}
    print(f"\n| {names[sizes[0].what]} | CPU µs/event | ratio | p99 ms | MB | port open after s |")
    print("|---|---|---|---|---|---|")
    bars = []
    for place, size in enumerate(sizes):
        of = [round_[place] for round_ in found]
        ratio = median(round_[place].cpu / round_[0].cpu for round_ in found)
        bars.append((f"{size.many:,} {names[size.what]}", ratio))
        figures = (median(getattr(each, name) for each in of) for name in ("cpu", "p99", "rss", "start"))
        cpu, p99, rss, start = figures
        print(f"| {size.many:,} | {cpu:.0f} | {ratio:.2f} | {p99:.1f} | {rss:.0f} | {start:.1f} |")
    return bars


def draw(bars: Sequence[tuple[str, float]]) -> str:
    """The ratios as bars, with the goal of 1.2 as a line."""
    height, left, unit = 28 * len(bars) + 40, 210, 260
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + 2 * unit} {height}"',
        ' font-family="sans-serif" font-size="13">',
        "<style>text{fill:#222}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
    ]
    for place, (label, ratio) in enumerate(bars):
        top = 10 + 28 * place
        parts.append(f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{label}</text>')
        parts.append(f'<rect x="{left}" y="{top}" width="{ratio * unit:.0f}" height="20" fill="#4878a8"/>')
        parts.append(f'<text x="{left + ratio * unit + 6:.0f}" y="{top + 14}">{ratio:.2f}</text>')
    goal = left + 1.2 * unit
    parts.append(f'<line x1="{goal}" x2="{goal}" y1="4" y2="{height - 26}" stroke="#c44" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{goal}" y="{height - 8}" text-anchor="middle">goal: 1.2 × an empty journal</text>')
    return "".join([*parts, "</svg>\n"])


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit code."""
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("backlog", "ids", "all"), default="all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--most", type=int, default=10_000_000, help="leave out journals larger than that")
    parser.add_argument("--server-core", type=int, default=cores[0])
    parser.add_argument("--client-core", type=int, default=cores[-1])
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="where journals go while it runs: some 5 GB")
    options = parser.parse_args(arguments)
    print(f"`python -m benchmarks.growth {' '.join(arguments)}`".replace(" `", "`"))
    bars: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        folder = Path(name)
        for what, counts in (("backlog", BACKLOGS), ("ids", IDS)):
            if options.what not in (what, "all"):
                continue
            sizes = fill(what, [count for count in counts if count <= options.most], folder)
            found = [[measure(size, options, folder) for size in sizes] for _ in range(options.rounds)]
            bars += report(sizes, found)
    if options.what == "all":
        PICTURE.write_text(draw(bars))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
