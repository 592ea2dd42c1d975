"""`nsps-simulator run`: load a connector, make faults, and judge what it does."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import shlex
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from nsps_simulator.command import values
from nsps_simulator.command.grouped import GroupedCommand, option
from nsps_simulator.judging import requirements
from nsps_simulator.judging.ledger import BROKE, CLEAN, Promises
from nsps_simulator.reporting import page, report
from nsps_simulator.reporting.terminal import print_summary
from nsps_simulator.running import faults as making
from nsps_simulator.running.conduct import CannotRun, Outcome, Setting, conduct
from nsps_simulator.running.progress import Progress, Show
from nsps_simulator.sending import profile as plans
from nsps_simulator.sending.profile import EVEN, POISSON, Plan, Segment
from nsps_simulator.sending.scenario import RANDOM, SUBSCRIBER, Scenario
from nsps_simulator.target import DOWN, Mood
from nsps_simulator.wire.bodies import read_mapping
from nsps_simulator.wire.chaos import MIXED, Chaos
from nsps_simulator.wire.endpoint import Endpoint, Tls, endpoint
from nsps_simulator.wire.population import BILL_RUN, LIFE, LIMIT, ROLES
from nsps_simulator.wire.retry import read_gaps

PER_PROCESS = 10_000.0  # events per second that one generator process surely keeps up
MOST_EVENTS = 50_000_000  # of one run: the ledger takes some 60 bytes of memory for each
CLOSED_LIMIT = 60_000  # events per second that no generator process exceeds: bounds the plan of a closed loop
PROFILES = ("steady", "ramp", "burst", "bill-run")
SHARE = click.FloatRange(0, 1)
FILE = click.Path(dir_okay=False, writable=True, path_type=Path)
INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)
EXIT_CODES = "0 clean, 1 a promise was broken, 2 bad options, 3 no verdict, 4 clean, but a --require was missed"

WHERE, LOAD, PEOPLE, DELIVERY = "The connector", "The load", "The subscribers", "How NSPS delivers"
TROUBLES, TARGET, FAULTS, JUDGING, REPORT = "Troubles", "The external system", "Faults", "The verdict", "The report"

EXAMPLES = """
a connector that forwards to 127.0.0.1:4010, for half a minute:
  nsps-simulator run --url http://127.0.0.1:3000 --token made-up --rate 200 --html run.html
start it here, kill it twice, and want answers in time:
  nsps-simulator run --url http://127.0.0.1:3000 --token made-up --connector "python run.py" \\
      --kill-at 10,20 --chaos --require 'p99<200ms' --require 'rate>150'
two replicas, one of them suspended for five seconds, the target slow after that:
  nsps-simulator run --url http://127.0.0.1:3001,http://127.0.0.1:3002 --token made-up \\
      --fault stop#1@10-15 --fault target-slow@15-25:2 --connector "python run.py" --connector "python run.py"
as fast as 64 connections go:
  nsps-simulator run --url http://127.0.0.1:3000 --token made-up --closed 64 --duration 15
"""


def _read_scenario(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Take the options of a TOML file as defaults; tables are headings only. Raises click.UsageError."""
    if path is None:
        return
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{path} is not a scenario: {error}") from error
    options = [one for one in context.command.params if isinstance(one, click.Option)]
    known = {written.removeprefix("--"): one for one in options for written in one.opts}
    chosen: dict[str, Any] = {}
    for name, value in _flat(written):
        parameter = known.get(name.replace("_", "-"))
        if parameter is None or name == "scenario":
            raise click.UsageError(f"{path}: there is no option {name!r}")
        items = value if isinstance(value, list) else [value]
        single = value if not isinstance(value, list) else ",".join(map(str, items))
        chosen[parameter.name or ""] = items if parameter.multiple else single
    context.default_map = {**(context.default_map or {}), **chosen}


def _flat(table: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        found += _flat(value) if isinstance(value, dict) else [(name, value)]
    return found


@click.command(
    name="run",
    cls=GroupedCommand,
    examples=EXAMPLES,
    context_settings={"show_default": True, "max_content_width": 110},
    help=f"Be NSPS: send events to a connector, and judge what became of them.\n\nExit codes: {EXIT_CODES}.",
)
@option(WHERE, "--url", help="Where it listens; without a path, /process-event. Several, by commas: its replicas.")
@option(WHERE, "--token", envvar="API_TOKEN", help="The Bearer token it wants. Also read from API_TOKEN.")
@option(WHERE, "--spread", type=click.Choice([RANDOM, SUBSCRIBER]), default=RANDOM, help="How replicas are picked.")
@option(WHERE, "--ca", type=INPUT, help="The certificate authority (PEM) of an https:// address.")
@option(WHERE, "--insecure", is_flag=True, help="Do not check the certificate.")
@option(
    WHERE,
    "--connector",
    "connectors",
    metavar="COMMAND",
    multiple=True,
    help="Start the connector; it gets API_TOKEN, HOST, PORT and TARGET_URL. Several times: a replica for each --url.",
)
@option(WHERE, "--connector-log", type=FILE, default="connector.log", help="What the connector prints.")
@option(
    WHERE,
    "--open-events",
    metavar="URL|COMMAND",
    help="Says how many accepted events are open: then none is waited for in vain, and none is lost unseen.",
)
@option(
    LOAD,
    "--scenario",
    type=INPUT,
    is_eager=True,
    expose_value=False,
    callback=_read_scenario,
    help="Options in a TOML file; those of the command line win.",
)
@option(LOAD, "--profile", default="steady", metavar="NAME|FILE", help=f"One of {', '.join(PROFILES)}, or a JSON file.")
@option(LOAD, "--rate", type=click.FloatRange(0.01, 1e6), default=100.0, help="Events per second, at its height.")
@option(LOAD, "--duration", type=click.FloatRange(0.1, 1e7), default=30.0, help="Seconds in which events leave.")
@option(
    LOAD,
    "--events",
    type=click.IntRange(1, MOST_EVENTS),
    help="How many events, instead of a duration.  [default for bill-run: 10000]",
)
@option(
    LOAD,
    "--arrivals",
    type=click.Choice([POISSON, EVEN]),
    default=POISSON,
    help="At random moments, as of many subscribers, or at equal distances.",
)
@option(
    LOAD,
    "--closed",
    type=click.IntRange(0, 10_000),
    default=0,
    help="Closed loop: so many connections, as fast as they go.",
)
@option(
    LOAD, "--processes", type=click.IntRange(0, 64), default=0, help="Generator processes; 0 takes what the rate needs."
)
@option(
    LOAD,
    "--connections",
    type=click.IntRange(1, 60_000),
    default=500,
    help="Open connections at the most, per process and replica.",
)
@option(
    LOAD,
    "--precise",
    is_flag=True,
    help="Let events leave on the microsecond; it keeps a core busy, so only where there is one to spare.",
)
@option(LOAD, "--seed", type=int, help="The same seed gives the same events at the same times.  [default: drawn]")
@option(PEOPLE, "--subscribers", type=click.IntRange(1, LIMIT), default=100_000, help="The population.")
@option(PEOPLE, "--episode", type=click.IntRange(1, 1000), default=4, help="Events in a row for one subscriber.")
@option(
    PEOPLE, "--cohort", type=click.IntRange(1, 100_000), default=256, help="Subscribers whose events are interleaved."
)
@option(
    PEOPLE,
    "--perl",
    type=SHARE,
    default=0.0,
    help='Share of subscribers whose events have Perl\'s types: numbers as strings, "Y" and "N".',
)
@option(PEOPLE, "--only", type=click.IntRange(0), help="Send the events of this subscriber alone, at their times.")
@option(
    DELIVERY,
    "--time-scale",
    type=click.FloatRange(0.001, 1e6),
    default=60.0,
    help="How much faster than life NSPS retries; 1440: a day in a minute.",
)
@option(
    DELIVERY,
    "--retries",
    type=values.Read("gaps", read_gaps),
    default="guide",
    help="The gaps between attempts: guide (100 in a day, 1 to 10 minutes), none, or such as 1m,2m,10m*90,1h*8.",
)
@option(
    DELIVERY, "--timeout", type=click.FloatRange(0.01, 3600), default=30.0, help="Seconds until an answer is given up."
)
@option(
    DELIVERY,
    "--patience",
    type=click.FloatRange(0, 1e7),
    default=60.0,
    help="Seconds after the last planned event in which retries go on.",
)
@option(TROUBLES, "--chaos", is_flag=True, help="A bit of every trouble below.")
@option(TROUBLES, "--cut", type=SHARE, help="Share of events whose connection is cut before the answer.")
@option(TROUBLES, "--slow", type=SHARE, help="Share of events whose body trickles in.")
@option(TROUBLES, "--wrong-token", type=SHARE, help="Share of events that come with a wrong token first.")
@option(TROUBLES, "--garbage", type=SHARE, help="Share of events that bring a burst of garbage along.")
@option(TARGET, "--target", type=values.ADDRESS, default="127.0.0.1:4010", help="Where the stand-in listens.")
@option(TARGET, "--no-target", is_flag=True, help="The connector tells nobody: judge its answers alone.")
@option(
    TARGET,
    "--target-latency",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="Seconds it takes to answer, on average.",
)
@option(
    TARGET,
    "--target-rate",
    type=click.FloatRange(0, 1e6),
    default=0.0,
    help="Answers per second at the most; 0: no limit.",
)
@option(
    TARGET,
    "--target-flaky",
    type=SHARE,
    default=0.0,
    help="Share of calls that it refuses, until the last event has left.",
)
@option(TARGET, "--target-down", type=values.STRETCHES, help="Seconds in which it is away, such as 10-20,35-40.")
@option(TARGET, "--mapping", type=INPUT, help="What the bodies are made of, where they are not the event as it came.")
@option(TARGET, "--any-body", is_flag=True, help="Do not compare bodies.")
@option(
    FAULTS,
    "--fault",
    "faults",
    type=values.Read("fault", making.read_fault),
    multiple=True,
    help="KIND[#REPLICA]@FROM[-TO][:VALUE], with the kinds " + ", ".join(making.WORDS) + ".",
)
@option(FAULTS, "--kill-at", type=values.SECONDS, help="Seconds at which it is killed, such as 5,12.5.")
@option(FAULTS, "--kill-every", type=click.FloatRange(0.1), help="Kill it every so many seconds while events leave.")
@option(FAULTS, "--kill-pause", type=click.FloatRange(0), default=0.5, help="Seconds until it is started again.")
@option(
    FAULTS,
    "--database",
    type=values.RELAY,
    metavar="LISTEN=UPSTREAM",
    help="A relay before the connector's database, for cut-database and delay-database.",
)
@option(
    JUDGING,
    "--require",
    type=str,
    multiple=True,
    metavar="FIGURE<VALUE",
    help="A threshold such as p99<200ms or rate>2000; `nsps-simulator figures` lists the figures.",
)
@option(
    JUDGING,
    "--order-by",
    type=values.Read("roles", values.roles(ROLES)),
    default="+".join(ROLES),
    help="Resources by which order is judged.",
)
@option(JUDGING, "--newest-wins", is_flag=True, help="It promises never to apply an older state over a newer one.")
@option(
    JUDGING,
    "--settle",
    type=click.FloatRange(0.1, 1e6),
    default=15.0,
    help="Seconds without a call after which it has finished.",
)
@option(
    JUDGING,
    "--retry-wait",
    type=click.FloatRange(0.1, 1e6),
    default=120.0,
    help="The same while events wait for its own next attempt: as long as its longest wait.",
)
@option(
    JUDGING,
    "--give-up-after",
    type=click.IntRange(1),
    default=5,
    help="Refused calls after which it may give an event up.",
)
@option(REPORT, "--json", "json_file", type=FILE, help="Write the report for machines.")
@option(REPORT, "--html", "html_file", type=FILE, help="Write the report as a page.")
@option(REPORT, "--ledger", "ledger_file", type=FILE, help="Write a line of JSON for each event.")
@option(REPORT, "--quiet", is_flag=True, help="No progress.")
def run(**options: Any) -> None:
    """Carry out a run, and end with its exit code."""
    if options["seed"] is None:
        options["seed"] = secrets.randbits(31)
    setting = setting_of(options)
    wanted = [_requirement(text) for text in options["require"]]
    for name in ("json_file", "html_file", "ledger_file", "connector_log"):
        if options[name] is not None and not options[name].absolute().parent.is_dir():
            raise click.UsageError(f"there is no folder {options[name].parent} for {options[name].name}")
    console = Console(stderr=False)
    if not options["quiet"]:
        console.print(f"seed {options['seed']}", style="dim", highlight=False)
    try:
        closed = setting.scenario.closed
        planned = None if closed else setting.scenario.plan.events
        with Show(console, planned, setting.scenario.closed_seconds, quiet=options["quiet"]) as show:
            outcome = asyncio.run(conduct(setting, _watcher(show)))
    except CannotRun as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(3)
    figures = report.figures(outcome)
    missed = [one for one in wanted if not one.met_by(figures)]
    print_summary(outcome, console, wanted, missed)
    _write(outcome, options, wanted, missed)
    sys.exit(_exit_code(outcome, missed=bool(missed)))


def _exit_code(outcome: Outcome, *, missed: bool) -> int:
    word = outcome.verdict.word
    if word == BROKE:
        return 1
    if word != CLEAN:
        return 3
    return 4 if missed else 0


def _write(
    outcome: Outcome,
    options: dict[str, Any],
    wanted: list[requirements.Requirement],
    missed: list[requirements.Requirement],
) -> None:
    """Write the files of the report. The verdict has been printed: a full disk costs a file, no verdict."""
    about = report.About.now(command_line(options), wanted, missed)
    writers: dict[str, Callable[[Path], None]] = {
        "json_file": lambda path: report.write_json(outcome, path, about),
        "html_file": lambda path: page.write_page(outcome, path, about),
        "ledger_file": lambda path: report.write_ledger(outcome, path),
    }
    for name, write in writers.items():
        if options[name] is not None:
            try:
                write(options[name])
            except OSError as error:
                click.echo(f"Error: cannot write {options[name]}: {error.strerror or error}", err=True)


def command_line(options: dict[str, Any]) -> str:
    """Give the command line that does this run again, without the token."""
    words = [word for word in sys.argv[1:] if word != "run"]
    shown, hidden = [], False
    for word in words:
        if hidden:
            word, hidden = "***", False
        elif word == "--token":
            hidden = True
        elif word.startswith("--token="):
            word = "--token=***"
        shown.append(word)
    if "--seed" not in words and not any(word.startswith("--seed=") for word in words):
        shown += ["--seed", str(options["seed"])]
    return shlex.join(["nsps-simulator", "run", *shown]).replace("'***'", "***")


def _requirement(text: str) -> requirements.Requirement:
    try:
        return requirements.read(text, report.FIGURES)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _watcher(show: Show) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        show.update(progress)

    return watch


def setting_of(options: dict[str, Any]) -> Setting:
    """Turn options into a run. Raises click.UsageError that says what is wrong."""
    if not options["url"] or not options["token"]:
        raise click.UsageError("--url and --token are needed")
    _check_combinations(options)
    try:
        scenario = _scenario(options)
        scenario.population()
        commands = tuple(tuple(shlex.split(one)) for one in options["connectors"])
        faults = _faults(options, scenario)
        if options["mapping"] is not None:
            read_mapping(options["mapping"])
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return Setting(
        scenario=scenario,
        target=None if options["no_target"] else options["target"],
        mood=Mood(
            latency=options["target_latency"],
            rate=options["target_rate"],
            flaky=options["target_flaky"],
        ),
        mapping=options["mapping"],
        compared=not options["any_body"],
        settle=options["settle"],
        retry_wait=options["retry_wait"],
        open_events=options["open_events"],
        commands=commands,
        faults=faults,
        pause=options["kill_pause"],
        log=options["connector_log"],
        database=options["database"],
        promises=Promises(
            forwards=not options["no_target"],
            newest_wins=options["newest_wins"],
            give_up_after=options["give_up_after"],
        ),
        order_by=options["order_by"],
    )


def _check_combinations(options: dict[str, Any]) -> None:
    replicas = len(options["url"].split(","))
    if options["connectors"] and len(options["connectors"]) != replicas:
        raise click.UsageError(f"there are {len(options['connectors'])} --connector for {replicas} addresses in --url")
    ends = options["kill_at"] or options["kill_every"]
    if (ends or any(one.kind in making.OF_CONNECTOR for one in options["faults"])) and not options["connectors"]:
        raise click.UsageError("to be killed, the connector must be started here: --connector COMMAND")
    kinds = {one.kind for one in options["faults"]}
    if options["no_target"] and (
        options["target_down"] or options["newest_wins"] or options["mapping"] or kinds & making.OF_TARGET
    ):
        raise click.UsageError("--no-target goes with no other option about the target")
    if any(kind.endswith("-database") for kind in kinds) and options["database"] is None:
        raise click.UsageError("cut-database and delay-database need a relay: --database LISTEN=UPSTREAM")
    if options["mapping"] and options["any_body"]:
        raise click.UsageError("--mapping and --any-body exclude each other")


def _faults(options: dict[str, Any], scenario: Scenario) -> tuple[making.Fault, ...]:
    """Gather the faults of all options, by time. Raises ValueError."""
    faults = list(options["faults"])
    for one in faults:
        if one.folder is not None:
            making.check_disk(one.folder)
        if one.kind in making.OF_CONNECTOR and one.replica >= len(options["connectors"]):
            raise ValueError(f"{one.kind}#{one.replica + 1}: there is no such --connector")
    moments = list(options["kill_at"] or ())
    if options["kill_every"]:
        count = int(scenario.load_seconds / options["kill_every"])
        moments += [options["kill_every"] * number for number in range(1, count + 1)]
    faults += [making.Fault(making.KILL, moment, moment) for moment in moments]
    faults += [making.Fault(DOWN, begin, end) for begin, end in options["target_down"] or ()]
    return tuple(sorted(faults, key=lambda one: one.begin))


def _scenario(options: dict[str, Any]) -> Scenario:
    closed = options["closed"]
    processes = options["processes"]
    if closed:
        processes = processes or 1
        limit = options["events"] or int(CLOSED_LIMIT * options["duration"] * processes)
        plan = Plan(plans.steady(CLOSED_LIMIT, 1), min(limit, MOST_EVENTS))
    else:
        fitting = options["profile"] == "bill-run" or not options["events"]
        limit = None if fitting else options["events"]
        plan = Plan(_segments(options), limit, options["arrivals"], options["seed"])
        if plan.events > MOST_EVENTS:
            raise ValueError(f"the profile holds {plan.events:,} events; {MOST_EVENTS:,} is the most for one run")
        processes = processes or min(math.ceil(plan.peak / PER_PROCESS), os.cpu_count() or 1)
    shares = {name: options[name] for name in ("cut", "slow", "garbage")} | {"token": options["wrong_token"]}
    base = MIXED if options["chaos"] else Chaos()
    chaos = Chaos(**{name: getattr(base, name) if share is None else share for name, share in shares.items()})
    return Scenario(
        seed=options["seed"],
        endpoints=_endpoints(options),
        plan=plan,
        subscribers=options["subscribers"],
        episode=options["episode"],
        cohort=options["cohort"],
        flavour=BILL_RUN if options["profile"] == "bill-run" else LIFE,
        perl=options["perl"],
        time_scale=options["time_scale"],
        gaps=options["retries"],
        chaos=chaos,
        connections=max(1, closed // processes) if closed else options["connections"],
        timeout=options["timeout"],
        patience=options["patience"],
        closed=closed,
        closed_seconds=options["duration"] if closed else 0.0,
        processes=max(1, processes),
        spread=options["spread"],
        only=options["only"],
        precise=options["precise"],
        tls=Tls(options["ca"], not options["insecure"]),
    )


def _endpoints(options: dict[str, Any]) -> tuple[Endpoint, ...]:
    found = tuple(endpoint(url.strip(), options["token"]) for url in options["url"].split(","))
    if len({(one.host, one.port) for one in found}) < len(found):
        raise ValueError("two addresses in --url are the same")
    return found


def _segments(options: dict[str, Any]) -> tuple[Segment, ...]:
    name, rate, lasts, events = options["profile"], options["rate"], options["duration"], options["events"]
    match name:
        case "steady":
            return plans.steady(rate, events / rate if events else lasts)
        case "ramp":
            return plans.ramp(rate, lasts)
        case "burst":
            return plans.burst(rate, lasts)
        case "bill-run":
            return plans.bill_run(rate, events or 10_000)
        case _:
            return plans.read(Path(name))
