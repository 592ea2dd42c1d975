"""The outcome of a run for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from nsps_simulator.judging.ledger import BROKE, BROKEN, NONE, NOTED, NOTHING, UNFINISHED
from nsps_simulator.judging.requirements import Requirement
from nsps_simulator.reporting.report import SPAN_NAMES, STATUS_NAMES, generator_words, judged
from nsps_simulator.running.conduct import Outcome


def milliseconds(seconds: float) -> str:
    """Write a time for a person."""
    if math.isnan(seconds):
        return "–"
    if seconds >= 1:
        return f"{seconds:,.1f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def print_summary(
    outcome: Outcome, console: Console, wanted: Sequence[Requirement] = (), missed: Sequence[Requirement] = ()
) -> None:
    """Print totals, times and the verdict."""
    console.print(_totals(outcome))
    console.print(_spans(outcome))
    style = "yellow" if outcome.generator_limited or outcome.contended else ""
    console.print(generator_words(outcome), style=style, soft_wrap=True, highlight=False)
    found = outcome.verdict.found
    for kind, words in NOTED.items():
        if found[kind]:
            console.print(f"  noted   {found[kind]:>9,}  {words}", soft_wrap=True, highlight=False)
    for kind, words in BROKEN.items():
        if found[kind]:
            console.print(f"  [bold red]BROKEN[/]  {found[kind]:>9,}  {words}", soft_wrap=True, highlight=False)
    untried = [words for kind, words in BROKEN.items() if judged(outcome, kind) == "not tried"]
    if untried:
        console.print(f"  not tried: {'; '.join(untried)}", style="dim", soft_wrap=True, highlight=False)
    for one in wanted:
        word = "[bold red]missed[/]" if one in missed else "[green]met[/]"
        console.print(f"  required {one.text}: {word}", soft_wrap=True, highlight=False)
    _print_verdict(outcome, console, missed)


def _print_verdict(outcome: Outcome, console: Console, missed: Sequence[Requirement]) -> None:
    verdict = outcome.verdict
    if not verdict.forwards:
        console.print("No target: what became of the accepted events was not judged.")
    elif verdict.accepted and not verdict.deliveries:
        console.print(
            "The target was told nothing at all. Does the connector forward to it (TARGET_URL)?",
            style="yellow",
        )
    if outcome.end.died:
        console.print(f"The run ended early: {outcome.end.died}.", style="yellow", soft_wrap=True, highlight=False)
    match verdict.word:
        case word if word == NONE:
            console.print(
                f"[bold yellow]No verdict: {verdict.cut_short}. What was measured until then stands above.[/]",
                soft_wrap=True,
                highlight=False,
            )
        case word if word == BROKE:
            console.print("[bold red]Verdict: promises were broken.[/]")
        case word if word == NOTHING:
            console.print("[bold yellow]No verdict: no event was accepted. Are --url and --token the right ones?[/]")
        case word if word == UNFINISHED:
            console.print(
                f"[bold yellow]No verdict: not finished. {verdict.found['undelivered']:,} accepted events were still "
                "open when the run ended, and may be waiting for their next attempt (--retry-wait, --open-events).[/]",
                soft_wrap=True,
                highlight=False,
            )
        case _ if missed:
            console.print("[bold yellow]Verdict: clean, but a requirement was missed.[/]")
        case _:
            console.print("[bold green]Verdict: clean.[/]")


def _totals(outcome: Outcome) -> Table:
    verdict, rates = outcome.verdict, outcome.rates
    closed = outcome.setting.scenario.closed
    totals = Table(title="The run", title_justify="left", show_header=False, box=None, padding=(0, 2))
    totals.add_row(
        "sent" if closed else "planned",
        f"{verdict.sent if closed else verdict.planned:,}",
        "" if closed else f"{rates.offered:,.0f}/s",
    )
    spread = f"median {rates.median:,.0f}/s, {rates.lowest:,.0f} to {rates.highest:,.0f}/s"
    totals.add_row("accepted", f"{verdict.accepted:,}", f"{rates.accepted:,.0f}/s ({spread})")
    if dropped := verdict.found["never_accepted"]:
        totals.add_row("never accepted", f"{dropped:,}", "")
    if verdict.forwards:
        totals.add_row("told to the target", f"{verdict.delivered:,}", f"in {verdict.deliveries:,} calls")
        if verdict.found["undelivered"]:
            totals.add_row("not yet told", f"{verdict.found['undelivered']:,}", "")
    for status, count in sorted(verdict.answers.items()):
        totals.add_row(f"answer {STATUS_NAMES.get(status, status)}", f"{count:,}", "")
    if outcome.disturbances:
        totals.add_row("faults made", f"{len(outcome.disturbances)}", "")
    return totals


def _spans(outcome: Outcome) -> Table:
    spans = Table(title="How long it took", title_justify="left", box=None, padding=(0, 1))
    spans.add_column("", no_wrap=True)
    shown = {name: histogram for name, histogram in outcome.spans.of.items() if histogram.count}
    names = list(outcome.spans.of["answer"].quantiles())
    for name in names:
        spans.add_column(name, justify="right", no_wrap=True)
    for span, histogram in shown.items():
        values = histogram.quantiles()
        spans.add_row(SPAN_NAMES[span], *(milliseconds(values[name]) for name in names))
    return spans
