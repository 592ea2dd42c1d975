"""The outcome of a run for machines (JSON), for the record of each event (JSON lines), and as plain figures."""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from nsps_simulator.judging.course import QUANTILES, Histogram, Series
from nsps_simulator.judging.ledger import BROKEN, NOTED, OF_ANSWERS, Finding
from nsps_simulator.judging.requirements import Requirement
from nsps_simulator.records import NO_ANSWER, NO_EVENT, NOT_SENT, Body
from nsps_simulator.running.conduct import History, Outcome
from nsps_simulator.wire.chaos import Trouble
from nsps_simulator.wire.events import Events

STATUS_NAMES = {NOT_SENT: "no connection", NO_ANSWER: "no answer"}
OUTCOMES = ("applied", "applied, answer lost", "refused")
SPAN_NAMES = {
    "answer": "attempt due → its end",
    "ok": "  of these, accepted",
    "refused": "  of these, refused",
    "unanswered": "  of these, no answer",
    "acceptance": "event due → accepted",
    "forwarding": "accepted → told target",
}
BODY_WORDS = {
    Body.SAME: "as sent",
    Body.NOT_COMPARED: "not compared",
    Body.EMPTY: "empty",
    Body.MIXED_UP: "another event's",
    Body.STALE: "an older snapshot",
    Body.ALTERED: "altered",
}

# What --require can ask for.
FIGURES = {
    **{name: f"{name} of the time from when an attempt was due to its end, timeouts included" for name in QUANTILES},
    **{f"acceptance.{name}": f"{name} from when an event was due to its 2xx, retries included" for name in QUANTILES},
    **{f"forwarding.{name}": f"{name} from the 2xx to the external system" for name in QUANTILES},
    "rate": "accepted events per second, mean over the plateau",
    "rate.median": "the same, median of its seconds",
    "rate.lowest": "the same, its slowest second",
    "accepted": "share of the sent events that were accepted",
    "refused": "answers that were no 2xx",
    "unanswered": "attempts without an answer",
    "retries": "attempts after the first",
    "dropped": "events that were never accepted",
    "undelivered": "accepted events of which the target was not told by the end",
    "connector.cores": "processor time of the connector, in cores",
    "connector.memory": "greatest memory of the connector, in MB",
}


@dataclass(frozen=True)
class About:
    """What stands around a report: when, with which command and versions, and which thresholds it had to keep."""

    date: str
    command: str
    versions: dict[str, str]
    wanted: tuple[Requirement, ...] = ()
    missed: tuple[Requirement, ...] = ()

    @classmethod
    def now(cls, command: str, wanted: Sequence[Requirement] = (), missed: Sequence[Requirement] = ()) -> About:
        """Make it for a run that has just ended."""
        versions = {
            "Python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        }
        for package in ("nsps-simulator", "uvloop"):
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                continue
        date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return cls(date, command, versions, tuple(wanted), tuple(missed))


def generator_words(outcome: Outcome) -> str:
    """Say in a sentence whether the generator could keep up, and whether others held it up."""
    share = max((effort.cpu / effort.wall for effort in outcome.efforts if effort.wall), default=0.0)
    held = max((effort.held_up / effort.wall for effort in outcome.efforts if effort.wall), default=0.0)
    late = sum(effort.late for effort in outcome.efforts)
    sent = max(1, sum(effort.sent for effort in outcome.efforts))
    starved = sum(effort.starved for effort in outcome.efforts) / sent
    figures = f"{share:.0%} of a core, {late / sent:.1%} of events late by its own fault"
    if starved > 0.01:
        figures += f", {starved:.0%} late since all --connections waited for an answer"
    pressure = outcome.pressure.share("cpu")
    if pressure is not None:
        figures += f"; some process waited for a core {pressure:.0%} of the time"
    if outcome.contended:
        return (
            f"Other processes held the generator up {held:.0%} of the time ({figures}): the figures are theirs "
            "as well. Use more cores, or another machine."
        )
    if outcome.generator_limited:
        return f"The generator itself was the limit ({figures}): use more --processes, or more cores."
    return f"The generator was not the limit ({figures})."


def cores(outcome: Outcome) -> float:
    """Give the processor time of the connectors, in cores; NaN when they were not started here."""
    samples = outcome.samples
    if not outcome.setting.commands or len(samples) < 2 or samples[-1].at <= samples[0].at:
        return math.nan
    return (samples[-1].cpu - samples[0].cpu) / (samples[-1].at - samples[0].at)


def memory(outcome: Outcome) -> float:
    """Give the greatest memory of the connectors in MB; NaN when they were not started here."""
    return (
        max((one.memory / 1e6 for one in outcome.samples), default=math.nan) if outcome.setting.commands else math.nan
    )


def figures(outcome: Outcome) -> dict[str, float]:
    """Give the figures that --require can ask for, NaN for what was not measured."""
    verdict, of = outcome.verdict, outcome.spans.of
    found = dict(of["answer"].quantiles())
    for span in ("acceptance", "forwarding"):
        found |= {f"{span}.{name}": value for name, value in of[span].quantiles().items()}
    return found | {
        "rate": outcome.rates.accepted,
        "rate.median": outcome.rates.median,
        "rate.lowest": outcome.rates.lowest,
        "accepted": verdict.accepted / verdict.sent if verdict.sent else math.nan,
        "refused": float(sum(count for status, count in verdict.answers.items() if status >= 300)),
        "unanswered": float(verdict.answers[NO_ANSWER] + verdict.answers[NOT_SENT]),
        "retries": float(verdict.attempts - verdict.sent),
        "dropped": float(verdict.found["never_accepted"]),
        "undelivered": float(verdict.found["undelivered"]) if verdict.forwards else math.nan,
        "connector.cores": cores(outcome),
        "connector.memory": memory(outcome),
    }


def judged(outcome: Outcome, kind: str) -> str:
    """Say how a promise fared: a number, `not tried`, or `not judged`."""
    verdict = outcome.verdict
    if verdict.found[kind]:
        return f"{verdict.found[kind]:,}"
    if not verdict.forwards and kind not in OF_ANSWERS:
        return "not judged"
    return "not tried" if kind in verdict.not_tried else "0"


def document(outcome: Outcome, about: About) -> dict[str, Any]:
    """Build the report for machines; unknown numbers are null, and no token is in it."""
    return {**_judged(outcome, about), **_measured(outcome), **_happened(outcome)}


def _judged(outcome: Outcome, about: About) -> dict[str, Any]:
    verdict = outcome.verdict
    return {
        "date": about.date,
        "command": about.command,
        "versions": about.versions,
        "verdict": verdict.word,
        "no_verdict_because": verdict.cut_short,
        "connector_died": outcome.end.died,
        "requirements": {one.text: one not in about.missed for one in about.wanted},
        "deliveries_judged": verdict.forwards,
        "broken": {kind: verdict.found[kind] for kind in BROKEN},
        "tried": {kind: verdict.tried[kind] for kind in BROKEN},
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
        "answers": _named(verdict.answers),
        "answers_to_garbage": _named(verdict.garbage_answers),
        "troubles": troubles(outcome),
    }


def _measured(outcome: Outcome) -> dict[str, Any]:
    return {
        "rates": {name: _number(value) for name, value in asdict(outcome.rates).items()},
        "figures": {name: _number(value) for name, value in figures(outcome).items()},
        "seconds": {name: _span(histogram) for name, histogram in outcome.spans.of.items()},
        "generator": {
            "limited": outcome.generator_limited,
            "contended": outcome.contended,
            "processes": [asdict(one) for one in outcome.efforts],
        },
        "pressure": {kind: outcome.pressure.share(kind) for kind in ("cpu", "io", "memory")},
    }


def _happened(outcome: Outcome) -> dict[str, Any]:
    verdict, events = outcome.verdict, outcome.setting.scenario.events()
    return {
        "faults": [
            {
                "kind": one.kind,
                "replica": one.replica + 1,
                "at": one.began,
                "until": one.ended,
                "ready_again": one.ready,
            }
            for one in outcome.disturbances
        ],
        "connector_exit_codes": outcome.exit_codes,
        "duration": outcome.seconds,
        "scenario": scenario_facts(outcome),
        "examples": {
            kind: [_example(finding, events, outcome.start) for finding in findings]
            for kind, findings in verdict.examples.items()
        },
        "histories": {str(index): life(outcome, index, lived, events) for index, lived in outcome.histories.items()},
        "series": _series(outcome.series),
        "connector": [{"at": one.at, "cpu": one.cpu, "memory": one.memory} for one in outcome.samples],
    }


def troubles(outcome: Outcome) -> dict[str, int]:
    """Count the troubles that were carried out."""
    kinds = (Trouble.TOKEN, Trouble.GARBAGE, Trouble.CUT, Trouble.SLOW)
    return {
        one.name.lower(): sum(effort.troubles.get(one.name.lower(), 0) for effort in outcome.efforts) for one in kinds
    }


def _named(answers: dict[int, int]) -> dict[str, int]:
    return {STATUS_NAMES.get(status, str(status)): count for status, count in sorted(answers.items())}


def scenario_facts(outcome: Outcome) -> dict[str, Any]:
    """Give what is needed to repeat the run, without the token."""
    setting, scenario = outcome.setting, outcome.setting.scenario
    return {
        "seed": scenario.seed,
        "urls": [endpoint.url for endpoint in scenario.endpoints],
        "events": scenario.plan.events,
        "subscribers": scenario.subscribers,
        "flavour": scenario.flavour,
        "perl": scenario.perl,
        "arrivals": scenario.plan.arrivals,
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
        },
        "order_by": sorted(setting.order_by),
        "newest_wins": setting.promises.newest_wins,
    }


def life(outcome: Outcome, index: int, lived: History, events: Events) -> dict[str, Any]:
    """Tell what happened to one event, step by step; times are seconds of the run."""
    scenario, start = outcome.setting.scenario, outcome.start
    steps: list[tuple[float, str]] = []
    for attempt in lived.attempts:
        number = attempt.attempt
        trouble = "" if attempt.trouble == Trouble.NONE else f" ({Trouble(attempt.trouble).name.lower()})"
        replica = f" to replica {attempt.endpoint + 1}" if len(scenario.endpoints) > 1 else ""
        steps.append((attempt.sent - start, f"attempt {number} sent{replica}{trouble}"))
        word = STATUS_NAMES.get(attempt.status, f"answered {attempt.status}")
        steps.append((attempt.ended - start, f"attempt {number}: {word}"))
    for number, call in enumerate(sorted(lived.deliveries), 1):
        body = "" if call.body in {Body.SAME, Body.NOT_COMPARED} else f", body {BODY_WORDS[Body(call.body)]}"
        steps.append((call.arrived - start, f"call {number} to the target{body}"))
        steps.append((call.ended - start, f"call {number}: {OUTCOMES[call.outcome]}"))
    if not scenario.closed:
        steps.append((scenario.plan.due()(index), "planned"))
    named = events.describe(index)
    return {
        **named,
        "index": index,
        "steps": [{"at": round(at, 6), "what": what} for at, what in sorted(steps, key=lambda step: step[0])],
        "differences": lived.differences,
        "again": shlex.join(["--seed", str(scenario.seed), "--only", str(named["subscriber"])]),
    }


def _example(finding: Finding, events: Events, start: float) -> dict[str, Any]:
    known = finding.event != NO_EVENT
    return {
        "index": finding.event if known else None,
        **(events.describe(finding.event) if known else {"event_id": None}),
        "at": None if math.isnan(finding.at) else finding.at - start,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _span(histogram: Histogram) -> dict[str, Any]:
    return {
        "count": histogram.count,
        **{name: _number(value) for name, value in histogram.quantiles().items()},
        "distribution": histogram.steps(),
    }


def _series(series: Series) -> dict[str, Any]:
    return asdict(series) | {
        "latency": {name: [_number(value) for value in values] for name, values in series.latency.items()}
    }


def write_json(outcome: Outcome, path: Path, about: About) -> None:
    """Write the report for machines."""
    path.write_bytes(orjson.dumps(document(outcome, about), option=orjson.OPT_INDENT_2))


def write_ledger(outcome: Outcome, path: Path) -> None:
    """Write a line for each event: planned, sent, attempts, answer, accepted, when the target saw it, how
    often, how often it refused.

    Times are seconds of the run, null for never.
    """
    scenario = outcome.setting.scenario
    events = scenario.events()
    due = None if scenario.closed else scenario.plan.due()

    def since(moment: float) -> float | None:
        return None if math.isnan(moment) else round(moment - outcome.start, 6)

    with path.open("wb") as file:
        for entry in outcome.ledger.entries():
            line = {
                **events.describe(entry.event),
                "planned": None if due is None else round(due(entry.event), 6),
                "sent": since(entry.sent),
                "attempts": entry.attempts,
                "answer": STATUS_NAMES.get(entry.status, entry.status) if entry.attempts else None,
                "accepted": since(entry.accepted),
                "target_saw": since(entry.seen),
                "target_times": entry.times,
                "target_refused": entry.refused,
            }
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
