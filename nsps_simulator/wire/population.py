"""The subscribers of a made-up operator, and what happens to them.

Nobody is stored. A subscriber is a number; a life is a script of twelve steps, chosen by that number and
lived again and again, so the state after any step is looked up and never walked to. Ten million
subscribers cost as much memory as ten.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from nsps_simulator.wire.draw import GOLDEN, branch, draw

SCRIPTS = 32
STEPS = 12
LIMIT = 10_000_000  # the largest installation that NSPS serves

KINDS = (
    *("SIM/Updated", "SIM/Replaced", "Subscriber/Updated"),
    *("Account/Blocked", "Account/Unblocked", "Bundle/Renewed"),
)
LIFE = "life"
BILL_RUN = "bill-run"


class Moment(NamedTuple):
    """One step of a life: what happened, and the state that it left."""

    event_type: str
    prev_status: str
    curr_status: str
    bill_status: str
    shape: int  # a number for the four above and `blocked`: moments of one shape differ in the counts alone
    blocked: bool
    sims: int  # replaced SIM cards so far
    products: int  # changes of product so far
    renewals: int  # renewed bundles so far


class Population:
    """Who is who, and which event is whose.

    seed: any integer; the same seed gives the same people. subscribers: 1 to 10 million. episode: events
    that come to one subscriber shortly after each other (1 or more). cohort: subscribers whose episodes
    are interleaved; the wider, the further apart two events of one subscriber. flavour: LIFE (SIMs,
    products, blocks, bundles) or BILL_RUN (bundles renewed, debtors blocked, payers opened).

    Raises ValueError when a number is out of its range.
    """

    def __init__(
        self, seed: int, subscribers: int, *, episode: int = 4, cohort: int = 256, flavour: str = LIFE
    ) -> None:
        if not 1 <= subscribers <= LIMIT:
            raise ValueError(f"subscribers must be 1 to {LIMIT}, not {subscribers}")
        if episode < 1 or cohort < 1:
            raise ValueError("episode and cohort must be at least 1")
        self._subscribers = subscribers
        self._episode = episode
        self._cohort = min(cohort, subscribers)
        self._block = self._cohort * episode
        self._members, self._turns = _interleave(branch(seed, "turns"), self._cohort, episode)
        self._stride, self._offset = _permutation(branch(seed, "people"), subscribers)
        self._scripts = [_script(draw(branch(seed, "scripts"), n), flavour) for n in range(SCRIPTS)]
        self._script_seed = branch(seed, "which") & 0xFFFFFFFF

    def locate(self, index: int) -> tuple[int, int]:
        """Say whose event this is, as (subscriber 0..subscribers-1, step of that life 0..).

        Of two events of one subscriber the one with the lower index has the lower step.
        """
        cohort, slot = divmod(index, self._block)
        epoch, place = divmod(cohort * self._cohort + self._members[slot], self._subscribers)
        subscriber = (place * self._stride + self._offset) % self._subscribers
        return subscriber, epoch * self._episode + self._turns[slot]

    def moment(self, subscriber: int, step: int) -> Moment:
        """Give what happened at that step of that life."""
        script = self._scripts[((subscriber ^ self._script_seed) * GOLDEN >> 32) % SCRIPTS]
        cycle, position = divmod(step, STEPS)
        then = script[position]
        if not cycle:
            return then
        whole = script[-1]
        return then._replace(
            sims=then.sims + cycle * whole.sims,
            products=then.products + cycle * whole.products,
            renewals=then.renewals + cycle * whole.renewals,
        )


def _interleave(seed: int, cohort: int, episode: int) -> tuple[list[int], list[int]]:
    """Shuffle the members' turns; give for each slot the member and which turn of that member it is."""
    slots = sorted(range(cohort * episode), key=lambda slot: draw(seed, slot))
    members = [slot % cohort for slot in slots]
    seen = [0] * cohort
    turns = []
    for member in members:
        turns.append(seen[member])
        seen[member] += 1
    return members, turns


def _permutation(seed: int, size: int) -> tuple[int, int]:
    """Pick stride and offset so that place * stride + offset visits each of `size` numbers once."""
    stride = draw(seed, 1) % size or 1
    while math.gcd(stride, size) != 1:
        stride += 1
    return stride, draw(seed, 2) % size


def _script(seed: int, flavour: str) -> list[Moment]:
    """Write one life: it starts with an open account and ends with an open one, so that it can be lived
    again.
    """
    moments = []
    blocked = False
    sims = products = renewals = 0
    for step in range(STEPS):
        luck = draw(seed, step) % 100
        status = ("used", "active")
        if blocked and (luck < 60 or step == STEPS - 1):
            kind, blocked, status = "Account/Unblocked", False, ("blocked", "active")
        elif not blocked and luck < 18 and step < STEPS - 1:
            kind, blocked, status = "Account/Blocked", True, ("active", "blocked")
        elif flavour == BILL_RUN or luck < 55:
            kind, renewals = "Bundle/Renewed", renewals + 1
        elif luck < 68:
            kind, sims = "SIM/Replaced", sims + 1
        elif luck < 80:
            kind, products = "Subscriber/Updated", products + 1
        else:
            kind = "SIM/Updated"
        bill = "suspended" if blocked else "open"
        shape = 2 * KINDS.index(kind) + blocked
        moments.append(Moment(kind, *status, bill, shape, blocked, sims, products, renewals))
    return moments
