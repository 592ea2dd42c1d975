"""`nsps-simulator figures`: what --require can ask for."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from nsps_simulator.reporting.report import FIGURES


@click.command(
    help="List the figures that --require can ask for. Times take us, ms, s or m; shares take %.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def figures() -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, words in FIGURES.items():
        table.add_row(name, words)
    Console().print(table)
