"""`nsps-simulator plan`: the ten cases of NSPS's acceptance plan."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from nsps_simulator.command import values
from nsps_simulator.running.acceptance import FAILED, NOT_TRIED, PASSED, Heard, Plan, Result
from nsps_simulator.running.asking import Unreachable, check_endpoint
from nsps_simulator.running.child import Child, ChildFailed
from nsps_simulator.running.proxy import bind
from nsps_simulator.target import CHEERFUL, Target
from nsps_simulator.wire.endpoint import Endpoint, Tls, endpoint
from nsps_simulator.wire.events import Events
from nsps_simulator.wire.population import Population

INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)
COLOURS = {PASSED: "green", FAILED: "bold red", NOT_TRIED: "yellow"}


@click.command(
    help="Try the ten cases of NSPS's acceptance plan. Exit codes: 0 none failed, 1 one did, 3 it could not be tried.",
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.option("--url", required=True, help="The connector; without a path, /process-event is taken.")
@click.option("--token", envvar="API_TOKEN", required=True, help="The Bearer token it wants, or API_TOKEN.")
@click.option(
    "--ca", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Authority of an https:// address."
)
@click.option("--insecure", is_flag=True, help="Do not check the certificate.")
@click.option("--target", type=values.ADDRESS, default="127.0.0.1:4010", help="Where the stand-in target listens.")
@click.option("--no-target", is_flag=True, help="The connector tells nobody.")
@click.option("--connector", metavar="COMMAND", help="Start the connector here, so that case 10 can stop it.")
@click.option("--connector-log", type=click.Path(path_type=Path), default="connector.log", help="What it prints.")
@click.option("--burst", type=click.IntRange(0, 1_000_000), default=3200, help="Events sent at the most to see a 429.")
@click.option("--seed", type=int, help="Of the events; drawn if it is not given.")
def plan(**options: Any) -> None:
    try:
        where = endpoint(options["url"], options["token"])
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        results = asyncio.run(_carry_out(where, options))
    except (Unreachable, ChildFailed, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(3)
    _print(results)
    sys.exit(1 if any(one.word == FAILED for one in results) else 0)


async def _carry_out(where: Endpoint, options: dict[str, Any]) -> list[Result]:
    seed = secrets.randbits(31) if options["seed"] is None else options["seed"]
    events = Events(seed, Population(seed, 1000))
    heard, tls = Heard(events), Tls(options["ca"], not options["insecure"])
    async with contextlib.AsyncExitStack() as stack:
        target, address = None, None
        if not options["no_target"]:
            listener = bind(*options["target"])
            address = listener.getsockname()
            began = time.monotonic()
            target = Target(seed, CHEERFUL, heard, lambda: time.monotonic() - began)
            serving = asyncio.ensure_future(target.serve(listener))
            stack.push_async_callback(asyncio.wait, [serving])
            stack.callback(serving.cancel)
        child = None
        if options["connector"]:
            environment = {"API_TOKEN": where.token, "HOST": where.host, "PORT": str(where.port)}
            if address is not None:
                environment["TARGET_URL"] = f"http://{address[0]}:{address[1]}"
            command = shlex.split(options["connector"])
            child = Child(command, environment, where.host, where.port, options["connector_log"])
            stack.push_async_callback(child.stop)
            await child.start()
        await check_endpoint(where, tls)
        return await Plan(where, tls, events, target, heard, child, options["burst"]).carry_out()


def _print(results: list[Result]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for one in results:
        table.add_row(str(one.number), one.title, f"[{COLOURS[one.word]}]{one.word}[/]", one.words)
    Console().print(table)
    counts = {word: sum(one.word == word for one in results) for word in (PASSED, FAILED, NOT_TRIED)}
    Console().print(", ".join(f"{count} {word}" for word, count in counts.items()), highlight=False)
