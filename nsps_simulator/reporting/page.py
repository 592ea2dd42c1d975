"""The outcome of a run as one HTML page that needs nothing else: inline style, inline SVG, light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from nsps_simulator.judging.ledger import BROKEN, NOTED
from nsps_simulator.reporting.plots import Band, Line, chart, short
from nsps_simulator.reporting.report import (
    SPAN_NAMES,
    STATUS_NAMES,
    generator_words,
    milliseconds,
    rates,
    scenario_facts,
)
from nsps_simulator.running.conduct import Outcome

STYLE = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1c2330;--dim:#667085;--rule:#e4e7ec;
--c1:#2563eb;--c2:#0e9f6e;--c3:#d97706;--c4:#9333ea;--c5:#dc2626;
--good:#067647;--goodbg:#d9f5e5;--bad:#b42318;--badbg:#fde4e1}
@media(prefers-color-scheme:dark){:root{--bg:#0f141b;--card:#171e28;--ink:#e6eaf0;--dim:#93a0b4;--rule:#2a3442;
--c1:#6ea8fe;--c2:#3ddc97;--c3:#fbb04d;--c4:#c792ea;--c5:#ff7b72;
--good:#5fe0a5;--goodbg:#123524;--bad:#ff9a92;--badbg:#431a19}}
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
.area.c1{fill:var(--c1)}.area.c3{fill:var(--c3)}.band.c5{fill:var(--c5)}.band.c0{fill:var(--dim)}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;color:var(--dim);font-size:13px;margin-bottom:4px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;vertical-align:-1px}
i.c1{background:var(--c1)}i.c2{background:var(--c2)}i.c3{background:var(--c3)}i.c4{background:var(--c4)}
i.c5{background:var(--c5)}i.band{opacity:.35}i.c0{background:var(--dim)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}
td,th{padding:5px 0;border-top:1px solid var(--rule);text-align:left;font-weight:400;vertical-align:top}
tr:first-child>*{border-top:0}th{color:var(--dim)}
td+td,th+th{text-align:right;font-variant-numeric:tabular-nums;padding-left:14px}
.tight{font-size:13px}.tight td,.name{white-space:nowrap}td.bad{color:var(--bad);font-weight:600}
td.good{color:var(--good);font-weight:600}
"""


BEHIND = {"c0": "target down", "c5": "connector killed"}


def write_page(outcome: Outcome, path: Path) -> None:
    """Write the page."""
    path.write_text(page(outcome), encoding="utf-8")


def page(outcome: Outcome) -> str:
    """Render the page."""
    word = outcome.verdict.word
    text = "promises broken" if word == "broken" else word
    badge = f'<span class="badge {"good" if word == "clean" else "bad"}">{text}</span>'
    facts = scenario_facts(outcome)
    loop = (
        f"closed loop, {facts['closed_loop_connections']} connections"
        if facts["closed_loop_connections"]
        else "open loop"
    )
    about = (
        f"{facts['url']} · seed {facts['seed']} · {facts['subscribers']:,} subscribers · {loop} · "
        f"{outcome.seconds:,.0f} s · time scale {facts['time_scale']:g}"
    )
    title = f"NSPS simulator: {word}"
    left, right = _promises(outcome) + _answers(outcome), _times(outcome) + _setting(outcome)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>"
        f"<header><h1>NSPS simulator</h1>{badge}<p>{escape(about)}</p></header>"
        f"{_tiles(outcome)}{_plots(outcome)}"
        f'<div class="grid plots"><div class="stack">{left}</div><div class="stack">{right}</div></div>'
        "</main></body></html>\n"
    )


def _tiles(outcome: Outcome) -> str:
    verdict, speed = outcome.verdict, rates(outcome)
    answer, forwarding = outcome.spans["answer"], outcome.spans["forwarding"]
    tiles = [
        (f"{verdict.accepted:,}", f"accepted of {verdict.sent:,} sent"),
        (f"{speed['best_accepted_per_second']:,.0f}/s", "best accepted rate held"),
        (milliseconds(answer["p99"]), f"p99 of answers, p50 {milliseconds(answer['p50'])}"),
    ]
    if verdict.forwards:
        tiles.append((f"{verdict.delivered:,}", "told to the external system"))
        tiles.append((milliseconds(forwarding["p50"]), f"from 2xx to target, p99 {milliseconds(forwarding['p99'])}"))
    tiles.append((f"{verdict.attempts - verdict.sent:,}", f"retries, {len(outcome.kills)} kills"))
    cells = (f'<div class="card tile"><b>{value}</b><span>{escape(words)}</span></div>' for value, words in tiles)
    return f'<div class="grid tiles">{"".join(cells)}</div>'


def _plots(outcome: Outcome) -> str:
    series = outcome.series
    bands = [Band(begin, end, "c0") for begin, end in outcome.setting.mood.down]
    bands += [Band(kill.began, kill.ended if kill.ready is None else kill.ready, "c5") for kill in outcome.kills]
    thousand = {name: [value * 1000 for value in values] for name, values in series.latency.items()}
    rate = [Line("offered", "c3", series.offered), Line("accepted", "c1", series.accepted)]
    backlog = [Line("at NSPS, not yet accepted", "c3", series.waiting_at_nsps, filled=True)]
    trouble = [Line("refused or unanswered", "c5", series.refused), Line("retries", "c4", series.retries)]
    if outcome.verdict.forwards:
        rate.append(Line("delivered", "c2", series.delivered))
        backlog.append(Line("in the connector, not yet delivered", "c1", series.waiting_in_connector, filled=True))
        trouble.append(Line("refused by the target", "c3", series.target_refused))
    latency = [
        *(Line("p50", "c2", thousand["p50"]), Line("p95", "c1", thousand["p95"])),
        *(Line("p99", "c4", thousand["p99"]), Line("max", "c3", thousand["max"])),
    ]
    cards = (
        _plot("Rates", series.times, rate, bands, "events/s"),
        _plot("Latency of answers, from the planned time", series.times, latency, bands, "ms", log=True),
        _plot("Backlog", series.times, backlog, bands, "events"),
        _plot("Refusals and retries", series.times, trouble, bands, "per second"),
    )
    return f'<div class="grid plots">{"".join(cards)}</div>'


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
    behind = {band.colour for band in bands}
    marks += [(f"band {colour}", name) for colour, name in BEHIND.items() if colour in behind]
    legend = "".join(f'<span><i class="{colour}"></i>{escape(name)}</span>' for colour, name in marks)
    drawn = chart(times, lines, bands, unit, log=log)
    return f'<section class="card"><h2>{title}</h2><div class="legend">{legend}</div>{drawn}</section>'


def _promises(outcome: Outcome) -> str:
    verdict = outcome.verdict
    rows = []
    for kind, words in BROKEN.items():
        count = verdict.found[kind]
        judged = verdict.forwards or kind in {"let_in", "garbage_accepted"}
        tint = "bad" if count else "good"
        rows.append((words, f'<td class="{tint}">{f"{count:,}" if judged else "not judged"}</td>'))
    rows += [(words, f"<td>{verdict.found[kind]:,}</td>") for kind, words in NOTED.items() if verdict.found[kind]]
    body = "".join(f"<tr><td>{escape(words)}</td>{cell}</tr>" for words, cell in rows)
    return f'<section class="card"><h2>Promises, and what was noted</h2><table>{body}</table></section>'


def _times(outcome: Outcome) -> str:
    names = list(outcome.spans["answer"])
    head = "<th></th>" + "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{SPAN_NAMES[span]}</td>"
        + "".join(f"<td>{milliseconds(values[name])}</td>" for name in names)
        + "</tr>"
        for span, values in outcome.spans.items()
        if not math.isnan(values["p50"])
    )
    return (
        '<section class="card"><h2>How long it took</h2><div class="scroll">'
        f'<table class="tight"><tr>{head}</tr>{rows}</table></div>'
        f'<p class="note">{escape(generator_words(outcome))}</p></section>'
    )


def _answers(outcome: Outcome) -> str:
    rows: list[tuple[str, str]] = [
        (f"answer {STATUS_NAMES.get(status, status)}", f"{count:,}")
        for status, count in sorted(outcome.verdict.answers.items())
    ]
    for number, kill in enumerate(outcome.kills, 1):
        back = "never ready again" if kill.ready is None else f"ready after {kill.ready - kill.ended:.1f} s"
        rows.append((f"kill {number}", f"at {kill.began:.1f} s, {back}"))
    return _facts("Answers and kills", rows)


def _setting(outcome: Outcome) -> str:
    facts = scenario_facts(outcome)
    chaos = ", ".join(f"{name.replace('_', ' ')} {share:.2%}" for name, share in facts["chaos"].items() if share)
    mood = facts["target"]
    target = [f"latency {mood['latency'] * 1000:g} ms"]
    target += [f"{mood['rate']:g}/s at the most"] if mood["rate"] else []
    target += [f"{mood['flaky']:.1%} refused"] if mood["flaky"] else []
    target += [f"down {begin:g}–{end:g} s" for begin, end in mood["down"]]
    profile = [f"{one['seconds']:.3g} s at {short(one['from'])}→{short(one['to'])}/s" for one in facts["profile"]]
    rows = [
        ("events planned", f"{facts['events']:,}"),
        ("profile", "; ".join(profile[:6]) + ("; …" if len(profile) > 6 else "")),
        ("kind of events", facts["flavour"]),
        ("chaos", chaos or "none"),
        ("external system", ", ".join(target) if outcome.verdict.forwards else "none"),
    ]
    return _facts("The scenario", rows)


def _facts(title: str, rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f'<tr><td class="name">{escape(name)}</td><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<section class="card"><h2>{title}</h2><table>{body}</table></section>'
