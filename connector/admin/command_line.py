"""The command line of ``admin.service``: what became of events, replay, discard, lanes, pause, resume, stats.

Each command reads its arguments, makes one call, and prints what comes back. They work beside a running connector and
on a stopped one, and know it by the same settings (JOURNAL_URL in the environment or ``.env``).
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from connector import log
from connector.admin.service import Acted, AdminService, Lanes, Selection, SeriesShown
from connector.errors import ConnectorError, StartError
from connector.events.times import parse_time
from connector.journal import engines
from connector.journal.queries import STATES, Filter
from connector.setting_values import seconds
from connector.settings import OF_JOURNAL, Settings, environment, only

EXIT_UNKNOWN: Final = 1
"""Exit code where a name that was given is not known."""

TIMES: Final = frozenset({"accepted_at", "ended_at", "due", "since", "oldest_open_at"})

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Result = TypeVar("Result")


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
        if parse_time(f"{value.strip()}Z") is not None:
            click.echo(f"{value} names no time zone; taken as UTC: {_when(moment.timestamp())}", err=True)
        return moment.timestamp()


_OPTIONS: Final = (
    click.option("--state", type=click.Choice(STATES), help="Only events in this state."),
    click.option("--type", "event_type", help="Only events of this type, such as SIM/Updated."),
    click.option("--id", "id_begins", help="Only the event of this id, or all whose ids begin so."),
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


@click.group(help="Look at what became of events.")
def events() -> None:
    """The group alone does nothing."""


@events.command("list", help="List events, the newest first.")
@_filtered
@_limit
@_json
def list_events(limit: int, as_json: bool, **wanted: Any) -> None:
    found = _call(lambda admin: admin.list(Filter(**wanted), limit))
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
    if not found:
        click.echo(_nothing_found(wanted))
        return
    _console().print(table)


@events.command("show", help="Show all that is known of one event: series of attempts, errors, trace ids, the body.")
@click.argument("event_id")
@click.option("--unmask", is_flag=True, help="Show personal fields.")
@_json
def show_event(event_id: str, unmask: bool, as_json: bool) -> None:
    shown = _call(lambda admin: admin.show(event_id, unmask=unmask))
    if as_json:
        series = [msgspec.to_builtins(each.series) | _tried(each) for each in shown.series]
        _print_lines([{"series": series, "body": shown.body}])
        return
    console = _console()
    for each in shown.series:
        _print_series(console, each)
    console.print_json(data=shown.body)


def _tried(shown: SeriesShown) -> dict[str, Any]:
    """What has been tried: the handlers' steps only where the type has several handlers."""
    tried = {"failed_attempts": msgspec.to_builtins(shown.failed_attempts)}
    return tried | ({"steps": msgspec.to_builtins(shown.steps)} if shown.steps else {})


def _print_series(console: Console, shown: SeriesShown) -> None:
    facts = Table.grid(padding=(0, 2))
    for name, value in msgspec.to_builtins(shown.series).items():
        is_time = name in {"accepted_at", "ended_at", "due"}
        facts.add_row(name, _when(value) if is_time else _plain(str("-" if value in (None, "") else value)))
    console.print(facts)
    for failed in shown.failed_attempts:
        console.print(f"  attempt {failed.attempt}  {_when(failed.ended_at)}  {failed.ms} ms  {_plain(failed.reason)}")
    for step in shown.steps:
        console.print(f"  handler {_plain(step.handler)}  {step.state}  {step.ms} ms  {_plain(step.reason)}")
    console.print()


@click.command(
    help=(
        "Handle events again: those named, or those that the options select, in the order in which they were accepted."
        "\n\nOne that waits is tried now. Options without --state select dead events only."
    )
)
@click.argument("event_ids", nargs=-1)
@_filtered
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many by filter.")
@click.option("--rate", type=click.FloatRange(0.1), help="Events a second; as fast as it goes if not given.")
@click.option("--all-handlers", is_flag=True, help="Of a dead event also the handlers that ended well.")
@click.option("--dry-run", is_flag=True, help="Only say which events.")
def replay(
    event_ids: Sequence[str], limit: int, rate: float | None, all_handlers: bool, dry_run: bool, **wanted: Any
) -> None:
    chosen = _choose(event_ids, wanted, limit)
    if dry_run:
        _print_chosen(chosen, "replayed")
    else:
        _act(chosen, lambda admin: admin.replay(chosen, all_handlers=all_handlers, rate=rate))


@click.command(
    help=(
        "Give events up: those named, or those that the options select, dead ones without --state. They end as ignored."
    )
)
@click.argument("event_ids", nargs=-1)
@_filtered
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many by filter.")
@click.option("--dry-run", is_flag=True, help="Only say which events.")
def discard(event_ids: Sequence[str], limit: int, dry_run: bool, **wanted: Any) -> None:
    chosen = _choose(event_ids, wanted, limit)
    if dry_run:
        _print_chosen(chosen, "discarded")
    else:
        _act(chosen, lambda admin: admin.discard(chosen))


@click.group(
    invoke_without_command=True,
    help=("List blocked subscribers, the longest blocked first; release or skip the event that blocks one."),
)
@_limit
@_json
@click.pass_context
def lanes(context: click.Context, limit: int, as_json: bool) -> None:
    if context.invoked_subcommand is not None:
        return
    found = _call(lambda admin: admin.lanes(limit))
    if as_json:
        _print_lines(found.blocked)
        return
    table = _table("subscriber", "blocked by", "type", "state", "since", "next try", "attempts", "behind", "reason")
    for each in found.blocked:
        row = (_names(each.resources), each.event_id, each.event_type, each.state, _when(each.since), _when(each.due))
        table.add_row(*row, str(each.attempts), str(each.behind), _plain(each.reason))
    if not found.blocked:
        click.echo(_nothing_blocked(found))
        return
    _console().print(table)


@lanes.command(help="Try the event that blocks a subscriber now.")
@click.argument("subscribers", nargs=-1, required=True)
def release(subscribers: Sequence[str]) -> None:
    _print_acted(_call(lambda admin: admin.release(subscribers)))


@lanes.command(help="Give the event that blocks a subscriber up (it ends as dead), and go on with the next one.")
@click.argument("subscribers", nargs=-1, required=True)
def skip(subscribers: Sequence[str]) -> None:
    _print_acted(_call(lambda admin: admin.skip(subscribers)))


@click.group(help="What was applied last, by handlers that apply the newest snapshot only.")
def newest() -> None:
    pass


@newest.command(help="Forget what was applied last to a subscriber: its next event is run whatever its times say.")
@click.argument("subscribers", nargs=-1, required=True)
def clear(subscribers: Sequence[str]) -> None:
    _print_acted(_call(lambda admin: admin.clear_newest(subscribers)))


@click.command(help="Stop handling events, also over a restart. Accepting goes on.")
def pause() -> None:
    _print_acted(_call(lambda admin: admin.pause()))


@click.command(help="Handle events again after a pause.")
def resume() -> None:
    _print_acted(_call(lambda admin: admin.resume()))


@click.command(help="Count what is open and what has ended.")
@_json
def stats(as_json: bool) -> None:
    found = _call(lambda admin: admin.stats())
    if as_json:
        _print_lines([found])
        return
    facts = Table.grid(padding=(0, 2))
    facts.add_row("delivery", "paused" if found.paused else "on")
    if target := found.target_away:
        facts.add_row("target", _plain(f"unavailable since {_when(target.since)}: {target.reason}"))
    facts.add_row("oldest open event", _when(found.oldest_open_at))
    for title, counts in (("open now", found.open), ("in all", found.total)):
        facts.add_row(title)
        for name, count in counts.items():
            facts.add_row(f"  {name}", f"{count:,}")
    _console().print(facts)


COMMANDS: Final = (events, replay, discard, lanes, newest, pause, resume, stats)


def _call(call: Callable[[AdminService], Coroutine[Any, Any, Result]]) -> Result:
    """What one call of the service gives, on the journal that the settings name; its errors as click shows them."""
    log.configure("error")

    async def run() -> Result:
        with engines.outside(Settings.load(only(environment(), *OF_JOURNAL))) as journal:
            return await call(AdminService(journal))

    try:
        return asyncio.run(run())
    except StartError as error:
        raise click.ClickException(str(error)) from None
    except ConnectorError as error:
        raise click.ClickException(error.error) from None


def _choose(event_ids: Sequence[str], wanted: dict[str, Any], limit: int) -> Sequence[str] | Selection:
    """The events that are named, or what the options select."""
    selects = any(value is not None for value in wanted.values())
    if bool(event_ids) == selects:
        raise click.UsageError(
            "name events, or select them by --state, --type, --id, --subscriber, --since, --until, --text"
        )
    return _call(lambda admin: admin.select(Filter(**wanted), limit)) if selects else event_ids


def _print_chosen(chosen: Sequence[str] | Selection, would_be: str) -> None:
    """What ``--dry-run`` says: the ids, and on stderr how many would be replayed or discarded."""
    if not isinstance(chosen, Selection):
        click.echo("\n".join(chosen))
        click.echo(f"{len(chosen)} event ids would be {would_be}", err=True)
        return
    click.echo("\n".join(each.event_id for each in chosen.events))
    kinds = ", ".join(f"{kind}: {count}" for kind, count in chosen.counts.items()) or "none"
    count = f"{len(chosen.events)} events would be {would_be}, {chosen.left} left"
    click.echo(f"{count} (selected: {_plain(kinds)})", err=True)


def _act(chosen: Sequence[str] | Selection, act: Callable[[AdminService], AsyncIterator[Acted]]) -> None:
    """Print what becomes of each event as soon as it is known."""

    async def print_each(admin: AdminService) -> bool:
        all_known = True
        async for acted in act(admin):
            _print_one(acted)
            all_known &= acted.known
        return all_known

    known = _call(print_each)
    if isinstance(chosen, Selection):
        click.echo(f"{len(chosen.events)} events named, {chosen.left} left that the options select", err=True)
    elif not known:
        sys.exit(EXIT_UNKNOWN)


def _print_acted(acted: Sequence[Acted]) -> None:
    """Print what became of each name. Exit code 1 where one is not known."""
    for each in acted:
        _print_one(each)
    if not all(each.known for each in acted):
        sys.exit(EXIT_UNKNOWN)


def _print_one(acted: Acted) -> None:
    click.echo(f"{_plain(acted.name)}: {acted.result}")


def _nothing_found(wanted: dict[str, Any]) -> str:
    """What was looked for, so that nobody reads "none found" as "never came"."""
    times = ("since", "until")
    given = [
        f"{n.removesuffix('_begins')}={_when(v) if n in times else _plain(str(v))}"
        for n, v in wanted.items()
        if v is not None
    ]
    return f"no such events among those that are kept ({', '.join(given) or 'all were looked at'})"


def _nothing_blocked(found: Lanes) -> str:
    held = "; delivery is paused by an operator" if found.paused else ""
    if found.target_away:
        held += f"; the target is unavailable: {_plain(found.target_away.reason)}"
    return f"no subscriber is blocked by an event of its own{held}"


def _print_lines(rows: Sequence[Any]) -> None:
    for row in rows:
        click.echo(msgspec.json.encode(_with_times(msgspec.to_builtins(row))))


def _with_times(value: Any) -> Any:
    """A copy in which each time in seconds has its ISO 8601 form beside it."""
    if isinstance(value, list | tuple):
        return [_with_times(each) for each in value]
    if not isinstance(value, dict):
        return value
    copy: dict[str, Any] = {}
    for name, each in value.items():
        copy[name] = _with_times(each)
        if name in TIMES and isinstance(each, int | float):
            copy[f"{name}_iso"] = _when(each)
    return copy


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
    if moment is None:
        return "-"
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):  # the row of the journal is damaged
        return "?"
