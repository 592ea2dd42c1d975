"""`nsps-simulator compare`: two reports side by side, and what of the difference is more than noise."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from nsps_simulator.reporting.comparison import Difference, compare

INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    name="compare",
    help=(
        "Compare two reports that --json wrote.\n\n"
        "A difference counts when it is larger than what the stretches of the two runs themselves vary. Exit code: 1"
        " when the second run is worse in something that counts, else 0."
    ),
)
@click.argument("before", type=INPUT)
@click.argument("after", type=INPUT)
def compare_command(before: Path, after: Path) -> None:
    first, second = _read(before), _read(after)
    found = compare(first, second)
    console = Console()
    console.print(_heading(first, second, before, after))
    console.print(_table(found))
    for words in _unlike(first, second):
        console.print(f"Not the same run: {words}", style="yellow", soft_wrap=True, highlight=False)
    sys.exit(1 if any(one.worse for one in found) else 0)


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_bytes())
        report["figures"], report["series"], report["scenario"]  # what is compared must be there
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"{path} is not a report of this simulator ({error})") from error
    return dict(report)


def _heading(first: dict[str, Any], second: dict[str, Any], before: Path, after: Path) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, report in ((str(before), first), (str(after), second)):
        table.add_row(name, str(report["date"]), f"verdict {report['verdict']}", f"seed {report['scenario']['seed']}")
    return table


def _table(found: list[Difference]) -> Table:
    table = Table(box=None, padding=(0, 2))
    for name in ("", "before", "after", "change", "noise", ""):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for one in found:
        noise = "" if one.noise is None else f"±{one.noise:.0%}"
        style = "red" if one.worse else "green" if one.better else "dim"
        table.add_row(
            one.name, one.shown(one.before), one.shown(one.after), f"{one.change:+.0%}", noise, one.word, style=style
        )
    return table


def _unlike(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Name what differs between the scenarios, so that nobody compares what cannot be compared."""
    ignored = {"seed", "urls"}
    return [
        f"{name} was {one}, then {second['scenario'].get(name)}"
        for name, one in first["scenario"].items()
        if name not in ignored and second["scenario"].get(name) != one
    ]
