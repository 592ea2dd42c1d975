"""``python -m connector events example TYPE``: a body as NSPS posts it, for a first try and for tests."""

import difflib
import uuid

import click
import msgspec

from connector.events.event_types import DOCUMENTED
from connector.events.examples import body_of


@click.command(
    "example",
    help="Print an event of TYPE with a new id, as NSPS posts it; without TYPE, list the documented types. Its "
    "subscriber is made up. A type that nobody has documented looks like one about an account.",
)
@click.argument("event_type", metavar="TYPE", required=False)
def example(event_type: str | None) -> None:
    if event_type is None:
        click.echo("\n".join(DOCUMENTED))
        return
    body = body_of(event_type) | {"event_id": str(uuid.uuid4())}
    if event_type not in DOCUMENTED:
        near = difflib.get_close_matches(event_type, DOCUMENTED, 1)
        click.echo(f"{event_type} is not documented" + (f"; did you mean {near[0]}?" if near else ""), err=True)
    click.echo(msgspec.json.format(msgspec.json.encode(body), indent=2))
