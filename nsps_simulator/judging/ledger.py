"""The verdict: what the connector promised by its answers, held against what the external system was told.

Pure: it is given every attempt and every delivery, in any order, and says what was broken.

How order is judged. Several requests are under way at once, and a refused event comes again after newer ones, so
the connector may rightly accept events in another order than the planned one. Event A counts as accepted before
event B only when the 2xx of A had been read before B was first sent: then, and only then, and only if both touch
the same resource, must A be applied before B. What overlapped is never held against anyone.

How a repeat is judged. At least once is what can be promised, so a repeat has a cause when the connector was
disturbed around the first delivery (killed, stopped, cut off from the target or from its database), or when the
answer to that delivery was lost. Any other repeat has none.

How a loss is judged. An accepted event of which the target was not told may still be waiting for its next attempt,
and then it is *undelivered*, which is no finding. It is *lost* only with evidence, which is one of these:

1. an event of the same resource that was accepted later was applied, so the connector has passed it over. (If the
   target had refused the event `give_up_after` times, the connector has given it up as a dead letter, which is
   noted and breaks nothing.)
2. the connector itself says that no event is open.
3. the connector was silent for its whole time to settle, and nothing excuses the event. It is excused when the
   target refused its last call; when it was open while calls of the connector could fail unseen (target down,
   connection cut); when an excused event of the same resource stands before it; and when the very last call of the
   run was refused, since the connector may then have paused delivery as a whole.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nsps_simulator.records import (
    APPLIED,
    LEAKED,
    NO_ANSWER,
    NO_EVENT,
    NOT_SENT,
    REFUSED,
    UNANSWERED,
    Attempt,
    Body,
    Delivery,
)
from nsps_simulator.wire.chaos import Trouble

EXAMPLES = 20  # events listed by name for each kind of finding

# What breaks a promise, and how a person would say it.
BROKEN = {
    "lost": "accepted, and never told to the external system",
    "repeated": "applied again without a cause",
    "out_of_order": "applied after an event of the same resource that was accepted later",
    "overlapped": "applied at the same time as an earlier one of the same resource",
    "stale": "an older event applied again after a newer one",
    "altered": "told with a field missing, added or changed",
    "stale_body": "told with an older snapshot under a new id",
    "empty_body": "told with an empty body",
    "mixed_up": "told with another event's body",
    "let_in": "accepted with a wrong token",
    "garbage_accepted": "accepted though it was no event",
    "garbage_error": "answered with an error of its own (5xx) to what was no event",
    "leaked": "answered with data of another event",
    "died": "the connector ended by itself",
}
# What is worth knowing and breaks none.
NOTED = {
    "refused_then_accepted": "refused or unanswered at first, accepted later",
    "never_accepted": "refused until the end of the run",
    "undelivered": "accepted, and not yet told to the external system at the end of the run",
    "given_up": "given up after the external system had refused it again and again",
    "repeated_around_fault": "applied again, around a fault that was made",
    "repeated_unanswered": "applied again, for the answer of the external system was lost",
    "stale_by_retry": "an older event applied after a newer one, in the order of acceptance",
    "superseded": "not applied, for a newer one was",
    "unpromised": "applied though the acceptance was never read",
    "garbage_unanswered": "no answer to what was no event",
    "foreign": "calls that name no event of this run",
}
_BODIES = {
    Body.EMPTY: "empty_body",
    Body.MIXED_UP: "mixed_up",
    Body.STALE: "stale_body",
    Body.ALTERED: "altered",
}
# What can be judged by the answers alone, without a target.
OF_ANSWERS = frozenset({"let_in", "garbage_accepted", "garbage_error", "leaked", "died"})

CLEAN, BROKE, UNFINISHED, NOTHING, NONE = "clean", "broken", "not finished", "nothing accepted", "no verdict"


@dataclass(frozen=True)
class Disturbance:
    """A fault that was made: from when to when, on the run's clock.

    kind: as in running.faults, such as `kill` or `target-down`. ended: when it was over; for a kill, when the
    process was gone. ready: when the connector took connections again (None: never, or it never stopped).
    repeats: whether an honest connector may repeat a delivery because of it. hides: whether calls of the
    connector can fail without the target's seeing them.
    """

    kind: str
    began: float
    ended: float
    ready: float | None = None
    repeats: bool = False
    hides: bool = False
    replica: int = 0
    words: str = ""


@dataclass(frozen=True)
class Promises:
    """What the connector promised beyond the 202.

    forwards: it tells the external system, so deliveries are judged. newest_wins: an older state is never
    applied over a newer one, so it may be left out. slack: seconds before a disturbance in which a delivery may
    not have been noted, and after it in which a call that was on its way may be read. give_up_after: refused calls
    after which an event may be given up.
    """

    forwards: bool = True
    newest_wins: bool = False
    slack: float = 2.0
    give_up_after: int = 5


FORWARDS = Promises()


@dataclass(frozen=True)
class End:
    """How the run ended.

    at: the time of it. quiet: the connector had its whole time to settle, without a call. open: how many accepted
    events the connector said were not finished; None if it was not asked. died: why it ended by itself. cut_short:
    why there can be no verdict.
    """

    at: float = math.inf
    quiet: bool = True
    open: int | None = None
    died: str | None = None
    cut_short: str | None = None


WELL = End()


class Finding(NamedTuple):
    """One event that shows an error, and when it showed (seconds on the run's clock, NaN when it never did)."""

    event: int
    at: float


@dataclass
class Verdict:
    """The outcome: totals, and for each kind of finding how many events and the first few of them.

    tried: how many cases there were in which the connector could have broken each promise.
    """

    planned: int = 0
    sent: int = 0
    attempts: int = 0
    accepted: int = 0
    delivered: int = 0
    deliveries: int = 0
    deliveries_refused: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    garbage_answers: Counter[int] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Finding]] = field(default_factory=dict)
    forwards: bool = True
    cut_short: str | None = None

    @property
    def broken(self) -> list[str]:
        """The promises that were broken."""
        return [kind for kind in BROKEN if self.found[kind]]

    @property
    def not_tried(self) -> list[str]:
        """The promises that this run could not have found broken."""
        return [kind for kind in BROKEN if not self.tried[kind] and not self.found[kind]]

    @property
    def word(self) -> str:
        """CLEAN, BROKE, UNFINISHED (accepted events are still open), NOTHING (accepted), or NONE."""
        if self.cut_short is not None:
            return NONE
        if self.broken:
            return BROKE
        if not self.accepted:
            return NOTHING
        return UNFINISHED if self.found["undelivered"] else CLEAN

    def note(self, kind: str, index: int, at: float = math.nan) -> None:
        """Count one finding."""
        self.found[kind] += 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(Finding(index, at))


class Entry(NamedTuple):
    """What the ledger knows of one event; times on the run's clock, NaN for never."""

    event: int
    sent: float
    attempts: int
    status: int
    accepted: float
    seen: float
    times: int
    refused: int


class Ledger:
    """Collects what happened to each of `events` planned events; some 60 bytes for each."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._sent = array("d", [math.nan]) * events
        self._accepted = array("d", [math.nan]) * events
        self._seen = array("d", [math.nan]) * events
        self._attempts = array("H", [0]) * events
        self._status = array("H", [0]) * events
        self._times = array("H", [0]) * events
        self._refused = array("H", [0]) * events  # calls that the target refused
        self._last_call, self._last_refused = -math.inf, False
        self._index, self._arrived, self._ended, self._outcome = (
            array("I"),
            array("d"),
            array("d"),
            array("B"),
        )
        self._verdict = Verdict(planned=events)

    def attempt(self, attempt: Attempt) -> None:
        """Note a request and its end."""
        verdict, index, status = self._verdict, attempt.event, attempt.status
        accepted = 200 <= status < 300
        if status >= 100:
            verdict.tried["leaked"] += 1
        if attempt.flags & LEAKED:
            verdict.note("leaked", index, attempt.ended)
        if index == NO_EVENT:
            self._note_garbage(attempt)
            return
        verdict.attempts += 1
        verdict.answers[status] += 1
        self._attempts[index] = min(0xFFFF, self._attempts[index] + 1)
        if status != NOT_SENT and not attempt.sent >= self._sent[index]:
            self._sent[index] = attempt.sent
        if attempt.trouble == Trouble.TOKEN and status >= 100:
            verdict.tried["let_in"] += 1
            if accepted:
                verdict.note("let_in", index, attempt.ended)
        if accepted and not attempt.ended >= self._accepted[index]:
            self._accepted[index] = attempt.ended
        if accepted or not 200 <= self._status[index] < 300:
            self._status[index] = status

    def _note_garbage(self, attempt: Attempt) -> None:
        verdict, status = self._verdict, attempt.status
        if status == NOT_SENT:
            return
        verdict.garbage_answers[status] += 1
        if status == NO_ANSWER:
            verdict.note("garbage_unanswered", NO_EVENT, attempt.ended)
            return
        verdict.tried["garbage_accepted"] += 1
        verdict.tried["garbage_error"] += 1
        if 200 <= status < 300:
            verdict.note("garbage_accepted", NO_EVENT, attempt.ended)
        elif status in {500, 502, 504}:
            verdict.note("garbage_error", NO_EVENT, attempt.ended)

    def delivery(self, delivery: Delivery) -> None:
        """Note a call to the external system."""
        verdict, index = self._verdict, delivery.event
        verdict.deliveries += 1
        if delivery.arrived > self._last_call:
            self._last_call, self._last_refused = delivery.arrived, delivery.outcome == REFUSED
        if index >= self._events:
            verdict.note("foreign", NO_EVENT, delivery.arrived)
            return
        body = Body(delivery.body)
        if body != Body.NOT_COMPARED:
            for kind in _BODIES.values():
                verdict.tried[kind] += 1
            if body in _BODIES:
                verdict.note(_BODIES[body], index, delivery.arrived)
        if delivery.outcome == REFUSED:
            verdict.deliveries_refused += 1
            self._refused[index] = min(0xFFFF, self._refused[index] + 1)
            return
        self._times[index] = min(0xFFFF, self._times[index] + 1)
        if not delivery.arrived >= self._seen[index]:
            self._seen[index] = delivery.arrived
        self._index.append(index)
        self._arrived.append(delivery.arrived)
        self._ended.append(delivery.ended)
        self._outcome.append(delivery.outcome)

    def entries(self) -> Iterator[Entry]:
        """Give the account of each event, in the order of the plan."""
        columns = (self._sent, self._attempts, self._status, self._accepted, self._seen, self._times, self._refused)
        for index, values in enumerate(zip(*columns, strict=True)):
            yield Entry(index, *values)

    def judge(
        self,
        resources: Callable[[int], Sequence[int]],
        disturbances: Sequence[Disturbance] = (),
        promises: Promises = FORWARDS,
        end: End = WELL,
    ) -> Verdict:
        """Give the verdict. resources: from an event's index to the keys of what it touches, the first of what it
        is about. To be called once.
        """
        verdict = self._verdict
        verdict.forwards, verdict.cut_short = promises.forwards, end.cut_short
        verdict.tried["died"] = 1
        if end.died is not None:
            verdict.note("died", NO_EVENT, end.at)
        missing = self._judge_answers(promises)
        if promises.forwards:
            verdict.tried["lost"], verdict.tried["repeated"] = verdict.accepted, len(self._index)
            passed = self._judge_order(resources, promises)
            self._judge_repeats(disturbances, promises)
            self._judge_missing(missing, resources, passed, disturbances, promises, end)
        return verdict

    def _judge_answers(self, promises: Promises) -> list[int]:
        """Count what the answers say; give the accepted events that the target was not told of."""
        verdict, missing = self._verdict, []
        for index in range(self._events):
            status, seen = self._status[index], self._times[index] > 0
            accepted = 200 <= status < 300
            verdict.sent += self._attempts[index] > 0
            verdict.accepted += accepted
            verdict.delivered += seen
            if accepted and self._attempts[index] > 1:
                verdict.note("refused_then_accepted", index, self._accepted[index])
            if self._attempts[index] and not accepted:
                verdict.note("never_accepted", index)
                if seen and promises.forwards:
                    verdict.note("unpromised", index, self._seen[index])
            if accepted and not seen:
                missing.append(index)
        return missing

    # -- order --

    def _lanes(self, resources: Callable[[int], Sequence[int]]) -> Iterator[tuple[int, list[int]]]:
        """Give the deliveries of each resource, as positions in the order in which they arrived."""
        keys, positions = array("q"), array("L")
        for position, index in enumerate(self._index):
            for key in resources(index):
                keys.append(key)
                positions.append(position)
        order = sorted(range(len(keys)), key=lambda at: self._arrived[positions[at]])
        order.sort(key=keys.__getitem__)
        lane: list[int] = []
        current = None
        for at in order:
            if keys[at] != current:
                if current is not None:
                    yield current, lane
                current, lane = keys[at], []
            lane.append(positions[at])
        if current is not None:
            yield current, lane

    def _judge_order(self, resources: Callable[[int], Sequence[int]], promises: Promises) -> _Passed:
        """Look in each resource for an event that came after one that was accepted later, or while an earlier one
        still ran.
        """
        passed = _Passed()
        findings: dict[tuple[str, int], float] = {}
        tried: set[int] = set()
        for key, lane in self._lanes(resources):
            told = _Told()
            for position in lane:
                index, arrived = self._index[position], self._arrived[position]
                sent, accepted = self._sent[index], self._accepted[index]
                if told.first_accepted < sent:
                    tried.add(index)
                if accepted < told.latest_sent:
                    findings.setdefault(("stale" if index in told.events else "out_of_order", index), arrived)
                elif index < told.newest:
                    findings.setdefault(("stale" if promises.newest_wins else "stale_by_retry", index), arrived)
                if arrived < told.until and index != told.running and self._accepted[told.running] < sent:
                    findings.setdefault(("overlapped", index), arrived)
                told.add(index, sent, accepted, self._ended[position] if self._outcome[position] == APPLIED else 0.0)
            passed.latest_sent[key], passed.newest[key] = told.latest_sent, told.newest
        for (kind, index), at in sorted(findings.items(), key=lambda one: one[1]):
            self._verdict.note(kind, index, at)
        for kind in ("out_of_order", "overlapped", "stale"):
            self._verdict.tried[kind] = len(tried)
        return passed

    # -- repeats --

    def _judge_repeats(self, disturbances: Sequence[Disturbance], promises: Promises) -> None:
        """Look for an event that came again, and for the cause."""
        before: dict[int, int] = {}
        for position in sorted(range(len(self._index)), key=self._arrived.__getitem__):
            index = self._index[position]
            if self._times[index] < 2:
                continue
            last = before.get(index)
            before[index] = position
            if last is None:
                continue
            arrived = self._arrived[position]
            kind = "repeated_unanswered" if self._outcome[last] == UNANSWERED else "repeated"
            for one in disturbances:
                near = (
                    one.began - promises.slack <= self._ended[last]
                    and self._arrived[last] <= one.ended + promises.slack
                )
                if one.repeats and near and one.began <= arrived:
                    kind = "repeated_around_fault"
            self._verdict.note(kind, index, arrived)

    # -- losses --

    def _judge_missing(
        self,
        missing: list[int],
        resources: Callable[[int], Sequence[int]],
        passed: _Passed,
        disturbances: Sequence[Disturbance],
        promises: Promises,
        end: End,
    ) -> None:
        """Tell the lost from the undelivered, the given up and the superseded."""
        hidden = [one for one in disturbances if one.hides]
        paused = self._last_refused
        waiting: set[int] = set()  # resources in which an excused event stands
        for index in sorted(missing, key=self._accepted.__getitem__):
            keys, accepted = resources(index), self._accepted[index]
            if promises.newest_wins and keys and passed.newest.get(keys[0], -1) > index:
                self._verdict.note("superseded", index, accepted)
                continue
            passed_over = any(accepted < passed.latest_sent.get(key, -math.inf) for key in keys)
            if passed_over or end.open == 0:
                given_up = self._refused[index] >= promises.give_up_after
                self._verdict.note("given_up" if given_up else "lost", index, accepted)
                continue
            excused = (
                not end.quiet
                or paused
                or self._refused[index] > 0
                or any(one.ended >= accepted for one in hidden)
                or any(key in waiting for key in keys)
            )
            if excused:
                waiting.update(keys)
            self._verdict.note("undelivered" if excused else "lost", index, accepted)


@dataclass
class _Told:
    """What the target has been told of one resource so far.

    latest_sent: when the last of these events was first sent; first_accepted: when the first was accepted;
    running: the event whose call lasts the longest, until when.
    """

    events: set[int] = field(default_factory=set)
    latest_sent: float = -math.inf
    first_accepted: float = math.inf
    newest: int = -1
    until: float = -math.inf
    running: int = -1

    def add(self, index: int, sent: float, accepted: float, until: float) -> None:
        """Add a delivery; NaN stands for never."""
        self.events.add(index)
        self.newest = max(self.newest, index)
        if sent > self.latest_sent:
            self.latest_sent = sent
        if accepted < self.first_accepted:
            self.first_accepted = accepted
        if until > self.until:
            self.until, self.running = until, index


@dataclass
class _Passed:
    """For each resource: when the last of the applied events was first sent, and the newest of them."""

    latest_sent: dict[int, float] = field(default_factory=lambda: defaultdict(lambda: -math.inf))
    newest: dict[int, int] = field(default_factory=dict)
