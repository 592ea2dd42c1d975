"""The circuit breaker: while the target does not serve, nobody calls it but a probe now and then.

::

           failures of so many subscribers in a row, a share of the last calls, or the target's own Retry-After
      closed ─────────────────────────────────────────────────▶ open ◀───┐
        ▲                                                         │      │ a probe failed
        │ PROBES probes went well                 cool-down over  ▼      │ (the next cool-down is longer)
        └──────────────────────────────────────────────────── half-open ─┘

Invariants:

1. While it is open no call of its scope is let through; who waits for a permit is turned away.
2. Its scope is everybody, or one event type where only calls for that type have failed: other types go on.
3. Failures open it only where they are the target's: each subscriber counts once in a row, so that one subscriber's
   failures never open it, and nor do those of one event type while others succeed. Where no connection could be made,
   each failure counts: that cannot follow a subscriber.
4. While it is half-open one call at a time is let through. For a moment (``GRACE``) the subscribers whose failures
   opened it are turned away, so that another one is the probe, if there is one.
5. When it closes, the calls allowed at a time grow by one with each call that goes well (so they double with each
   round trip) up to the full number; only then is the next cool-down a short one again.
6. A call counts in the period it began in. One that fails after the breaker has opened without it changes nothing.
7. A Retry-After holds the target for at least the cool-down, whatever it says, so that an answer cannot make calls
   come faster than they would without it. One that follows a subscriber (it comes again for the same one, while
   others' calls went well) holds nobody.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from connector.external.limits import ConcurrencyLimit
from connector.external.response import Kind, TargetBusy, TargetUnavailable
from connector.facts import facts

PROBES: Final = 3
"""Calls that have to go well, one after the other, before the breaker closes."""

JITTER: Final = 0.2
"""A cool-down is spread by this part, so that several connectors do not probe together."""

GRACE: Final = 0.25
"""The part of a cool-down (a second at most) for which other subscribers are let through first."""

CANDIDATES: Final = 16
"""Events that are let in for each probe: some may be for subscribers that are turned away, or call nothing now."""

MOST_HOLDERS: Final = 1000
"""Subscribers of which it is remembered that a Retry-After for them held the target."""

State = Literal["closed", "open", "half_open"]


class Timer(Protocol):
    """A call to come, such as ``asyncio.TimerHandle``."""

    def cancel(self) -> None:
        """Call it off."""


Later = Callable[[float, Callable[[], None]], Timer]


class Subject(NamedTuple):
    """Whom a call is for: a subscriber, and the type of the event. None where that is not known."""

    subscriber: str | None = None
    event_type: str | None = None


NOBODY: Final = Subject()


class Rules(msgspec.Struct, frozen=True):
    """When the breaker opens, and for how long.

    ``failures``  failures of this many subscribers in a row open it (0: never)
    ``share``     this percentage of failures among the last ``calls`` calls, and of subscribers who failed among
                  those who called, opens it (0: never)
    ``cool_down``, ``longest``  seconds until the first probe; they double with each probe that fails, up to ``longest``
    ``longest_hold``  seconds that a Retry-After may hold the target
    """

    failures: int = 10
    share: float = 50.0
    calls: int = 50
    cool_down: float = 1.0
    longest: float = 10.0
    longest_hold: float = 600.0


class Permit(msgspec.Struct, frozen=True, eq=False):
    """The right to make one call, and the period of the breaker in which it was given."""

    limit: ConcurrencyLimit
    subject: Subject


class _Call(NamedTuple):
    failed: bool
    key: object
    event_type: str | None


class Breaker:
    """Gives permits for calls, and learns from how they end.

    ``name``         of the target, for log lines
    ``concurrency``  calls allowed at a time when all is well
    ``later``        calls a function after some seconds, such as ``loop.call_later``
    ``chance``       from 0 to 1, for the jitter
    ``opened``       is called when it opens, with the reason and the seconds until a probe
    ``released``     is called when those who were turned away may come again: how many of them, None for all
    ``closed``       is called when it closes
    """

    def __init__(
        self,
        rules: Rules,
        concurrency: int,
        *,
        later: Later,
        chance: Callable[[], float],
        name: str = "target",
        opened: Callable[[str, float], None] = lambda _, __: None,
        released: Callable[[int | None], None] = lambda _: None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._rules = rules
        self._concurrency = concurrency
        self._later = later
        self._chance = chance
        self._name = name
        self._opened, self._released, self._closed = opened, released, closed
        self._limit = ConcurrencyLimit(concurrency)
        self._others = self._limit
        self._row: set[object] = set()
        self._row_types: set[str | None] = set()
        self._last: deque[_Call] = deque(maxlen=rules.calls)
        self._suspects: frozenset[object] = frozenset()
        self._holders: dict[str, int] = {}
        self._good_calls = 0
        self._in_grace = False
        self._good_probes = 0
        self._openings = 0
        self._timer: Timer | None = None
        self._change = asyncio.Event()
        self.state: State = "closed"
        self.reason = ""
        self.kind = Kind.DOWN
        self.scope: str | None = None
        self.turned_away = 0

    @property
    def limit(self) -> ConcurrencyLimit:
        """The permits of the present period: how many there may be, are, and are waited for."""
        return self._limit

    def holds(self, event_type: str | None) -> bool:
        """Whether it is open to calls for events of this type."""
        return self.state == "open" and self._in_scope(event_type)

    def enter_at_once(self, subject: Subject) -> Permit | None:
        """As ``enter``, where there is nothing to wait for; None where there is."""
        return Permit(self._limit, subject) if self.state == "closed" and self._limit.take() else None

    async def enter(self, longest: float, subject: Subject | None = None, *, in_place: bool = True) -> Permit:
        """A permit for one call, to be given to ``leave`` when it has ended.

        ``in_place``  wait, up to ``longest`` seconds, while the breaker is open or half-open
        Raises TargetUnavailable while the breaker is open, TargetBusy when there was no permit in ``longest`` seconds.
        """
        subject = subject or NOBODY
        deadline = asyncio.get_running_loop().time() + longest
        while True:
            if self.state != "closed" and self._in_scope(subject.event_type):
                await self._may_probe(subject, deadline if in_place else None)
            limit = self._limit if self._in_scope(subject.event_type) else self._others
            if await limit.acquire(longest):
                return Permit(limit, subject)
            if limit is self._limit or limit is self._others:
                raise TargetBusy("all calls that TARGET_CONCURRENCY allows are under way")

    def stands(self, permit: Permit) -> bool:
        """Whether the breaker has not opened since the permit was given."""
        return permit.limit is self._limit or permit.limit is self._others

    def leave(self, permit: Permit, *, answered: bool, failure: str | None = None, everybody: bool = False) -> None:
        """Give the permit back and say how the call ended.

        ``answered``   the target is there, whatever it said
        ``failure``    why the target as a whole seems to be down; neither means that nothing was learnt
        ``everybody``  the failure cannot follow a subscriber: no connection could be made
        """
        stands = self.stands(permit)
        if stands:
            if failure is not None:
                self._failed(failure, permit.subject, everybody=everybody)
            elif answered:
                self._succeeded(permit.subject)
        permit.limit.release()
        if stands and self.state == "half_open":
            self._let_in()

    def hold(self, permit: Permit, seconds: float, reason: str, kind: Kind, *, everybody: bool = False) -> bool:
        """Open for as long as the target's Retry-After says; False where that follows one subscriber.

        ``everybody``  it cannot follow one: nobody can log in

        The permit is still to be given back.
        """
        if not self.stands(permit):
            return True
        who = permit.subject.subscriber
        if who is not None and not everybody:
            if self._holders.get(who, self._good_calls) < self._good_calls:
                return False
            if len(self._holders) >= MOST_HOLDERS:
                self._holders.clear()
            self._holders[who] = self._good_calls
        wait = min(seconds * (1 + JITTER * self._chance()), self._rules.longest_hold)
        self._open(reason, at_least=wait, kind=kind)
        return True

    def stop(self) -> None:
        """Probe no more."""
        if self._timer is not None:
            self._timer.cancel()

    async def _may_probe(self, subject: Subject, deadline: float | None) -> None:
        """Return when the call may be a probe, or need not be one. Raises TargetUnavailable after ``deadline``."""
        while self.state != "closed" and self._in_scope(subject.event_type):
            passes = self.state == "half_open" and not (self._in_grace and subject.subscriber in self._suspects)
            if passes and self._limit.in_use < self._limit.limit:
                return
            if deadline is None:
                raise self._unavailable()
            self._change.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._change.wait()
            except TimeoutError:
                raise self._unavailable() from None

    def _unavailable(self) -> TargetUnavailable:
        self.turned_away += 1
        return TargetUnavailable(self.reason, self.kind)

    def _in_scope(self, event_type: str | None) -> bool:
        return self.scope is None or event_type == self.scope

    def _failed(self, reason: str, subject: Subject, *, everybody: bool) -> None:
        key: object = object() if everybody or subject.subscriber is None else subject.subscriber
        event_type = None if everybody else subject.event_type
        self._row.add(key)
        self._row_types.add(event_type)
        self._last.append(_Call(True, key, event_type))
        rules = self._rules
        if self.state == "half_open" and self._in_scope(subject.event_type):
            self._suspects |= {key} if isinstance(key, str) else frozenset()
            self._open(f"the probe failed: {reason}", scope=self.scope)
        elif rules.failures and len(self._row) >= rules.failures:
            self._open(
                f"{len(self._row)} failures in a row, at last: {reason}",
                scope=self._only(self._row_types),
                suspects=self._row,
            )
        elif rules.share and len(self._last) == rules.calls:
            self._look_at_share(reason)

    def _look_at_share(self, reason: str) -> None:
        failed = [call for call in self._last if call.failed]
        those, everybody = {call.key for call in failed}, {call.key for call in self._last}
        share = self._rules.share / 100
        if len(failed) < share * self._rules.calls or len(those) < max(share * len(everybody), min(2, len(failed))):
            return
        types = {call.event_type for call in failed}
        if len(types) == 1 and None not in types and types != {call.event_type for call in self._last}:
            return
        self._open(
            f"{len(failed)} of {self._rules.calls} calls failed, at last: {reason}",
            scope=self._only(types),
            suspects=those,
        )

    def _only(self, types: set[str | None]) -> str | None:
        """The one event type among these; None for several, and for all once another type is held already."""
        return next(iter(types)) if len(types) == 1 and self.state == "closed" else None

    def _succeeded(self, subject: Subject) -> None:
        self._row.clear()
        self._row_types.clear()
        key: object = object() if subject.subscriber is None else subject.subscriber
        self._last.append(_Call(False, key, subject.event_type))
        self._good_calls += 1
        if self._holders and subject.subscriber is not None:
            self._holders.pop(subject.subscriber, None)
        if self.state == "half_open" and self._in_scope(subject.event_type):
            self._good_probes += 1
            if self._good_probes >= PROBES:
                self._close()
        elif self.state == "closed" and self._limit.limit < self._concurrency:
            self._limit.limit += 1
            if self._limit.limit == self._concurrency:
                self._openings = 0

    def _open(
        self,
        reason: str,
        *,
        at_least: float = 0.0,
        kind: Kind = Kind.DOWN,
        scope: str | None = None,
        suspects: set[object] | None = None,
    ) -> None:
        before = self._limit, self._others
        self._limit = ConcurrencyLimit(0)
        self._others = self._limit if scope is None else ConcurrencyLimit(self._concurrency)
        self.state, self.reason, self.kind, self.scope = "open", reason, kind, scope
        if suspects is not None:
            self._suspects = frozenset(key for key in suspects if isinstance(key, str))
        self._row.clear()
        self._row_types.clear()
        self.turned_away = 0
        wait = min(self._rules.cool_down * 2.0 ** min(self._openings, 60), self._rules.longest)
        wait = max(wait * (1 - JITTER + 2 * JITTER * self._chance()), at_least)
        self._openings += 1
        self.stop()
        self._timer = self._later(wait, self._half_open)
        self._opened(reason, wait)
        for limit in before:
            limit.turn_all_away()
        held = {"held_type": scope} if scope else {}
        self._fact("open", reason, wait=round(wait, 3), openings=self._openings, **held)

    def _fact(self, state: str, reason: str, **more: Any) -> None:
        facts.breaker(state, reason, {"target": self._name, **more})

    def _half_open(self) -> None:
        self.state, self._good_probes = "half_open", 0
        self._limit.limit = 1
        if self._suspects:
            self._in_grace = True
            wait = min(self._rules.cool_down * 2.0 ** min(self._openings - 1, 60), self._rules.longest)
            self._timer = self._later(min(wait * GRACE, 1.0), self._end_grace)
        self._fact("half_open", self.reason)
        self._let_in()

    def _end_grace(self) -> None:
        self._in_grace = False
        if self.state == "half_open":
            self._let_in()

    def _let_in(self, most: int | None = CANDIDATES) -> None:
        self._change.set()
        self._released(most)

    def _close(self) -> None:
        self.stop()
        self.state, self.reason, self.scope, self._in_grace = "closed", "", None, False
        self._suspects = frozenset()
        self._others = self._limit
        self._last.clear()
        self._limit.limit = min(2, self._concurrency)
        if self._limit.limit == self._concurrency:
            self._openings = 0
        self._fact("closed", f"{PROBES} probes went well", concurrency=self._limit.limit)
        self._closed()
        self._let_in(None)
