"""The circuit breaker: when the target as a whole is away, nobody knocks but a probe now and then.

::

               failures in a row, or a share of the last calls
      closed ─────────────────────────────────────────────────▶ open ◀───┐
        ▲                                                         │      │ a probe failed
        │ PROBES probes went well                 cool-down over  ▼      │ (the next cool-down is longer)
        └──────────────────────────────────────────────────── half-open ─┘

Invariants:

1. While it is open no call is let through, whoever waits for a permit is turned away, and the gate is held: events
   stay where they are and spend no attempt.
2. While it is half-open one call at a time is let through; the others wait for how it ends.
3. When it closes, the calls allowed at a time grow by one with each call that goes well (so they double with each
   round trip) up to the full number; only then is the next cool-down a short one again.
4. A call counts in the period it began in. One that fails after the breaker has opened without it changes nothing.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal, Protocol

import msgspec

from connector.external.failures import TargetAway, TargetBusy
from connector.external.limits import ConcurrencyLimit
from connector.facts import facts

HOLD: Final = "target"
"""The reason under which the gate is held."""

PROBES: Final = 3
"""Calls that have to go well, one after the other, before the breaker closes."""

JITTER: Final = 0.2
"""A cool-down is spread by this part, so that several connectors do not probe together."""

State = Literal["closed", "open", "half_open"]


class Timer(Protocol):
    """A call to come, such as ``asyncio.TimerHandle``."""

    def cancel(self) -> None:
        """Call it off."""


Later = Callable[[float, Callable[[], None]], Timer]


class Gate(Protocol):
    """What stops and resumes handing out events, while accepting goes on: the lanes."""

    def hold(self, reason: str) -> None:
        """Hand out no event until every reason to hold is released."""

    def release(self, reason: str) -> None:
        """Withdraw a reason to hold."""


class Rules(msgspec.Struct, frozen=True):
    """When the breaker opens, and for how long.

    ``failures``  this many failures in a row open it (0: never)
    ``share``     this percentage of failures among the last ``calls`` calls opens it (0: never)
    ``cool_down``, ``longest``  seconds until the first probe; they double with each probe that fails, up to ``longest``
    """

    failures: int = 10
    share: float = 50.0
    calls: int = 50
    cool_down: float = 1.0
    longest: float = 10.0


class Permit(msgspec.Struct, frozen=True, eq=False):
    """The right to make one call, and the period of the breaker in which it was given."""

    limit: ConcurrencyLimit


class Breaker:
    """Gives permits for calls, and learns from how they end.

    ``concurrency``  calls allowed at a time when all is well
    ``later``        calls a function after some seconds, such as ``loop.call_later``
    ``chance``       from 0 to 1, for the jitter
    ``note``         is told why the target seems to be away, and an empty text when it is back
    """

    def __init__(
        self,
        rules: Rules,
        concurrency: int,
        gate: Gate,
        *,
        later: Later,
        chance: Callable[[], float],
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._rules = rules
        self._concurrency = concurrency
        self._gate = gate
        self._later = later
        self._chance = chance
        self._note = note
        self._limit = ConcurrencyLimit(concurrency)
        self._in_a_row = 0
        self._last: deque[bool] = deque(maxlen=rules.calls)
        self._good_probes = 0
        self._openings = 0
        self._timer: Timer | None = None
        self.state: State = "closed"
        self.reason = ""

    @property
    def limit(self) -> ConcurrencyLimit:
        """The permits of the present period: how many there may be, are, and are waited for."""
        return self._limit

    async def enter(self, longest: float) -> Permit:
        """A permit for one call, to be given to ``leave`` when it has ended.

        Raises TargetAway while the breaker is open, TargetBusy when there was no permit in ``longest`` seconds.
        """
        limit = self._limit
        if self.state == "open":
            raise TargetAway(self.reason)
        if not await limit.acquire(longest):
            if limit is not self._limit:
                raise TargetAway(self.reason)
            raise TargetBusy(f"no call could begin within {longest:g} s")
        return Permit(limit)

    def stands(self, permit: Permit) -> bool:
        """Whether the breaker has not opened since the permit was given."""
        return permit.limit is self._limit

    def leave(self, permit: Permit, *, answered: bool, failure: str | None = None) -> None:
        """Give the permit back and say how the call ended.

        ``answered``  the target is there, whatever it said
        ``failure``   why the target as a whole seems to be away; neither means that nothing was learnt
        """
        if self.stands(permit):
            if failure is not None:
                self._failed(failure)
            elif answered:
                self._succeeded()
        permit.limit.release()

    def stop(self) -> None:
        """Probe no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _failed(self, reason: str) -> None:
        self._in_a_row += 1
        self._last.append(True)
        rules = self._rules
        if self.state == "half_open":
            self._open(f"the probe failed: {reason}")
        elif rules.failures and self._in_a_row >= rules.failures:
            self._open(f"{self._in_a_row} failures in a row, at last: {reason}")
        elif rules.share and len(self._last) == rules.calls and sum(self._last) * 100 >= rules.share * rules.calls:
            self._open(f"{sum(self._last)} of {rules.calls} calls failed, at last: {reason}")

    def _succeeded(self) -> None:
        self._in_a_row = 0
        self._last.append(False)
        if self.state == "half_open":
            self._good_probes += 1
            if self._good_probes >= PROBES:
                self._close()
        elif self._limit.limit < self._concurrency:
            self._limit.limit += 1
            if self._limit.limit == self._concurrency:
                self._openings = 0

    def _open(self, reason: str) -> None:
        before, self._limit = self._limit, ConcurrencyLimit(0)
        self.state, self.reason = "open", reason
        wait = min(self._rules.cool_down * 2.0 ** min(self._openings, 60), self._rules.longest)
        wait *= 1 - JITTER + 2 * JITTER * self._chance()
        self._openings += 1
        self._gate.hold(HOLD)
        self._note(reason)
        before.turn_all_away()
        self._timer = self._later(wait, self._half_open)
        facts.breaker("open", reason, {"wait": round(wait, 3), "openings": self._openings})

    def _half_open(self) -> None:
        self.state, self._good_probes = "half_open", 0
        self._limit.limit = 1
        self._gate.release(HOLD)
        facts.breaker("half_open", self.reason, {})

    def _close(self) -> None:
        self.state, self.reason = "closed", ""
        self._note("")
        self._in_a_row = 0
        self._last.clear()
        self._limit.limit = min(2, self._concurrency)
        if self._limit.limit == self._concurrency:
            self._openings = 0
        facts.breaker("closed", f"{PROBES} probes went well", {"concurrency": self._limit.limit})
