"""``python -m connector``: serve, and the operator's commands."""

import sys

from connector import process

if sys.argv[1:2] == ["serve"]:
    process.begin()  # before the imports that take long

import io
from importlib.util import find_spec

import click

from connector.admin import command_line
from connector.admin.check import check
from connector.admin.copies import backup, restore
from connector.admin.example import example
from connector.admin.forward_check import forward_command
from connector.admin.new import new
from connector.serve import health_check
from connector.serve import main as serve_main
from connector.version import __version__


@click.group(help="A connector for PortaOne NSPS.", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="nsps-connector %(version)s")
def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an id may have letters that the terminal does not
            stream.reconfigure(errors="backslashreplace")


@main.command(help="Run the connector until a signal stops it.")
def serve() -> None:
    sys.exit(serve_main())


@main.command(
    help="Ask the connector of the same settings whether it lives; exit code 0 if it does (a container's health check)."
)
def health() -> None:
    sys.exit(health_check())


@main.command(
    help="Load a connector with events, as NSPS would, and judge what it does (package nsps_simulator).",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def simulate(arguments: tuple[str, ...]) -> None:
    if find_spec("nsps_simulator") is None:
        raise click.ClickException(
            "the simulator is not installed here: in the folder of the source, `pip install ./nsps_simulator`"
        )
    from nsps_simulator.command import command

    command.main(args=list(arguments), prog_name="python -m connector simulate")


for each in command_line.COMMANDS:
    main.add_command(each)
main.add_command(forward_command)
main.add_command(check)
main.add_command(new)
main.add_command(backup)
main.add_command(restore)
command_line.events.add_command(example)

if __name__ == "__main__":
    main(prog_name="python -m connector")
