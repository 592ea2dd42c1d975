"""``python -m connector``: serve, and the operator's commands."""

import sys

import click

from connector import cli
from connector.handlers.forward_check import forward_command
from connector.serve import main as serve_main
from connector.simulator.command import command as simulate


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A connector for PortaOne NSPS."""


@main.command()
def serve() -> None:
    """Run the connector until a signal stops it."""
    sys.exit(serve_main())


for each in cli.COMMANDS:
    main.add_command(each)
main.add_command(forward_command)
main.add_command(simulate, "simulate")

if __name__ == "__main__":
    main(prog_name="python -m connector")
