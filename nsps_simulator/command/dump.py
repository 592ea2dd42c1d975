"""`nsps-simulator dump`: the bodies of events as JSON lines, for other load generators."""

from __future__ import annotations

import os
import sys

import click

from nsps_simulator.wire.events import Events
from nsps_simulator.wire.population import BILL_RUN, LIFE, LIMIT, Population


@click.command(
    help="Print bodies, one JSON document a line. A reader that has seen enough may close the pipe.",
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.option("--events", type=click.IntRange(1, 50_000_000), default=1000, help="How many.")
@click.option("--seed", type=int, default=1, help="The same seed gives the same events.")
@click.option("--subscribers", type=click.IntRange(1, LIMIT), default=100_000, help="The population.")
@click.option("--profile", type=click.Choice([LIFE, BILL_RUN]), default=LIFE, help="What happens to them.")
@click.option("--perl", type=click.FloatRange(0, 1), default=0.0, help="Share of subscribers with Perl's types.")
def dump(events: int, seed: int, subscribers: int, profile: str, perl: float) -> None:
    made = Events(seed, Population(seed, subscribers, flavour=profile), perl=perl)
    try:
        for index in range(events):
            sys.stdout.buffer.write(made.body(index) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
