"""The operator's commands: what became of events, replay, discard, blocked subscribers, pause, resume, stats.

They read the journal file and leave commands in it, so they work beside a running connector and on a stopped one, and
know it by the same settings (JOURNAL_URL in the environment or ``.env``).
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from connector import log
from connector.errors import StartError
from connector.events.reading import document_of
from connector.events.redaction import redact
from connector.events.times import parse_time
from connector.journal import engines
from connector.journal.commands import Command, CommandResult, Verb
from connector.journal.outside import Outside
from connector.journal.queries import STATES, AttemptsOf, BodyOf, Filter, Find, FindBlocked, ReadStats, SeriesOf
from connector.settings import Settings, environment, seconds

BATCH: Final = 100
"""Events a command names at most; more go in several commands."""

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class _Time(click.ParamType[float]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """An ISO 8601 time, or an age such as 30m, 12h or 7d, as seconds since the epoch."""
        age = None if value[-1:].isdigit() else seconds(value)
        if age is not None:
            return time.time() - age
        moment = parse_time(value)
        if moment is None:
            self.fail(f"{value!r} is neither an ISO 8601 time nor an age such as 30m, 12h, 7d", param, ctx)
        return moment.timestamp()


_OPTIONS: Final = (
    click.option("--state", type=click.Choice(STATES), help="Only events in this state."),
    click.option("--type", "event_type", help="Only events of this type, such as SIM/Updated."),
    click.option("--subscriber", "resource", help="Only this subscriber's events, such as i_account:1001 or 1001."),
    click.option("--since", type=_Time(), help="Accepted since: an ISO 8601 time, or an age such as 30m, 12h, 7d."),
    click.option("--until", type=_Time(), help="Accepted before: likewise."),
    click.option("--text", help="Only events with this text in their error or note."),
)


def _filtered(command: Decorated) -> Decorated:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_json = click.option("--json", "as_json", is_flag=True, help="JSON lines instead of a table.")
_limit = click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")


@click.group()
def events() -> None:
    """Look at what became of events."""


@events.command("list")
@_filtered
@_limit
@_json
def list_events(limit: int, as_json: bool, **wanted: Any) -> None:
    """List events, the newest first."""
    with _history() as past:
        found = past.ask(Find(Filter(**wanted), limit))
    if as_json:
        _print_lines(found)
        return
    table = _table("event id", "type", "subscriber", "state", "accepted", "attempts", "next try", "reason")
    for each in found:
        row = (
            each.event_id,
            each.event_type,
            _names(each.resources),
            each.state,
            _when(each.accepted_at),
            str(each.attempts),
        )
        table.add_row(*row, _when(each.due), _plain(each.reason))
    _console().print(table if found else "no such events")


@events.command("show")
@click.argument("event_id")
@click.option("--unmask", is_flag=True, help="Show personal fields.")
@_json
def show_event(event_id: str, unmask: bool, as_json: bool) -> None:
    """Show all that is known of one event: series of attempts, errors, trace ids, the body."""
    with _history() as past:
        series = past.ask(SeriesOf(event_id))
        if not series:
            raise click.ClickException(f"{event_id} is not known, or is no longer kept")
        attempts = {each.seq: past.ask(AttemptsOf(each.seq)) for each in series}
        body = document_of(past.ask(BodyOf(series[0].seq)))
    document = body if unmask else redact(body)
    if as_json:
        found = [msgspec.to_builtins(each) | {"failed_attempts": attempts[each.seq]} for each in series]
        _print_lines([{"series": found, "body": document}])
        return
    console = _console()
    for each in series:
        facts = Table.grid(padding=(0, 2))
        for name, value in msgspec.to_builtins(each).items():
            is_time = name in {"accepted_at", "ended_at", "due"}
            facts.add_row(name, _when(value) if is_time else _plain(str("-" if value in (None, "") else value)))
        console.print(facts)
        for failed in attempts[each.seq]:
            console.print(
                f"  attempt {failed.attempt}  {_when(failed.ended_at)}  {failed.ms} ms  {_plain(failed.reason)}"
            )
        console.print()
    console.print_json(data=document)


@click.command()
@click.argument("event_ids", nargs=-1)
@_filtered
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many by filter.")
@click.option("--rate", type=click.FloatRange(0.1), help="Events a second; as fast as it goes if not given.")
@click.option("--dry-run", is_flag=True, help="Only say which events.")
def replay(event_ids: Sequence[str], limit: int, rate: float | None, dry_run: bool, **wanted: Any) -> None:
    """Handle events again: those named, or those that the options select. One that waits is tried now."""
    chosen = _choose(event_ids, wanted, limit)
    if dry_run:
        click.echo("\n".join(chosen))
        click.echo(f"{len(chosen)} events would be replayed", err=True)
        return
    size = BATCH if rate is None else 1
    for start in range(0, len(chosen), size):
        if rate is not None and start:
            time.sleep(1 / rate)
        _say(_send("replay", chosen[start : start + size]))


@click.command()
@click.argument("event_ids", nargs=-1)
@_filtered
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many by filter.")
@click.option("--dry-run", is_flag=True, help="Only say which events.")
def discard(event_ids: Sequence[str], limit: int, dry_run: bool, **wanted: Any) -> None:
    """Give events up: those named, or those that the options select. They end as ignored."""
    chosen = _choose(event_ids, wanted, limit)
    if dry_run:
        click.echo("\n".join(chosen))
        click.echo(f"{len(chosen)} events would be discarded", err=True)
        return
    for start in range(0, len(chosen), BATCH):
        _say(_send("discard", chosen[start : start + BATCH]))


@click.group(invoke_without_command=True)
@_limit
@_json
@click.pass_context
def lanes(context: click.Context, limit: int, as_json: bool) -> None:
    """List blocked subscribers, the longest blocked first; release or skip the event that blocks one."""
    if context.invoked_subcommand is not None:
        return
    with _history() as past:
        found = past.ask(FindBlocked(limit))
    if as_json:
        _print_lines(found)
        return
    table = _table("subscriber", "blocked by", "type", "state", "since", "next try", "attempts", "behind", "reason")
    for each in found:
        row = (_names(each.resources), each.event_id, each.event_type, each.state, _when(each.since), _when(each.due))
        table.add_row(*row, str(each.attempts), str(each.behind), _plain(each.reason))
    _console().print(table if found else "no subscriber is blocked")


@lanes.command()
@click.argument("subscribers", nargs=-1, required=True)
def release(subscribers: Sequence[str]) -> None:
    """Try the event that blocks a subscriber now."""
    _say(_send("release", list(subscribers)))


@lanes.command()
@click.argument("subscribers", nargs=-1, required=True)
def skip(subscribers: Sequence[str]) -> None:
    """Give the event that blocks a subscriber up (it ends as dead), and go on with the next one."""
    _say(_send("skip", list(subscribers)))


@click.command()
def pause() -> None:
    """Stop handling events, also over a restart. Accepting goes on."""
    _say(_send("pause", []))


@click.command()
def resume() -> None:
    """Handle events again after a pause."""
    _say(_send("resume", []))


@click.command()
@_json
def stats(as_json: bool) -> None:
    """Count what is open and what has ended."""
    with _history() as past:
        found = past.ask(ReadStats())
    if as_json:
        _print_lines([found])
        return
    facts = Table.grid(padding=(0, 2))
    facts.add_row("delivery", "paused" if found.paused else "on")
    if away := found.target_away:
        facts.add_row("target", _plain(f"away since {_when(away.since)}: {away.reason}"))
    facts.add_row("oldest open event", _when(found.oldest_open_at))
    for title, counts in (("open now", found.open), ("in all", found.total)):
        facts.add_row(title)
        for name, count in counts.items():
            facts.add_row(f"  {name}", f"{count:,}")
    _console().print(facts)


_NO_TEXT: Final = "what was named is no UTF-8 text"

COMMANDS: Final = (events, replay, discard, lanes, pause, resume, stats)


def _choose(event_ids: Sequence[str], wanted: dict[str, Any], limit: int) -> list[str]:
    given = {name: value for name, value in wanted.items() if value is not None}
    if bool(event_ids) == bool(given):
        raise click.UsageError("name events, or select them by --state, --type, --subscriber, --since, --until, --text")
    if event_ids:
        return list(event_ids)
    with _history() as past:
        found = past.ask(Find(Filter(**given, latest=True), limit))
    return list(dict.fromkeys(each.event_id for each in reversed(found)))


@contextmanager
def _history() -> Iterator[Outside]:
    try:
        with engines.outside(Settings.load(environment())) as journal:
            yield journal
    except StartError as error:
        raise click.ClickException(str(error)) from None
    except UnicodeEncodeError:
        raise click.ClickException(_NO_TEXT) from None


def _send(verb: Verb, names: list[str]) -> CommandResult:
    log.configure("error")
    with _history() as journal:
        return journal.command(Command(verb, names))


def _say(answer: CommandResult) -> None:
    for name, result in answer.results.items():
        click.echo(f"{name}: {result}")


def _print_lines(rows: Sequence[Any]) -> None:
    for row in rows:
        click.echo(msgspec.json.encode(row))


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _console() -> Console:
    width = None if sys.stdout.isatty() else 200
    return Console(width=width, soft_wrap=False, markup=False, emoji=False, highlight=False)


def _names(resources: Sequence[str]) -> str:
    return " ".join(resources) or "-"


def _plain(text: str) -> str:
    """A text of somebody else's on one line, and without control of the terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _when(moment: float | None) -> str:
    return "-" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
