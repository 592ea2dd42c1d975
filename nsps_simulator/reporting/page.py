"""The outcome of a run as one HTML page that needs nothing else: inline style and SVG, light and dark, no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from nsps_simulator.judging.course import QUANTILES
from nsps_simulator.judging.ledger import BROKE, BROKEN, CLEAN, NONE, NOTED
from nsps_simulator.reporting.plots import Band, Line, chart, short, steps
from nsps_simulator.reporting.report import (
    SPAN_NAMES,
    STATUS_NAMES,
    About,
    generator_words,
    judged,
    life,
    scenario_facts,
    troubles,
)
from nsps_simulator.reporting.terminal import milliseconds
from nsps_simulator.running.conduct import Outcome
from nsps_simulator.running.faults import KILL, STOP, TERM

STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1c2330;--dim:#667085;--rule:#e4e7ec;
--c1:#2563eb;--c2:#0e9f6e;--c3:#d97706;--c4:#9333ea;--c5:#dc2626;
--good:#067647;--goodbg:#d9f5e5;--warn:#8a5a00;--warnbg:#fdf0cf;--bad:#b42318;--badbg:#fde4e1}
@media(prefers-color-scheme:dark){:root{--bg:#0f141b;--card:#171e28;--ink:#e6eaf0;--dim:#93a0b4;--rule:#2a3442;
--c1:#6ea8fe;--c2:#3ddc97;--c3:#fbb04d;--c4:#c792ea;--c5:#ff7b72;
--good:#5fe0a5;--goodbg:#123524;--warn:#f0c674;--warnbg:#3a2f14;--bad:#ff9a92;--badbg:#431a19}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1200px;margin:0 auto;padding:28px 20px 48px}h1{font-size:24px;margin:0}
h2{font-size:15px;margin:0 0 2px}
header{display:flex;flex-wrap:wrap;gap:8px 16px;align-items:center}
header p{flex-basis:100%;margin:0;color:var(--dim);overflow-wrap:anywhere}
.badge{font-weight:600;padding:3px 14px;border-radius:99px}
.badge.good{color:var(--good);background:var(--goodbg)}.badge.bad{color:var(--bad);background:var(--badbg)}
.grid{display:grid;gap:14px;margin-top:14px}.tiles{grid-template-columns:repeat(auto-fit,minmax(160px,1fr))}
.plots{grid-template-columns:repeat(auto-fit,minmax(min(100%,500px),1fr))}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px;min-width:0}
.stack{display:grid;gap:14px;align-content:start;min-width:0}
.tile b{display:block;font-size:23px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span,.note{color:var(--dim);font-size:13px}
svg{width:100%;height:auto;display:block}svg .rule{stroke:var(--rule)}.tick{fill:var(--dim);font-size:11px}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.area{opacity:.14}.band{opacity:.2}
.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}
.line.c4{stroke:var(--c4)}.line.c5{stroke:var(--c5)}
.area.c1{fill:var(--c1)}.area.c3{fill:var(--c3)}.area.c4{fill:var(--c4)}.band.c5{fill:var(--c5)}.band.c0{fill:var(--dim)}.band.c3{fill:var(--c3)}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;color:var(--dim);font-size:13px;margin-bottom:4px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;vertical-align:-1px}
i.c1{background:var(--c1)}i.c2{background:var(--c2)}i.c3{background:var(--c3)}i.c4{background:var(--c4)}
i.c5{background:var(--c5)}i.band{opacity:.35}i.c0{background:var(--dim)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}
td,th{padding:5px 0;border-top:1px solid var(--rule);text-align:left;font-weight:400;vertical-align:top}
tr:first-child>*{border-top:0}th{color:var(--dim)}
td+td,th+th{text-align:right;font-variant-numeric:tabular-nums;padding-left:14px}
.tight{font-size:13px}.tight td,.name{white-space:nowrap}td.bad{color:var(--bad);font-weight:600}
td.good{color:var(--good);font-weight:600}td.dim{color:var(--dim)}td.count{white-space:nowrap}td .note{font-weight:400}
.badge.warn{color:var(--warn);background:var(--warnbg)}
.hover:hover{fill:var(--dim);opacity:.12}.hover{fill:transparent}
.line.back{stroke-width:1.2;opacity:.55}
code{font:12.5px/1.5 ui-monospace,"DejaVu Sans Mono",monospace;overflow-wrap:anywhere}
details{margin-top:6px}summary{cursor:pointer}details table{margin:6px 0 10px}a{color:var(--c1)}
:target{outline:2px solid var(--c1);outline-offset:3px}
@media(max-width:520px){main{padding:16px 10px 32px}.card{padding:12px}h1{font-size:20px}
.tiles{grid-template-columns:repeat(2,minmax(0,1fr))}.tile b{font-size:19px}.tick{font-size:15px}}
"""

# How a kind of fault is marked behind the curves.
BANDS = {KILL: "c5", TERM: "c5", STOP: "c3"}


def write_page(outcome: Outcome, path: Path, about: About) -> None:
    """Write the page."""
    path.write_text(page(outcome, about), encoding="utf-8")


def page(outcome: Outcome, about: About) -> str:
    """Render the page."""
    word = outcome.verdict.word
    text = {BROKE: "promises broken", CLEAN: "clean, but a requirement was missed" if about.missed else CLEAN}.get(
        word, word
    )
    tint = {BROKE: "bad", CLEAN: "warn" if about.missed else "good"}.get(word, "warn")
    reason = outcome.verdict.cut_short if word == NONE else outcome.end.died
    facts = scenario_facts(outcome)
    loop = (
        f"closed loop, {facts['closed_loop_connections']} connections"
        if facts["closed_loop_connections"]
        else f"open loop, {facts['arrivals']} arrivals"
    )
    shown = (
        f"{about.date} · {', '.join(facts['urls'])} · seed {facts['seed']} · {facts['subscribers']:,} subscribers · "
        f"{loop} · {outcome.seconds:,.0f} s · time scale {facts['time_scale']:g}"
    )
    versions = " · ".join(f"{name} {number}" for name, number in about.versions.items())
    left = _promises(outcome) + _requirements(about) + _answers(outcome)
    right = _times(outcome) + _setting(outcome)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>NSPS simulator: {escape(text)}</title><style>{STYLE}</style></head><body><main>"
        f'<header><h1>NSPS simulator</h1><span class="badge {tint}">{escape(text)}</span>'
        + (f"<p>{escape(reason)}</p>" if reason else "")
        + f"<p>{escape(shown)}</p><p><code>{escape(about.command)}</code></p><p>{escape(versions)}</p></header>"
        f"{_tiles(outcome)}{_plots(outcome)}"
        f'<div class="grid plots"><div class="stack">{left}</div><div class="stack">{right}</div></div>'
        f"{_lives(outcome)}</main></body></html>\n"
    )


def _tiles(outcome: Outcome) -> str:
    verdict, rates = outcome.verdict, outcome.rates
    answer, forwarding = outcome.spans.of["answer"].quantiles(), outcome.spans.of["forwarding"].quantiles()
    tiles = [
        (f"{verdict.accepted:,}", f"accepted of {verdict.sent:,} sent"),
        (
            f"{rates.accepted:,.0f}/s",
            f"accepted of {rates.offered:,.0f}/s offered, by the second {rates.lowest:,.0f} to {rates.highest:,.0f}",
        ),
        (milliseconds(answer["p99"]), f"p99 of answers, p50 {milliseconds(answer['p50'])}"),
    ]
    if verdict.forwards:
        open_words = f", {verdict.found['undelivered']:,} not yet" if verdict.found["undelivered"] else ""
        tiles.append((f"{verdict.delivered:,}", f"told to the external system{open_words}"))
        tiles.append((milliseconds(forwarding["p50"]), f"from 2xx to target, p99 {milliseconds(forwarding['p99'])}"))
    tiles.append((f"{verdict.attempts - verdict.sent:,}", f"retries, {len(outcome.disturbances)} faults made"))
    cells = (f'<div class="card tile"><b>{value}</b><span>{escape(words)}</span></div>' for value, words in tiles)
    return f'<div class="grid tiles">{"".join(cells)}</div>'


def _plots(outcome: Outcome) -> str:
    series = outcome.series
    bands = [
        Band(one.began, one.ended if one.ready is None else one.ready, BANDS.get(one.kind, "c0"), one.words)
        for one in outcome.disturbances
    ]
    thousand = {name: [value * 1000 for value in values] for name, values in series.latency.items()}
    rate = [Line("offered", "c3", series.offered), Line("accepted", "c1", series.accepted)]
    backlog = [Line("at NSPS, not yet accepted", "c3", series.waiting_at_nsps, filled=True)]
    trouble = [Line("refused or unanswered", "c5", series.refused), Line("retries", "c4", series.retries)]
    if outcome.verdict.forwards:
        rate.append(Line("delivered", "c2", series.delivered))
        backlog.append(Line("in the connector, not yet delivered", "c1", series.waiting_in_connector, filled=True))
        trouble.append(Line("refused by the target", "c3", series.target_refused))
    latency = [
        *(Line("max", "c3", thousand["max"], back=True), Line("p50", "c2", thousand["p50"])),
        *(Line("p95", "c1", thousand["p95"]), Line("p99", "c4", thousand["p99"])),
    ]
    cards = [
        _plot("Rates", series.times, rate, bands, "events/s"),
        _plot("Latency of answers, from the planned time", series.times, latency, bands, "ms", log=True),
        _plot("Backlog", series.times, backlog, bands, "events"),
        _plot("Refusals and retries", series.times, trouble, bands, "per second"),
        _distribution(outcome),
    ]
    cards += _machine(outcome, bands)
    return f'<div class="grid plots">{"".join(cards)}</div>'


def _machine(outcome: Outcome, bands: Sequence[Band]) -> list[str]:
    """Draw what the connectors used, when they were started here."""
    samples = [one for one in outcome.samples if one.at >= 0]
    if not outcome.setting.commands or len(samples) < 8:
        return []
    every = max(1, len(samples) // 200)
    samples = samples[::every]
    times = [one.at for one in samples[1:]]
    used = [max(0.0, (now.cpu - then.cpu) / max(1e-9, now.at - then.at)) for then, now in pairwise(samples)]
    memory = [one.memory / 1e6 for one in samples[1:]]
    return [
        _plot("Connector: processor", times, [Line("cores", "c1", used, filled=True)], bands, "cores"),
        _plot("Connector: memory", times, [Line("resident", "c4", memory, filled=True)], bands, "MB"),
    ]


def _distribution(outcome: Outcome) -> str:
    """Draw the distribution of the latencies, far out to the tail."""
    drawn = [
        (name, colour, [(share, value * 1000) for value, share in outcome.spans.of[span].steps()])
        for span, name, colour in (
            ("answer", "attempt due → its end", "c1"),
            ("acceptance", "event due → accepted", "c4"),
            ("forwarding", "accepted → told target", "c2"),
        )
        if outcome.spans.of[span].count
    ]
    legend = "".join(f'<span><i class="{colour}"></i>{escape(name)}</span>' for name, colour, _ in drawn)
    return (
        f'<section class="card"><h2>Distribution of the times</h2><div class="legend">{legend}</div>'
        f"{steps(drawn, 'ms')}</section>"
    )


def _plot(
    title: str,
    times: Sequence[float],
    lines: Sequence[Line],
    bands: Sequence[Band],
    unit: str,
    *,
    log: bool = False,
) -> str:
    marks = [(line.colour, line.name) for line in lines]
    marks += sorted({(f"band {band.colour}", band.words) for band in bands})
    legend = "".join(f'<span><i class="{colour}"></i>{escape(name)}</span>' for colour, name in marks)
    drawn = chart(times, lines, bands, unit, log=log)
    return f'<section class="card"><h2>{title}</h2><div class="legend">{legend}</div>{drawn}</section>'


def _promises(outcome: Outcome) -> str:
    verdict = outcome.verdict
    rows = []
    for kind, words in BROKEN.items():
        how = judged(outcome, kind)
        tint = "bad" if verdict.found[kind] else "good" if how == "0" else "dim"
        tried = f' <span class="note">of {verdict.tried[kind]:,}</span>' if how == "0" else ""
        rows.append((words, f'<td class="{tint} count">{_linked(outcome, kind, how)}{tried}</td>'))
    rows += [
        (words, f"<td>{_linked(outcome, kind, f'{verdict.found[kind]:,}')}</td>")
        for kind, words in NOTED.items()
        if verdict.found[kind]
    ]
    body = "".join(f"<tr><td>{escape(words)}</td>{cell}</tr>" for words, cell in rows)
    return f'<section class="card"><h2>Promises, and what was noted</h2><table>{body}</table></section>'


def _linked(outcome: Outcome, kind: str, text: str) -> str:
    """Let a number lead to its events."""
    shown = any(finding.event in outcome.histories for finding in outcome.verdict.examples.get(kind, ()))
    return f'<a href="#{kind}">{text}</a>' if shown else text


def _lives(outcome: Outcome) -> str:
    """Tell the lives of the events behind each number."""
    events = outcome.setting.scenario.events()
    sections = []
    for kind, words in (BROKEN | NOTED).items():
        told = [one.event for one in outcome.verdict.examples.get(kind, ()) if one.event in outcome.histories]
        if not told:
            continue
        number = outcome.verdict.found[kind]
        first = "" if number == len(told) else f", the first {len(told)} of {number:,}"
        parts = "".join(_life(life(outcome, index, outcome.histories[index], events)) for index in dict.fromkeys(told))
        sections.append(f'<section class="card" id="{kind}"><h2>{escape(words)}{first}</h2>{parts}</section>')
    return f'<div class="grid">{"".join(sections)}</div>' if sections else ""


def _life(told: dict[str, Any]) -> str:
    rows = "".join(
        f'<tr><td class="name">{step["at"]:,.3f} s</td><td>{escape(step["what"])}</td></tr>' for step in told["steps"]
    )
    wrong = "".join(f'<p class="note">{escape(one)}</p>' for one in told["differences"][:5])
    named = ", ".join(
        f"{name} {told[name]}" for name in ("i_env", "i_account", "imsi", "previous_imsi") if name in told
    )
    return (
        f"<details><summary>{escape(str(told['event_type']))} <code>{told['event_id']}</code></summary>"
        f'<p class="note">{escape(named)}; again, this subscriber alone: <code>{escape(told["again"])}</code></p>'
        f"{wrong}<table>{rows}</table></details>"
    )


def _requirements(about: About) -> str:
    if not about.wanted:
        return ""
    rows = "".join(
        f'<tr><td>{escape(one.text)}</td><td class="{"bad" if one in about.missed else "good"}">'
        f"{'missed' if one in about.missed else 'met'}</td></tr>"
        for one in about.wanted
    )
    return f'<section class="card"><h2>Requirements</h2><table>{rows}</table></section>'


def _times(outcome: Outcome) -> str:
    names = list(QUANTILES)
    head = "<th></th>" + "".join(f"<th>{name}</th>" for name in names)
    rows = ""
    for span, histogram in outcome.spans.of.items():
        if histogram.count:
            values = histogram.quantiles()
            cells = "".join(f"<td>{milliseconds(values[name])}</td>" for name in names)
            rows += f"<tr><td>{SPAN_NAMES[span].strip()}</td>{cells}</tr>"
    return (
        '<section class="card"><h2>How long it took</h2><div class="scroll">'
        f'<table class="tight"><tr>{head}</tr>{rows}</table></div>'
        f'<p class="note">{escape(generator_words(outcome))}</p></section>'
    )


def _answers(outcome: Outcome) -> str:
    verdict = outcome.verdict
    rows: list[tuple[str, str]] = [
        (f"answer {STATUS_NAMES.get(status, status)}", f"{count:,}")
        for status, count in sorted(verdict.answers.items())
    ]
    rows += [
        (f"to garbage: {STATUS_NAMES.get(status, status)}", f"{count:,}")
        for status, count in sorted(verdict.garbage_answers.items())
    ]
    for one in outcome.disturbances:
        lasted = (
            f"at {one.began:.1f} s" if one.ended - one.began < 0.05 else f"from {one.began:.1f} to {one.ended:.1f} s"
        )
        back = "" if one.ready is None else f", ready again at {one.ready:.1f} s"
        rows.append((one.words, lasted + back))
    return _facts("Answers and faults", rows)


def _setting(outcome: Outcome) -> str:
    facts = scenario_facts(outcome)
    chaos = ", ".join(f"{name.replace('_', ' ')} {share:.2%}" for name, share in facts["chaos"].items() if share)
    carried = ", ".join(f"{name} {count:,}" for name, count in troubles(outcome).items() if count)
    mood = facts["target"]
    target = [f"latency {mood['latency'] * 1000:g} ms"]
    target += [f"{mood['rate']:g}/s at the most"] if mood["rate"] else []
    target += [f"{mood['flaky']:.1%} refused"] if mood["flaky"] else []
    profile = [f"{one['seconds']:.3g} s at {short(one['from'])}→{short(one['to'])}/s" for one in facts["profile"]]
    rows = [
        ("events planned", f"{facts['events']:,}"),
        ("profile", "; ".join(profile[:6]) + ("; …" if len(profile) > 6 else "")),
        ("kind of events", facts["flavour"] + (f", {facts['perl']:.0%} with Perl's types" if facts["perl"] else "")),
        ("chaos", chaos or "none"),
        ("troubles made", carried or "none"),
        ("external system", ", ".join(target) if outcome.verdict.forwards else "none"),
        ("order judged by", ", ".join(facts["order_by"])),
    ]
    return _facts("The scenario", rows)


def _facts(title: str, rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f'<tr><td class="name">{escape(name)}</td><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<section class="card"><h2>{title}</h2><table>{body}</table></section>'
