"""The operator's commands: what became of events, replay, discard, blocked subscribers, pause, resume, stats.

They read the journal file and leave commands in it, so they work beside a running connector and on a stopped one, and
know it by the same settings (JOURNAL_URL in the environment or ``.env``).
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar

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
from connector.journal.commands import NOT_KNOWN, NOTHING_OPEN, Command, CommandResult, Verb
from connector.journal.outside import Outside
from connector.journal.queries import (
    STATES,
    AttemptsOf,
    BodyOf,
    CountFound,
    Filter,
    Find,
    FindBlocked,
    ReadStats,
    Series,
    SeriesOf,
    Stats,
)
from connector.settings import Settings, environment, seconds

EXIT_UNKNOWN: Final = 1
"""Exit code where a name that was given is not known."""

TIMES: Final = frozenset({"accepted_at", "ended_at", "due", "since", "oldest_open_at"})

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
    if not found:
        click.echo(_nothing_found(wanted))
        return
    _console().print(table)


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
    """Handle events again: those named, or those that the options select, in the order in which they were accepted.

    One that waits is tried now. Options without --state select dead events only.
    """
    _act("replay", "replayed", event_ids, wanted, limit, rate, dry_run=dry_run)


@click.command()
@click.argument("event_ids", nargs=-1)
@_filtered
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many by filter.")
@click.option("--dry-run", is_flag=True, help="Only say which events.")
def discard(event_ids: Sequence[str], limit: int, dry_run: bool, **wanted: Any) -> None:
    """Give events up: those named, or those that the options select, dead ones without --state. They end as ignored."""
    _act("discard", "discarded", event_ids, wanted, limit, None, dry_run=dry_run)


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
        state = past.ask(ReadStats())
    if as_json:
        _print_lines(found)
        return
    table = _table("subscriber", "blocked by", "type", "state", "since", "next try", "attempts", "behind", "reason")
    for each in found:
        row = (_names(each.resources), each.event_id, each.event_type, each.state, _when(each.since), _when(each.due))
        table.add_row(*row, str(each.attempts), str(each.behind), _plain(each.reason))
    if not found:
        click.echo(_nothing_blocked(state))
        return
    _console().print(table)


@lanes.command()
@click.argument("subscribers", nargs=-1, required=True)
def release(subscribers: Sequence[str]) -> None:
    """Try the event that blocks a subscriber now."""
    _say(_send("release", subscribers))


@lanes.command()
@click.argument("subscribers", nargs=-1, required=True)
def skip(subscribers: Sequence[str]) -> None:
    """Give the event that blocks a subscriber up (it ends as dead), and go on with the next one."""
    _say(_send("skip", subscribers))


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


def _act(
    verb: Literal["replay", "discard"],
    done: str,
    event_ids: Sequence[str],
    wanted: dict[str, Any],
    limit: int,
    rate: float | None,
    *,
    dry_run: bool,
) -> None:
    """Replay or discard: the events named, or what a filter selects, the first accepted first."""
    given = {name: value for name, value in wanted.items() if value is not None}
    if bool(event_ids) == bool(given):
        raise click.UsageError("name events, or select them by --state, --type, --subscriber, --since, --until, --text")
    if event_ids:
        if dry_run:
            click.echo("\n".join(event_ids))
            click.echo(f"{len(event_ids)} event ids would be {done}", err=True)
            return
        for start in range(0, len(event_ids), _step(rate)):
            _pause(rate, start)
            _say(_send(verb, event_ids[start : start + _step(rate)]))
        return
    chosen, counts = _choose(given, limit)
    left = sum(counts.values()) - len(chosen)
    if dry_run:
        click.echo("\n".join(each.event_id for each in chosen))
        kinds = ", ".join(f"{kind}: {count}" for kind, count in counts.items()) or "none"
        click.echo(f"{len(chosen)} events would be {done}, {left} left (selected: {_plain(kinds)})", err=True)
        return
    for start in range(0, len(chosen), _step(rate)):
        _pause(rate, start)
        part = {each.seq: each.event_id for each in chosen[start : start + _step(rate)]}
        for seq, result in _send(verb, (), list(part)).results.items():
            click.echo(f"{_plain(part[int(seq)])}: {result}")
    click.echo(f"{len(chosen)} events named, {left} left that the options select", err=True)


def _choose(given: dict[str, Any], limit: int) -> tuple[list[Series], dict[str, int]]:
    """The first accepted of what a filter selects, and how many it selects in all, by type and state."""
    wanted = Filter(**({"state": "dead"} | given), latest=True)
    with _history() as past:
        return past.ask(Find(wanted, limit, oldest_first=True)), past.ask(CountFound(wanted))


def _step(rate: float | None) -> int:
    return BATCH if rate is None else 1


def _pause(rate: float | None, done: int) -> None:
    if rate is not None and done:
        time.sleep(1 / rate)


def _nothing_found(wanted: dict[str, Any]) -> str:
    """What was looked for, so that nobody reads "none found" as "never came"."""
    times = ("since", "until")
    given = [f"{n}={_when(v) if n in times else _plain(str(v))}" for n, v in wanted.items() if v is not None]
    return f"no such events among those that are kept ({', '.join(given) or 'all were looked at'})"


def _nothing_blocked(state: Stats) -> str:
    held = "; delivery is paused by an operator" if state.paused else ""
    if state.target_away:
        held += f"; the target is unavailable: {_plain(state.target_away.reason)}"
    return f"no subscriber is blocked by an event of its own{held}"


@contextmanager
def _history() -> Iterator[Outside]:
    try:
        with engines.outside(Settings.load(environment())) as journal:
            yield journal
    except StartError as error:
        raise click.ClickException(str(error)) from None
    except UnicodeEncodeError:
        raise click.ClickException(_NO_TEXT) from None


def _send(verb: Verb, names: Sequence[str], seqs: Sequence[int] = ()) -> CommandResult:
    log.configure("error")
    with _history() as journal:
        return journal.command(Command(verb, list(names), seqs=list(seqs)))


def _say(answer: CommandResult) -> None:
    """Print what became of each name. Exit code 1 where one is not known."""
    for name, result in answer.results.items():
        click.echo(f"{_plain(name)}: {result}")
    if any(result in (NOT_KNOWN, NOTHING_OPEN) for result in answer.results.values()):
        sys.exit(EXIT_UNKNOWN)


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
    return "-" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
