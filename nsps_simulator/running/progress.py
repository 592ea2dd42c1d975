"""How a run is getting on, read off its records while it is under way, and shown in the terminal."""

from __future__ import annotations

import math
import time
from array import array
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nsps_simulator.judging.course import quantile
from nsps_simulator.records import ATTEMPT, DELIVERY, NO_EVENT, REFUSED, Follower

WINDOW = 2.0  # seconds that the shown rates and percentiles look back
PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


APPLIED_HERE, WAITING = 1, 2  # what the target has done of an event, as far as its last call says


class Progress:
    """Counts what the records say so far; `delivered` are events, each counted once however often it was told.

    folder: where the records are. processes: how many generators write. events: how many are planned.
    `retrying` are events whose last call the target refused: the connector will try them again. `last_call` is the
    time of the last call (monotonic).
    """

    def __init__(self, folder: Path, processes: int, events: int) -> None:
        self._attempts = [Follower(folder / f"attempts-{number}", ATTEMPT) for number in range(processes)]
        self._deliveries = Follower(folder / "deliveries", DELIVERY)
        self.events = self.accepted = self.refused = self.unanswered = self.retries = self.delivered = 0
        self.retrying = self._accepted_and_told = 0
        self.last_call = -math.inf
        self.last_refused = False
        self._told = bytearray(events)
        self._accepted = bytearray(events)
        self.faults = 0
        self.stage = "starting"
        self.started = math.inf
        self._latencies: array[float] = array("f")
        self._marks: list[tuple[float, int, int, int]] = []
        self.percentiles = (math.nan, math.nan, math.nan)
        self.rates = (0.0, 0.0, 0.0)

    @property
    def open(self) -> int:
        """How many accepted events the target has not been told of."""
        return self.accepted - self._accepted_and_told

    def look(self) -> None:
        """Read what is new."""
        self._latencies = array("f")
        for follower in self._attempts:
            for due, _, ended, event, status, attempt, *_ in follower.new():
                if event != NO_EVENT:
                    self._note_attempt(int(event), int(status), attempt == 1, ended - due)
        for arrived, _, event, outcome, _ in self._deliveries.new():
            if arrived >= self.last_call:
                self.last_call, self.last_refused = arrived, outcome == REFUSED
            if event < len(self._told):
                self._note_call(int(event), refused=outcome == REFUSED)
        if self._latencies:
            ordered = sorted(self._latencies)
            self.percentiles = (quantile(ordered, 0.5), quantile(ordered, 0.95), quantile(ordered, 0.99))
        self._measure()

    def _note_attempt(self, event: int, status: int, first: bool, latency: float) -> None:
        self.events += first
        self.retries += not first
        if status < 100:
            self.unanswered += 1
            return
        self._latencies.append(latency)
        if not 200 <= status < 300:
            self.refused += 1
        elif not self._accepted[event]:
            self._accepted[event] = 1
            self.accepted += 1
            self._accepted_and_told += self._told[event] == APPLIED_HERE

    def _note_call(self, event: int, *, refused: bool) -> None:
        before = self._told[event]
        if before == APPLIED_HERE:
            return
        self.retrying += refused - (before == WAITING)
        self._told[event] = WAITING if refused else APPLIED_HERE
        self.delivered += not refused
        self._accepted_and_told += not refused and self._accepted[event]

    def _measure(self) -> None:
        now = time.monotonic()
        self._marks.append((now, self.events, self.accepted, self.delivered))
        while self._marks[0][0] < now - WINDOW and len(self._marks) > 2:
            self._marks.pop(0)
        first, last = self._marks[0], self._marks[-1]
        span = last[0] - first[0]
        if span > 0:
            self.rates = (
                (last[1] - first[1]) / span,
                (last[2] - first[2]) / span,
                (last[3] - first[3]) / span,
            )


class Show:
    """Shows a Progress: a live table on a terminal, a line now and then elsewhere, nothing when quiet.

    planned: how many events leave; None in a closed loop, which lasts so many `seconds` instead.
    """

    def __init__(self, console: Console, planned: int | None, seconds: float, *, quiet: bool) -> None:
        self._planned = planned
        self._seconds = seconds
        self._quiet = quiet
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._next_line = 0.0
        self._stage = ""

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show how it stands."""
        if self._quiet:
            return
        if self._console.is_terminal:
            self._live.update(self._table(progress), refresh=True)
        elif time.monotonic() >= self._next_line or progress.stage != self._stage:
            self._next_line, self._stage = time.monotonic() + PLAIN_EVERY, progress.stage
            self._console.print(self._line(progress), highlight=False, soft_wrap=True)

    def _line(self, progress: Progress) -> str:
        seconds = max(0.0, time.monotonic() - progress.started)
        of = "" if self._planned is None else f" of {self._planned:,}"
        return (
            f"{seconds:6.1f} s  {progress.stage}: {progress.accepted:,}{of} accepted, "
            f"{progress.refused:,} refusals, {progress.delivered:,} delivered"
        )

    def _table(self, progress: Progress) -> RenderableType:
        table = Table(box=None, padding=(0, 2), show_header=True, header_style="dim")
        for name in ("", "total", "per second"):
            table.add_column(name, justify="left" if not name else "right")
        sent, accepted, delivered = progress.rates
        table.add_row("sent", f"{progress.events:,}", f"{sent:,.0f}")
        table.add_row("accepted", f"{progress.accepted:,}", f"[green]{accepted:,.0f}[/]")
        table.add_row("delivered to the target", f"{progress.delivered:,}", f"{delivered:,.0f}")
        table.add_row("refused", f"{progress.refused:,}", "")
        table.add_row("without an answer", f"{progress.unanswered:,}", "")
        table.add_row("retries", f"{progress.retries:,}", "")
        if progress.faults:
            table.add_row("faults made", f"{progress.faults}", "")
        shown = "   ".join(
            f"{name} {value * 1000:,.1f} ms"
            for name, value in zip(("p50", "p95", "p99"), progress.percentiles, strict=True)
            if not math.isnan(value)
        )
        seconds = max(0.0, time.monotonic() - progress.started)
        total, done = self._planned or self._seconds, progress.accepted if self._planned else seconds
        return Group(
            Text(f"{progress.stage}, {seconds:.0f} s", style="bold"),
            ProgressBar(total=total, completed=min(done, total), width=60),
            table,
            Text(f"answers lately, from the planned time:  {shown or 'none'}", style="dim"),
        )
