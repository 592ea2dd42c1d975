"""``python -m connector forward --check EVENT.json``: shows what the forwarder would send, and sends nothing."""

import sys
from pathlib import Path

import click
import msgspec

from connector.admin.event_file import event_in
from connector.errors import StartError
from connector.events.schema import Schema
from connector.external import headers, mapping, urls
from connector.handlers import forward, handler_of
from connector.settings import FORWARDER, Settings, environment

EXIT_FAULT = 2
"""Exit code where the settings, the mapping or the event are wrong."""


@click.command("forward", help="Check the forwarder's settings and mapping on an example event; nothing is sent.")
@click.option(
    "--check",
    "event_file",
    metavar="EVENT.json",
    required=True,
    type=click.Path(path_type=Path),
    help="Show what would be sent for the event in this file (- for standard input).",
)
@click.pass_obj
def forward_command(variables: dict[str, str] | None, event_file: Path) -> None:
    try:
        settings = Settings.load((environment() if variables is None else variables) | {"HANDLERS": FORWARDER})
        event = event_in(event_file, Schema(settings.required_fields, settings.order_by))
        mapped = mapping.from_settings(settings)
    except StartError as error:
        for line in str(error).splitlines():
            click.echo(line, err=True)
        sys.exit(EXIT_FAULT)
    for warning in mapped.warnings if mapped else ():
        click.echo(f"FORWARD_MAPPING: warning: {warning}", err=True)
    if not forward.chosen(event, settings):
        click.echo(f"Not sent: FORWARD_TYPES leaves {event.event_type} out")
        return
    click.echo(f"POST {urls.without_secrets(settings.target_url)}")
    click.echo("Content-Type: application/json")
    if settings.target_auth != "none":
        click.echo(f"Authorization: ({settings.target_auth}, not shown)")
    for name, value in headers.of_event(event, handler=handler_of(forward.forward).name).items():
        click.echo(f"{name}: {value}")
    click.echo()
    click.echo(msgspec.json.format(forward.body(event, mapped), indent=2))  # moves white space, and nothing else
