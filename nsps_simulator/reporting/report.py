"""The outcome of a run for machines (JSON), for the record of each event (JSON lines), and for the
terminal.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from nsps_simulator.judging.course import Series
from nsps_simulator.judging.ledger import BROKEN, NOTED, Finding
from nsps_simulator.records import NO_ANSWER, NO_EVENT, NOT_SENT
from nsps_simulator.running.conduct import Outcome
from nsps_simulator.wire.events import Events

STATUS_NAMES = {NOT_SENT: "no connection", NO_ANSWER: "no answer"}
SPAN_NAMES = {
    "answer": "attempt due → answer",
    "acceptance": "event due → accepted",
    "forwarding": "accepted → told target",
}


def generator_words(outcome: Outcome) -> str:
    """Say whether the generator could keep up, in a sentence."""
    share = max((effort.cpu / effort.wall for effort in outcome.efforts if effort.wall), default=0.0)
    late = sum(effort.late for effort in outcome.efforts)
    sent = max(1, sum(effort.sent for effort in outcome.efforts))
    starved = sum(effort.starved for effort in outcome.efforts) / sent
    figures = f"{share:.0%} of a core, {late / sent:.1%} of events late by its own fault"
    if starved > 0.01:
        figures += f", {starved:.0%} late since all --connections waited for an answer"
    if outcome.generator_limited:
        return f"The generator itself was the limit ({figures}): use more --processes, or more cores."
    return f"The generator was not the limit ({figures})."


def rates(outcome: Outcome) -> dict[str, float]:
    """Give the mean rates while events left, and the best accepted rate held over ten stretches in a row."""
    wall = max((effort.wall for effort in outcome.efforts), default=0.0)
    sent = sum(effort.sent for effort in outcome.efforts)
    curve = outcome.series.accepted
    span = min(10, len(curve))
    best = max((sum(curve[at : at + span]) / span for at in range(len(curve) - span + 1)), default=0.0)
    return {
        "sent_per_second": sent / wall if wall else 0.0,
        "accepted_per_second": outcome.verdict.accepted / outcome.seconds if outcome.seconds else 0.0,
        "best_accepted_per_second": best,
    }


def document(outcome: Outcome) -> dict[str, Any]:
    """Build the report for machines; unknown numbers are null, and no token is in it."""
    verdict, scenario = outcome.verdict, outcome.setting.scenario
    events = Events(scenario.seed, scenario.population())
    return {
        "verdict": verdict.word,
        "deliveries_judged": verdict.forwards,
        "broken": {kind: verdict.found[kind] for kind in BROKEN},
        "noted": {kind: verdict.found[kind] for kind in NOTED},
        "totals": {
            "planned": verdict.planned,
            "sent": verdict.sent,
            "attempts": verdict.attempts,
            "accepted": verdict.accepted,
            "delivered": verdict.delivered,
            "deliveries": verdict.deliveries,
            "deliveries_refused_by_target": verdict.deliveries_refused,
        },
        "answers": {STATUS_NAMES.get(status, str(status)): count for status, count in sorted(verdict.answers.items())},
        "rates": rates(outcome),
        "seconds": {name: _without_nan(values) for name, values in outcome.spans.items()},
        "generator": {
            "limited": outcome.generator_limited,
            "processes": [
                {"sent": one.sent, "late": one.late, "starved": one.starved, "cpu": one.cpu, "wall": one.wall}
                for one in outcome.efforts
            ],
        },
        "kills": [{"at": kill.began, "gone": kill.ended, "ready_again": kill.ready} for kill in outcome.kills],
        "connector_exit_code": outcome.exit_code,
        "duration": outcome.seconds,
        "scenario": scenario_facts(outcome),
        "examples": {
            kind: [_example(finding, events, outcome.start) for finding in findings]
            for kind, findings in verdict.examples.items()
        },
        "series": _series(outcome.series),
    }


def scenario_facts(outcome: Outcome) -> dict[str, Any]:
    """Give what is needed to repeat the run, without the token."""
    setting, scenario = outcome.setting, outcome.setting.scenario
    return {
        "seed": scenario.seed,
        "url": scenario.endpoint.url,
        "events": scenario.plan.events,
        "subscribers": scenario.subscribers,
        "flavour": scenario.flavour,
        "profile": [
            {"seconds": segment.seconds, "from": segment.start, "to": segment.end} for segment in scenario.plan.segments
        ],
        "closed_loop_connections": scenario.closed,
        "time_scale": scenario.time_scale,
        "chaos": {
            "cut": scenario.chaos.cut,
            "slow": scenario.chaos.slow,
            "wrong_token": scenario.chaos.token,
            "garbage": scenario.chaos.garbage,
        },
        "target": {
            "latency": setting.mood.latency,
            "rate": setting.mood.rate,
            "flaky": setting.mood.flaky,
            "down": setting.mood.down,
        },
        "newest_wins": setting.promises.newest_wins,
    }


def _example(finding: Finding, events: Events, start: float) -> dict[str, Any]:
    known = finding.event != NO_EVENT
    return {
        "index": finding.event if known else None,
        "event_id": events.event_id(finding.event).decode() if known else None,
        "i_account": events.i_account(finding.event) if known else None,
        "at": None if math.isnan(finding.at) else finding.at - start,
    }


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _series(series: Series) -> dict[str, Any]:
    return {
        "width": series.width,
        "times": series.times,
        "offered": series.offered,
        "accepted": series.accepted,
        "delivered": series.delivered,
        "refused": series.refused,
        "retries": series.retries,
        "target_refused": series.target_refused,
        "waiting_at_nsps": series.waiting_at_nsps,
        "waiting_in_connector": series.waiting_in_connector,
        "latency": {
            name: [None if math.isnan(value) else value for value in values] for name, values in series.latency.items()
        },
    }


def write_json(outcome: Outcome, path: Path) -> None:
    """Write the report for machines."""
    path.write_bytes(orjson.dumps(document(outcome), option=orjson.OPT_INDENT_2))


def write_ledger(outcome: Outcome, path: Path) -> None:
    """Write a line for each event: planned, sent, attempts, answer, accepted, when the target saw it, how
    often.

    Times are seconds of the run, null for never.
    """
    scenario = outcome.setting.scenario
    events = Events(scenario.seed, scenario.population())
    due = None if scenario.closed else scenario.plan.due()

    def since(moment: float) -> float | None:
        return None if math.isnan(moment) else round(moment - outcome.start, 6)

    with path.open("wb") as file:
        for entry in outcome.ledger.entries():
            line = {
                "event_id": events.event_id(entry.event).decode(),
                "i_event": events.i_event(entry.event),
                "i_account": events.i_account(entry.event),
                "planned": None if due is None else round(due(entry.event), 6),
                "sent": since(entry.sent),
                "attempts": entry.attempts,
                "answer": STATUS_NAMES.get(entry.status, entry.status) if entry.attempts else None,
                "accepted": since(entry.accepted),
                "target_saw": since(entry.seen),
                "target_times": entry.times,
            }
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def milliseconds(seconds: float) -> str:
    """Write a time for a person."""
    if math.isnan(seconds):
        return "–"
    if seconds >= 1:
        return f"{seconds:,.1f} s"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def print_summary(outcome: Outcome, console: Console) -> None:
    """Print totals, times and the verdict."""
    console.print(_totals(outcome))
    console.print(_spans(outcome))
    style = "yellow" if outcome.generator_limited else ""
    console.print(generator_words(outcome), style=style, soft_wrap=True, highlight=False)
    found = outcome.verdict.found
    for kind, words in NOTED.items():
        if found[kind]:
            console.print(f"  noted   {found[kind]:>9,}  {words}", soft_wrap=True, highlight=False)
    for kind, words in BROKEN.items():
        if found[kind]:
            console.print(f"  [bold red]BROKEN[/]  {found[kind]:>9,}  {words}", soft_wrap=True, highlight=False)
    _print_verdict(outcome, console)


def _print_verdict(outcome: Outcome, console: Console) -> None:
    verdict = outcome.verdict
    if not verdict.forwards:
        console.print("No target: what became of the accepted events was not judged.")
    elif verdict.accepted and not verdict.deliveries:
        console.print(
            "The target was told nothing at all. Does the connector forward to it (TARGET_URL)?",
            style="yellow",
        )
    if verdict.broken:
        console.print("[bold red]Verdict: promises were broken.[/]")
    elif not verdict.accepted:
        console.print("[bold yellow]No verdict: no event was accepted. Are --url and --token the right ones?[/]")
    else:
        console.print("[bold green]Verdict: clean.[/]")


def _totals(outcome: Outcome) -> Table:
    verdict, speed = outcome.verdict, rates(outcome)
    closed = outcome.setting.scenario.closed
    totals = Table(title="The run", title_justify="left", show_header=False, box=None, padding=(0, 2))
    totals.add_row(
        "sent" if closed else "planned",
        f"{verdict.sent if closed else verdict.planned:,}",
        f"{speed['sent_per_second']:,.0f}/s",
    )
    totals.add_row("accepted", f"{verdict.accepted:,}", f"best {speed['best_accepted_per_second']:,.0f}/s")
    if verdict.forwards:
        totals.add_row("told to the target", f"{verdict.delivered:,}", f"in {verdict.deliveries:,} calls")
    for status, count in sorted(verdict.answers.items()):
        totals.add_row(f"answer {STATUS_NAMES.get(status, status)}", f"{count:,}", "")
    if outcome.kills:
        totals.add_row("kills", f"{len(outcome.kills)}", "")
    return totals


def _spans(outcome: Outcome) -> Table:
    spans = Table(title="How long it took", title_justify="left", box=None, padding=(0, 1))
    spans.add_column("", no_wrap=True)
    names = list(outcome.spans["answer"])
    for name in names:
        spans.add_column(name, justify="right", no_wrap=True)
    for span, values in outcome.spans.items():
        if not math.isnan(values["p50"]):
            spans.add_row(SPAN_NAMES[span], *(milliseconds(values[name]) for name in names))
    return spans
