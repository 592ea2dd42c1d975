"""``python -m connector check``: whether the connector of these settings would start and reach its systems.

A line a fact: what was looked at, ``ok``, ``note``, ``WARN`` or ``FAIL``, and what was found. Nothing is changed: the
journal is read and not opened as its owner, no event is handled, and a target gets one HEAD request. With ``--send``
one event is run through the handlers, see ``send``.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple

import click

from connector import external, handlers, log
from connector.admin.send import send
from connector.admin.service import AdminService
from connector.errors import ConnectorError, StartError
from connector.events.schema import Schema
from connector.external import Target, TargetFailed, Targets
from connector.external.urls import without_secrets
from connector.handlers import Handlers
from connector.journal import engines
from connector.setting_values import seconds
from connector.settings import Settings, environment, warnings

EXIT_NO_START: Final = 2
"""Exit code where a start with these settings and handlers would fail."""

EXIT_NOT_WELL: Final = 1
"""Exit code where it would start, and an external system could not be used; with --send: the event did not end well."""

REST_SECONDS: Final = 3.0
"""Seconds of a stop beside DRAIN_DELAY and DRAIN_TIMEOUT, for the answers under way and the journal's last commit."""

Mark = Literal["ok", "note", "WARN", "FAIL"]


class Line(NamedTuple):
    """One fact. ``stops`` says that the connector would not start."""

    about: str
    mark: Mark
    text: str
    stops: bool = False

    def __str__(self) -> str:
        return f"{self.about:<9} {self.mark:<4}  {self.text}"


@click.command(
    "check",
    help="Check settings, handlers, mapping, journal and targets: a line each, and an exit code. 0: all is well. 1: it "
    "would start, and an external system could not be used. 2: it would not start.",
)
@click.option("--offline", is_flag=True, help="Ask nothing of other machines (for CI, and while an image is built).")
@click.option("--grace", help="How long this place waits at a stop, such as 10s: does what a stop needs fit in it?")
@click.option(
    "--send", "event_file", metavar="EVENT.json", type=click.Path(path_type=Path),
    help="Run the event in this file through the handlers, without journal or server; show each call.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="With --send: no call leaves this machine; each is answered with 200.")
def check(*, offline: bool, grace: str | None, event_file: Path | None, dry_run: bool) -> None:
    log.configure("critical")
    if grace is not None and seconds(grace) is None:
        raise click.BadParameter(f"{grace!r} is no time such as 10s", param_hint="--grace")
    if dry_run and event_file is None:
        raise click.UsageError("--dry-run says how --send is to be done")
    if event_file is not None:
        sys.exit(_send(event_file, dry_run=dry_run))
    worst = 0
    for line in lines(offline=offline, grace=None if grace is None else seconds(grace)):
        click.echo(str(line))
        if line.mark == "FAIL":
            worst = max(worst, EXIT_NO_START if line.stops else EXIT_NOT_WELL)
    sys.exit(worst)


def lines(*, offline: bool = False, grace: float | None = None) -> Iterator[Line]:
    """What there is to say. ``grace``: the seconds that this place gives at a stop."""
    try:
        given = environment()
        settings = Settings.load(given)
    except StartError as error:
        yield from _failed("settings", error)
        return
    yield from _of_settings(settings, given)
    os.environ.update(given)  # a handler's own settings may stand in .env too
    yield from _of_handlers(settings)
    targets: Targets | None = None
    try:
        targets = Targets(settings)
        targets.check_hooks()
        yield from _of_mapping(targets)
    except StartError as error:
        yield from _failed("targets", error)
    yield from _of_journal(settings)
    if grace is not None:
        yield _of_grace(settings, grace)
    if targets is not None:
        yield from _offline(targets) if offline else asyncio.run(_of_targets(targets))


def _failed(about: str, error: StartError) -> Iterator[Line]:
    for line in str(error).splitlines():
        yield Line(about, "FAIL", line, stops=True)


def _of_settings(settings: Settings, given: dict[str, str]) -> Iterator[Line]:
    scheme = "https" if settings.tls_cert_file else "http"
    where = f"{scheme}://{settings.host}:{settings.port}{settings.event_path}"
    yield Line("settings", "ok", f"takes events at {where}, answers {settings.response}")
    if not settings.api_token:
        yield Line("settings", "WARN", "API_TOKEN is not set: each start would make one of its own")
    for warning in warnings(settings, given):
        yield Line("settings", "WARN", warning)


def _of_handlers(settings: Settings) -> Iterator[Line]:
    try:
        found = handlers.load(settings.handlers)
    except StartError as error:
        yield from _failed("handlers", error)
        return
    schema = Schema(settings.required_fields, settings.order_by, found.require)
    for each in found.all:
        needs = f", requires {', '.join(each.require)}" if each.require else ""
        skips = f", skips without {', '.join(each.skip_unless)}" if each.skip_unless else ""
        newest = ", newest state only" if each.latest_only else ""
        yield Line("handlers", "ok", f"{each.name} takes {', '.join(each.types)}{needs}{skips}{newest} ({each.place})")
    for hook in found.hooks:
        yield Line("handlers", "ok", f"{hook.name} runs at the {hook.when} ({hook.place})")
    for warning in [*found.warnings, *schema.warnings]:
        yield Line("handlers", "WARN", warning)


def _of_mapping(targets: Targets) -> Iterator[Line]:
    mappings = [each.mapping for each in targets.all.values() if each.mapping is not None]
    if mappings:
        yield Line("mapping", "ok", "FORWARD_MAPPING is read")
    for warning in targets.mapping_warnings:
        yield Line("mapping", "WARN", warning)


def _of_journal(settings: Settings) -> Iterator[Line]:
    """The journal, read from outside: it may be that of a running connector."""
    path = settings.journal_path
    if settings.journal_url.startswith("memory:"):
        yield Line("journal", "WARN", "memory: events are lost at each stop")
        return
    if path is not None and not path.exists():
        there = next(folder for folder in path.parents if folder.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            yield Line("journal", "ok", f"{path} will be made")
        else:
            yield Line(
                "journal",
                "FAIL",
                f"{path} cannot be made: {there} is no folder in which this user may write",
                stops=True,
            )
        return
    try:
        with engines.outside(settings) as journal:
            stats = asyncio.run(AdminService(journal).stats())
    except StartError as error:
        yield from _failed("journal", error)
        return
    except ConnectorError as error:
        yield Line("journal", "FAIL", error.error, stops=True)
        return
    state = "paused, " if stats.paused else ""
    if path is not None and not os.access(path, os.W_OK):
        yield Line("journal", "FAIL", f"this user may not write {path}", stops=True)
    else:
        yield Line("journal", "ok", f"{path or 'the database'}: {state}{sum(stats.open.values())} open events")


def _of_grace(settings: Settings, grace: float) -> Line:
    needs = settings.drain_delay + settings.drain_timeout + REST_SECONDS
    if needs <= grace:
        return Line("grace", "ok", f"a stop takes up to {needs:g} s, and {grace:g} s are given")
    left = grace - settings.drain_delay - REST_SECONDS
    shorter = f"set DRAIN_TIMEOUT to at most {left:g}s" if left >= 0 else "give more"
    return Line(
        "grace", "WARN", f"a stop takes up to {needs:g} s, and {grace:g} s are given: {shorter}; "
        "what is cut off is handled after the next start",
    )  # fmt: skip


def _offline(targets: Targets) -> Iterator[Line]:
    for each in targets.all.values():
        yield Line("target", "note", f"{_who(each)} was not asked (--offline)")
    if not targets.all:
        yield Line("target", "note", "none is set")


async def _of_targets(targets: Targets) -> list[Line]:
    if not targets.all:
        return [Line("target", "note", "none is set")]
    async with external.running(targets):
        return [await _of_target(each) for each in targets.all.values()]


async def _of_target(target: Target) -> Line:
    """One HEAD request: whatever the target answers, it is there; 401 and 407 say that it does not know us."""
    started = time.monotonic()
    status, failure = 0, ""
    try:
        status = (await target.request("HEAD")).status
    except TargetFailed as failed:
        status, failure = failed.status or 0, str(failed)
        if not status:
            return Line("target", "FAIL", f"{_who(target)}: {failure}")
    answered = f"{_who(target)} answered {status} in {(time.monotonic() - started) * 1000:.0f} ms"
    login = target.settings.target_auth
    if status in (401, 407):
        return Line("target", "FAIL", f"{answered}: the login ({login}) is not taken")
    if status >= 500:
        return Line("target", "WARN", answered)
    if login == "none" or 200 <= status < 300:
        return Line("target", "ok", f"{answered}" + ("" if login == "none" else f", login ({login}) taken"))
    return Line("target", "ok", f"{answered}; login ({login}) not refused")


def _who(target: Target) -> str:
    return f"{target.name} {without_secrets(target.settings.target_url)}"


def _send(event_file: Path, *, dry_run: bool) -> int:
    try:
        given = environment()
        settings = Settings.load(given)
        os.environ.update(given)
        found: Handlers = handlers.load(settings.handlers)
        return asyncio.run(send(event_file, settings, found, click.echo, dry_run=dry_run))
    except StartError as error:
        for line in str(error).splitlines():
            click.echo(line, err=True)
        return EXIT_NO_START
