"""The command line of the simulator. Exit codes: 0 clean, 1 a promise was broken, 2 bad options, 3 the
run could not be carried out or no event was accepted.
"""

from __future__ import annotations

import asyncio
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from nsps_simulator.command.values import Address, Seconds, Stretches
from nsps_simulator.judging.ledger import Promises
from nsps_simulator.reporting.page import write_page
from nsps_simulator.reporting.report import print_summary, write_json, write_ledger
from nsps_simulator.running.conduct import CannotRun, Setting, conduct
from nsps_simulator.running.progress import Progress, Show
from nsps_simulator.sending import profile as plans
from nsps_simulator.sending.profile import Plan, Segment
from nsps_simulator.sending.scenario import Scenario, endpoint
from nsps_simulator.target import Mood
from nsps_simulator.wire.chaos import MIXED, Chaos
from nsps_simulator.wire.events import Events
from nsps_simulator.wire.population import BILL_RUN, LIFE, LIMIT, Population

PER_PROCESS = 15_000.0  # events per second that one generator surely keeps up
MOST_EVENTS = 50_000_000  # of one run: the ledger takes some 40 bytes of memory for each
CLOSED_LIMIT = 60_000  # events per second that no generator process exceeds: bounds the plan of a closed loop
PROFILES = ("steady", "ramp", "burst", "bill-run")
SHARE = click.FloatRange(0, 1)
FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command(name="simulate", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--url", help="The connector; without a path, /process-event is taken.")
@click.option("--token", envvar="API_TOKEN", help="The Bearer token it wants. Also read from API_TOKEN.")
@click.option("--seed", type=int, default=1, help="The same seed gives the same events at the same times.")
# The load
@click.option("--profile", default="steady", metavar="NAME|FILE", help=f"One of {', '.join(PROFILES)}, or a JSON file.")
@click.option(
    "--rate",
    type=click.FloatRange(0.01, 1e6),
    default=100.0,
    help="Events per second, at the height of the profile.",
)
@click.option("--duration", type=click.FloatRange(0.1, 1e7), default=30.0, help="Seconds in which events leave.")
@click.option(
    "--events",
    type=click.IntRange(1, MOST_EVENTS),
    help="How many events, instead of a duration.  [default for bill-run: 10000]",
)
@click.option(
    "--closed",
    type=click.IntRange(0, 10_000),
    default=0,
    help="Closed loop: so many connections, as fast as they go.",
)
@click.option(
    "--processes",
    type=click.IntRange(0, 64),
    default=0,
    help="Generator processes; 0 takes what the rate needs.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 60_000),
    default=500,
    help="Open connections at the most, per process.",
)
# The subscribers
@click.option("--subscribers", type=click.IntRange(1, LIMIT), default=100_000, help="The population.")
@click.option("--episode", type=click.IntRange(1, 1000), default=4, help="Events in a row for one subscriber.")
@click.option(
    "--cohort", type=click.IntRange(1, 100_000), default=256, help="Subscribers whose events are interleaved."
)
# The delivery
@click.option(
    "--time-scale",
    type=click.FloatRange(0.001, 1e6),
    default=60.0,
    help="How much faster than life NSPS retries; 1440: a day in a minute.",
)
@click.option("--timeout", type=click.FloatRange(0.01, 3600), default=30.0, help="Seconds until an answer is given up.")
@click.option(
    "--patience",
    type=click.FloatRange(0, 1e7),
    default=60.0,
    help="Seconds after the last planned event in which retries go on.",
)
@click.option("--chaos", is_flag=True, help="A bit of every trouble below.")
@click.option("--cut", type=SHARE, help="Share of events whose connection is cut before the answer.")
@click.option("--slow", type=SHARE, help="Share of events whose body trickles in.")
@click.option("--wrong-token", type=SHARE, help="Share of events that come with a wrong token first.")
@click.option("--garbage", type=SHARE, help="Share of events that bring a burst of garbage along.")
# The external system
@click.option("--target", type=Address(), default="127.0.0.1:4010", help="Where the stand-in external system listens.")
@click.option("--no-target", is_flag=True, help="The connector tells nobody: judge its answers alone.")
@click.option(
    "--target-latency",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="Seconds it takes to answer, on average.",
)
@click.option(
    "--target-rate",
    type=click.FloatRange(0, 1e6),
    default=0.0,
    help="Answers per second at the most; 0: no limit.",
)
@click.option("--target-flaky", type=SHARE, default=0.0, help="Share of calls that it refuses.")
@click.option("--target-down", type=Stretches(), help="Seconds of the run in which it is away, such as 10-20,35-40.")
@click.option(
    "--settle",
    type=click.FloatRange(0.1, 1e6),
    default=15.0,
    help="Seconds without a delivery that end the run.",
)
@click.option(
    "--newest-wins",
    is_flag=True,
    help="The connector promises never to apply an older state over a newer one.",
)
# The connector as a child
@click.option(
    "--connector",
    metavar="COMMAND",
    help="Start the connector; it gets API_TOKEN, HOST, PORT and TARGET_URL.",
)
@click.option("--kill-at", type=Seconds(), help="Seconds of the run at which it is killed, such as 5,12.5.")
@click.option("--kill-every", type=click.FloatRange(0.1), help="Kill it every so many seconds while events leave.")
@click.option("--kill-pause", type=click.FloatRange(0), default=0.5, help="Seconds until it is started again.")
@click.option("--connector-log", type=FILE, default="connector.log", help="What the connector prints.")
# The report
@click.option("--json", "json_file", type=FILE, help="Write the report for machines.")
@click.option("--html", "html_file", type=FILE, help="Write the report as a page.")
@click.option("--ledger", "ledger_file", type=FILE, help="Write a line of JSON for each event.")
@click.option("--dump", type=click.IntRange(1, MOST_EVENTS), help="Print so many bodies as JSON lines, and end.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(**options: Any) -> None:
    """Be NSPS: send events to a connector, and judge what became of them.

    Exit code 1: a promise was broken. 2: bad options. 3: the run could not be carried out, or no event was
    accepted.
    """
    flavour = BILL_RUN if options["profile"] == "bill-run" else LIFE
    if options["dump"]:
        _dump(options, flavour)
        return
    setting = _setting(options, flavour)
    for name in ("json_file", "html_file", "ledger_file", "connector_log"):
        if options[name] is not None and not options[name].absolute().parent.is_dir():
            raise click.UsageError(f"there is no folder {options[name].parent} for {options[name].name}")
    console = Console(stderr=False)
    try:
        closed = setting.scenario.closed
        planned = None if closed else setting.scenario.plan.events
        with Show(console, planned, setting.scenario.closed_seconds, quiet=options["quiet"]) as show:
            outcome = asyncio.run(conduct(setting, _watcher(show)))
        for name, write in (
            ("json_file", write_json),
            ("html_file", write_page),
            ("ledger_file", write_ledger),
        ):
            if options[name] is not None:
                write(outcome, options[name])
    except (CannotRun, OSError) as fault:
        click.echo(f"Error: {fault}", err=True)
        sys.exit(3)
    print_summary(outcome, console)
    sys.exit({"clean": 0, "broken": 1}.get(outcome.verdict.word, 3))


def _watcher(show: Show) -> Any:
    def watch(progress: Progress) -> None:
        show.update(progress)

    return watch


def _dump(options: dict[str, Any], flavour: str) -> None:
    """Print bodies; a reader that has seen enough may close the pipe."""
    population = Population(
        options["seed"],
        options["subscribers"],
        episode=options["episode"],
        cohort=options["cohort"],
        flavour=flavour,
    )
    events = Events(options["seed"], population)
    try:
        for index in range(options["dump"]):
            sys.stdout.buffer.write(events.body(index) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _setting(options: dict[str, Any], flavour: str) -> Setting:
    """Turn options into a run. Raises click.UsageError that says what is wrong."""
    if not options["url"] or not options["token"]:
        raise click.UsageError("--url and --token are needed (or --dump)")
    kills = options["kill_at"] or ()
    if (kills or options["kill_every"]) and not options["connector"]:
        raise click.UsageError("to be killed, the connector must be started here: --connector COMMAND")
    if options["no_target"] and (options["target_down"] or options["newest_wins"]):
        raise click.UsageError("--no-target goes with no other option about the target")
    try:
        scenario = _scenario(options, flavour)
        scenario.population()
        command = tuple(shlex.split(options["connector"])) if options["connector"] else None
    except ValueError as fault:
        raise click.UsageError(str(fault)) from fault
    if options["kill_every"]:
        lasts = options["duration"] if scenario.closed else scenario.plan.seconds
        count = int(lasts / options["kill_every"])
        kills += tuple(options["kill_every"] * number for number in range(1, count + 1))
    return Setting(
        scenario=scenario,
        target=None if options["no_target"] else options["target"],
        mood=Mood(
            latency=options["target_latency"],
            rate=options["target_rate"],
            flaky=options["target_flaky"],
            down=options["target_down"] or (),
        ),
        settle=options["settle"],
        command=command,
        kills=kills,
        pause=options["kill_pause"],
        log=options["connector_log"],
        promises=Promises(forwards=not options["no_target"], newest_wins=options["newest_wins"]),
    )


def _scenario(options: dict[str, Any], flavour: str) -> Scenario:
    closed = options["closed"]
    processes = options["processes"]
    if closed:
        processes = processes or 1
        limit = options["events"] or int(CLOSED_LIMIT * options["duration"] * processes)
        plan = Plan(plans.steady(CLOSED_LIMIT, 1), min(limit, MOST_EVENTS))
    else:
        segments = _segments(options)
        fitting = options["profile"] == "bill-run" or not options["events"]
        plan = Plan(segments, None if fitting else options["events"])
        if plan.events > MOST_EVENTS:
            raise ValueError(f"the profile holds {plan.events:,} events; {MOST_EVENTS:,} is the most for one run")
        processes = processes or min(math.ceil(plan.peak / PER_PROCESS), os.cpu_count() or 1)
    shares = {name: options[name] for name in ("cut", "slow", "garbage")} | {"token": options["wrong_token"]}
    base = MIXED if options["chaos"] else Chaos()
    chaos = Chaos(**{name: getattr(base, name) if share is None else share for name, share in shares.items()})
    return Scenario(
        seed=options["seed"],
        endpoint=endpoint(options["url"], options["token"]),
        plan=plan,
        subscribers=options["subscribers"],
        episode=options["episode"],
        cohort=options["cohort"],
        flavour=flavour,
        time_scale=options["time_scale"],
        chaos=chaos,
        connections=max(1, closed // processes) if closed else options["connections"],
        timeout=options["timeout"],
        patience=options["patience"],
        closed=closed,
        closed_seconds=options["duration"],
        processes=max(1, processes),
    )


def _segments(options: dict[str, Any]) -> tuple[Segment, ...]:
    name, rate, seconds, events = options["profile"], options["rate"], options["duration"], options["events"]
    match name:
        case "steady":
            return plans.steady(rate, events / rate if events else seconds)
        case "ramp":
            return plans.ramp(rate, seconds)
        case "burst":
            return plans.burst(rate, seconds)
        case "bill-run":
            return plans.bill_run(rate, events or 10_000)
        case _:
            return plans.read(Path(name))
