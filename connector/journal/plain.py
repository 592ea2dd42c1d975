"""An operator's questions, answered by looking through series in memory: for engines without a database."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from connector.journal.queries import (
    OPEN,
    Attempt,
    AttemptsOf,
    Blocked,
    BodyOf,
    CountFound,
    Filter,
    Find,
    FindBlocked,
    IdsThatBegin,
    Query,
    ReadStats,
    Series,
    SeriesOf,
    Stats,
    StepsOf,
    StepTaken,
    TargetAway,
    totals,
)
from connector.outcome import Step


class Past(NamedTuple):
    """A series, its attempts that failed, what its handlers have done, and the body as it came."""

    series: Series
    failed: Sequence[Attempt]
    steps: Mapping[str, Step]
    body: bytes


class Delivery(NamedTuple):
    """What is no series: whether delivery is paused, why the target is unavailable, and the counters."""

    paused: bool
    target_away: TargetAway | None
    counts: Mapping[str, int]


def answer(query: Query[Any], past: Sequence[Past], delivery: Delivery) -> Any:
    """As ``Journal.ask``; ``past`` in the order of acceptance."""
    match query:
        case Find(wanted=wanted, limit=limit, oldest_first=oldest_first):
            found = _found(past, wanted)
            return (found if oldest_first else found[::-1])[:limit]
        case CountFound(wanted=wanted):
            return dict(Counter(f"{each.event_type} {each.state}" for each in _found(past, wanted)))
        case SeriesOf(event_id=event_id):
            return [each.series for each in reversed(past) if each.series.event_id == event_id]
        case IdsThatBegin(beginning=beginning, limit=limit):
            ids = {each.series.event_id for each in past}
            return sorted(each for each in ids if each.startswith(beginning))[:limit]
        case AttemptsOf(seq=seq):
            return [attempt for each in past if each.series.seq == seq for attempt in each.failed]
        case StepsOf(seq=seq):
            steps = (step for each in past if each.series.seq == seq for step in each.steps.values())
            return [StepTaken(each.handler, each.state, each.attempts, each.ms, each.reason) for each in steps]
        case BodyOf(seq=seq):
            return next((each.body for each in past if each.series.seq == seq), b"")
        case FindBlocked(limit=limit):
            return list(islice(_blocked(past), limit))
        case ReadStats():
            return _stats([each.series for each in past if each.series.state in OPEN], delivery)
        case _:
            raise TypeError(f"{type(query).__name__} is not a question that this journal knows")


def bears(resources: Sequence[str], name: str) -> bool:
    """Whether one of the resources has this name, whole or without its kind and its environment."""
    whole = (text for each in resources for text in (each, each.partition(":")[2]))
    return any(name in (text, text.partition("@")[0]) for text in whole)


def _found(past: Sequence[Past], wanted: Filter) -> list[Series]:
    replaced = {each.series.earlier for each in past} if wanted.latest else set()
    return [each.series for each in past if each.series.seq not in replaced and _fits(each.series, wanted)]


def _fits(series: Series, wanted: Filter) -> bool:
    return (
        wanted.state in (None, series.state)
        and wanted.event_type in (None, series.event_type)
        and wanted.event_id in (None, series.event_id)
        and series.event_id.startswith(wanted.id_begins or "")
        and (wanted.resource is None or bears(series.resources, wanted.resource))
        and (wanted.since is None or series.accepted_at >= wanted.since)
        and (wanted.until is None or series.accepted_at < wanted.until)
        and (wanted.text is None or wanted.text.lower() in series.reason.lower())
    )


def _blocked(past: Sequence[Past]) -> list[Blocked]:
    """The events that wait for their retry or are held, the longest blocked first."""
    found = []
    for place, each in enumerate(past):
        series = each.series
        if series.state in OPEN and series.state != "pending":
            since = each.failed[0].ended_at if each.failed else series.accepted_at
            found.append(
                Blocked(
                    series.resources, series.event_id, series.event_type, series.state, since, series.due,
                    series.attempts, series.reason, _behind(series, past[place + 1 :]),
                )
            )  # fmt: skip
    return sorted(found, key=lambda blocked: blocked.since)


def _behind(series: Series, later: Sequence[Past]) -> int:
    """How many of the later events wait for this one, directly or in turn."""
    count, touched = 0, set(series.resources)
    for each in later:
        if each.series.state in OPEN and not touched.isdisjoint(each.series.resources):
            count += 1
            touched.update(each.series.resources)
    return count


def _stats(series: Sequence[Series], delivery: Delivery) -> Stats:
    states = Counter(each.state for each in series)
    return Stats(
        paused=delivery.paused,
        target_away=delivery.target_away,
        open={state: states[state] for state in OPEN},
        oldest_open_at=series[0].accepted_at if series else None,
        total=totals(delivery.counts),
    )
