"""The command line: reads options, starts a run, prints its verdict, ends with its exit code.

`nsps-simulator run` is what most people want, so a command line that begins with an option means it.
"""

from __future__ import annotations

import click

from nsps_simulator.command.compare import compare_command
from nsps_simulator.command.dump import dump
from nsps_simulator.command.figures import figures
from nsps_simulator.command.plan import plan
from nsps_simulator.command.run import run
from nsps_simulator.command.target import target


class _Commands(click.Group):
    """Takes `run` for granted."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in {"--help", "-h", "--version"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_Commands,
    name="nsps-simulator",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="NSPS's side of the wire: load for a connector, faults, and a verdict on what it did.",
)
def command() -> None:
    """The group alone does nothing."""


for one in (run, plan, target, dump, compare_command, figures):
    command.add_command(one)

__all__ = ["command"]
