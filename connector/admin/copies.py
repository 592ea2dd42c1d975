"""``backup`` and ``restore``: checked copies of the journal."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from connector import log
from connector.errors import ConnectorError, StartError
from connector.journal import engines
from connector.journal.outside import Copied, Outside
from connector.settings import OF_JOURNAL, Settings, environment, only

Result = TypeVar("Result")

_FILE = click.argument("file", type=click.Path(path_type=Path))


@click.command(help="Write a checked copy of the journal to FILE, also while the connector runs.")
@_FILE
def backup(file: Path) -> None:
    click.echo(f"{file}: {_said(_on_journal(lambda journal: journal.backup(file)))}")


@click.command(
    help=(
        "Put the backup FILE in the journal's place, checked, and keep the former journal aside."
        "\n\nThe connector has to be stopped."
    )
)
@_FILE
def restore(file: Path) -> None:
    restored = _on_journal(lambda journal: journal.restore(file))
    click.echo(f"restored from {file}: {_said(restored.copied)}")
    if restored.kept is not None:
        click.echo(f"the former journal is kept as {restored.kept}")


def _said(copied: Copied) -> str:
    return f"{copied.events:,} events, {copied.open:,} of them open, {copied.size / 2**20:,.1f} MiB; checked"


def _on_journal(call: Callable[[Outside], Result]) -> Result:
    log.configure("error")
    try:
        with engines.outside(Settings.load(only(environment(), *OF_JOURNAL))) as journal:
            return call(journal)
    except StartError as error:
        raise click.ClickException(str(error)) from None
    except ConnectorError as error:
        raise click.ClickException(error.error) from None
