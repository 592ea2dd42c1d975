"""`nsps-simulator target`: the stand-in external system alone, which prints what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from datetime import UTC, datetime

import click
import orjson

from nsps_simulator.command import values
from nsps_simulator.running.proxy import bind
from nsps_simulator.target import DOWN, Mood, Observer, Target, Told, Trouble

SHARE = click.FloatRange(0, 1)


@click.command(
    help="Be the external system until a signal stops it; print a line of JSON for each call.",
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.option("--listen", type=values.ADDRESS, default="127.0.0.1:4010", help="Where it listens.")
@click.option("--latency", type=click.FloatRange(0, 3600), default=0.0, help="Seconds it takes to answer, on average.")
@click.option("--rate", type=click.FloatRange(0, 1e6), default=0.0, help="Answers per second at the most; 0: no limit.")
@click.option("--flaky", type=SHARE, default=0.0, help="Share of calls that it refuses with 503.")
@click.option("--down", type=values.STRETCHES, default=(), help="Seconds from now in which it is away, such as 10-20.")
@click.option("--quiet", is_flag=True, help="Print nothing; how many calls there were is said at the end.")
def target(
    listen: tuple[str, int],
    latency: float,
    rate: float,
    flaky: float,
    down: tuple[tuple[float, float], ...],
    quiet: bool,
) -> None:
    mood = Mood(latency, rate, flaky, troubles=tuple(Trouble(DOWN, *stretch) for stretch in down))
    try:
        listener = bind(*listen)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {listen[0]}:{listen[1]}: {error.strerror}") from error
    began = time.monotonic()
    observer = _Printer(quiet=quiet)
    stand_in = Target(1, mood, observer, lambda: time.monotonic() - began)

    async def serve() -> None:
        host, port = listener.getsockname()[:2]
        click.echo(f"listening on http://{host}:{port}; Ctrl-C stops it", err=True)
        task = asyncio.ensure_future(stand_in.serve(listener))
        for one in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(one, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(serve())
    click.echo(f"{observer.calls:,} calls, {observer.applied:,} of them applied", err=True)


class _Printer(Observer):
    """Prints each call when it is over."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self.calls = self.applied = 0

    def note(self, told: Told) -> None:
        """Print one call."""
        self.calls += 1
        self.applied += told.outcome != 2
        if self._quiet:
            return
        try:
            body: object = orjson.loads(told.text)
        except orjson.JSONDecodeError:
            body = told.text.decode(errors="replace")
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "outcome": ("applied", "applied, answer lost", "refused")[told.outcome],
            "path": told.path.decode(errors="replace"),
            "idempotency_key": told.headers.get(b"idempotency-key", b"").decode(errors="replace") or None,
            "body": body,
        }
        sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
