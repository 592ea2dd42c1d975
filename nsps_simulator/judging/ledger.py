"""The verdict: what the connector promised by its answers, held against what the external system was told.

Pure: it is given every attempt and every delivery, in any order, and says what was broken.

How order is judged. Several requests are under way at once, and a refused event comes again after newer
ones, so the connector may rightly accept a subscriber's events in another order than the planned one.
Event A counts as accepted before event B only when the 2xx of A had been read before B was first sent:
then, and only then, must A be applied before B. What overlapped is never held against anyone.

How a repeat is judged. At least once is what can be promised, so a repeat has a cause when the connector was
killed around the first delivery, or when the answer to that delivery was lost. Any other repeat has none.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nsps_simulator.records import APPLIED, NO_EVENT, NOT_SENT, REFUSED, UNANSWERED, Attempt, Delivery
from nsps_simulator.wire.chaos import Trouble

EXAMPLES = 20  # events listed by name for each kind of finding

# What breaks a promise, and how a person would say it.
BROKEN = {
    "lost": "accepted, and never told to the external system",
    "repeated": "applied again without a cause",
    "out_of_order": "applied after an event of the same subscriber that was accepted later",
    "overlapped": "applied at the same time as an earlier one of the same subscriber",
    "stale": "an older state applied over a newer one",
    "mangled": "delivered with another event's body",
    "let_in": "accepted with a wrong token",
    "garbage_accepted": "accepted though it was no event",
}
# What is worth knowing and breaks none.
NOTED = {
    "refused_then_accepted": "refused or unanswered at first, accepted later",
    "never_accepted": "refused until the end of the run",
    "repeated_around_kill": "applied again, around a kill",
    "repeated_unanswered": "applied again, for the answer of the external system was lost",
    "stale_by_retry": "an older state applied over a newer one, in the order of acceptance",
    "superseded": "not applied, for a newer state was",
    "unpromised": "applied though the acceptance was never read",
    "foreign": "deliveries that name no event of this run",
}


@dataclass(frozen=True)
class Kill:
    """A SIGKILL: when it was sent, when the process was gone, when its successor took connections (None:
    never).
    """

    began: float
    ended: float
    ready: float | None


@dataclass(frozen=True)
class Promises:
    """What the connector promised beyond the 202.

    forwards: it tells the external system, so deliveries are judged. newest_wins: an older state is never
    applied over a newer one, so it may be left out. kill_slack: seconds before a kill in which a delivery
    may not have been noted.
    """

    forwards: bool = True
    newest_wins: bool = False
    kill_slack: float = 2.0


FORWARDS = Promises()


class Finding(NamedTuple):
    """One event that shows a fault, and when it showed (seconds on the run's clock, NaN when it never
    did).
    """

    event: int
    at: float


@dataclass
class Verdict:
    """The outcome: totals, and for each kind of finding how many events and the first few of them."""

    planned: int = 0
    sent: int = 0
    attempts: int = 0
    accepted: int = 0
    delivered: int = 0
    deliveries: int = 0
    deliveries_refused: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Finding]] = field(default_factory=dict)
    forwards: bool = True

    @property
    def broken(self) -> list[str]:
        """The promises that were broken."""
        return [kind for kind in BROKEN if self.found[kind]]

    @property
    def word(self) -> str:
        """``broken``, ``clean``, or ``nothing accepted``: then there was nothing to judge the connector by."""
        if self.broken:
            return "broken"
        return "clean" if self.accepted else "nothing accepted"

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
        if index == NO_EVENT:
            if accepted:
                verdict.note("garbage_accepted", index, attempt.ended)
            return
        verdict.attempts += 1
        verdict.answers[status] += 1
        self._attempts[index] = min(0xFFFF, self._attempts[index] + 1)
        if status != NOT_SENT and not attempt.sent >= self._sent[index]:
            self._sent[index] = attempt.sent
        if accepted:
            if attempt.trouble == Trouble.TOKEN:
                verdict.note("let_in", index, attempt.ended)
            if not attempt.ended >= self._accepted[index]:
                self._accepted[index] = attempt.ended
        if accepted or not 200 <= self._status[index] < 300:
            self._status[index] = status

    def delivery(self, delivery: Delivery) -> None:
        """Note a call to the external system."""
        verdict, index = self._verdict, delivery.event
        verdict.deliveries += 1
        if index >= self._events:
            verdict.note("foreign", NO_EVENT, delivery.arrived)
            return
        if delivery.outcome == REFUSED:
            verdict.deliveries_refused += 1
            return
        if delivery.mangled:
            verdict.note("mangled", index, delivery.arrived)
        self._times[index] = min(0xFFFF, self._times[index] + 1)
        if not delivery.arrived >= self._seen[index]:
            self._seen[index] = delivery.arrived
        self._index.append(index)
        self._arrived.append(delivery.arrived)
        self._ended.append(delivery.ended)
        self._outcome.append(delivery.outcome)

    def entries(self) -> Iterator[Entry]:
        """Give the account of each event, in the order of the plan."""
        columns = (self._sent, self._attempts, self._status, self._accepted, self._seen, self._times)
        for index, values in enumerate(zip(*columns, strict=True)):
            yield Entry(index, *values)

    def judge(
        self, account_of: Callable[[int], int], kills: Sequence[Kill] = (), promises: Promises = FORWARDS
    ) -> Verdict:
        """Give the verdict. account_of: from an event's index to its subscriber. To be called once."""
        verdict = self._verdict
        verdict.forwards = promises.forwards
        missing: dict[int, list[int]] = {}
        for index in range(self._events):
            status = self._status[index]
            accepted, seen = 200 <= status < 300, self._times[index] > 0
            verdict.sent += self._attempts[index] > 0
            verdict.accepted += accepted
            verdict.delivered += seen
            if accepted and self._attempts[index] > 1:
                verdict.note("refused_then_accepted", index, self._accepted[index])
            if self._attempts[index] and not accepted:
                verdict.note("never_accepted", index)
                if seen:
                    verdict.note("unpromised", index, self._seen[index])
            if accepted and not seen and promises.forwards:
                missing.setdefault(account_of(index) if promises.newest_wins else 0, []).append(index)
        if promises.forwards:
            for account, lane in self._lanes(account_of):
                self._judge_order(lane, promises)
                self._judge_repeats(lane, kills, promises)
                if promises.newest_wins and account in missing:
                    self._judge_missing(missing.pop(account), lane)
            for index in sorted(index for indices in missing.values() for index in indices):
                verdict.note("lost", index)
        return verdict

    def _lanes(self, account_of: Callable[[int], int]) -> Iterator[tuple[int, list[int]]]:
        """Give each subscriber's deliveries, as positions in the order in which they arrived."""
        accounts = array("q", map(account_of, self._index))
        order = sorted(range(len(self._index)), key=self._arrived.__getitem__)
        order.sort(key=accounts.__getitem__)
        lane: list[int] = []
        for position in order:
            if lane and accounts[lane[0]] != accounts[position]:
                yield accounts[lane[0]], lane
                lane = []
            lane.append(position)
        if lane:
            yield accounts[lane[0]], lane

    def _judge_order(self, lane: list[int], promises: Promises) -> None:
        """Look for an event that came after one that was accepted later, or while an earlier one still
        ran.
        """
        verdict = self._verdict
        told: set[int] = set()
        latest_sent = -math.inf  # of all events delivered so far, when the last of them was first sent
        newest = -1
        running_until, running = -math.inf, -1
        for position in lane:
            index, arrived = self._index[position], self._arrived[position]
            if self._accepted[index] < latest_sent:
                verdict.note("stale" if index in told else "out_of_order", index, arrived)
            elif index < newest:
                verdict.note("stale" if promises.newest_wins else "stale_by_retry", index, arrived)
            if arrived < running_until and index != running and self._accepted[running] < self._sent[index]:
                verdict.note("overlapped", index, arrived)
            if self._outcome[position] == APPLIED and self._ended[position] > running_until:
                running_until, running = self._ended[position], index
            told.add(index)
            newest = max(newest, index)
            if self._sent[index] > latest_sent:
                latest_sent = self._sent[index]

    def _judge_repeats(self, lane: list[int], kills: Sequence[Kill], promises: Promises) -> None:
        """Look for an event that came again, and for the cause."""
        before: dict[int, int] = {}
        for position in lane:
            index, arrived = self._index[position], self._arrived[position]
            last = before.get(index)
            before[index] = position
            if last is None:
                continue
            kind = "repeated_unanswered" if self._outcome[last] == UNANSWERED else "repeated"
            for kill in kills:
                near = kill.began - promises.kill_slack <= self._ended[last] and self._arrived[last] <= kill.ended
                if near and kill.began <= arrived:
                    kind = "repeated_around_kill"
            self._verdict.note(kind, index, arrived)

    def _judge_missing(self, indices: list[int], lane: list[int]) -> None:
        """Tell the lost from the superseded: a newer state was applied that need not have waited for this
        one.
        """
        told = {self._index[position] for position in lane}
        for index in indices:
            accepted = self._accepted[index]
            excused = any(other > index and not accepted < self._sent[other] for other in told)
            self._verdict.note("superseded" if excused else "lost", index, accepted)
