"""The subscribers of a made-up operator, and what happens to them, as PortaBilling has it.

A subscriber is a customer with two accounts, a number and the SIM cards that come and go between the accounts.
Nobody is stored: a subscriber is a number, and a life is a script of sixteen steps, chosen by that number and
lived again and again, so the state after any step is looked up and never walked to. Ten million subscribers cost
as much memory as ten.

A script is a chain of stories. Between two stories the first account is open and holds a card, the second holds
none. Card numbers grow with each new card, so a life that begins again never takes up a card that was deleted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from nsps_simulator.wire.draw import GOLDEN, branch, draw

SCRIPTS = 32
STEPS = 16
LIMIT = 10_000_000  # the largest installation that NSPS serves

LIFE = "life"
BILL_RUN = "bill-run"

ROLES = ("account", "card", "previous_card", "customer", "number", "invoice")

# The resources of one subscriber; a card's is CARDS and its number.
FIRST, SECOND, CUSTOMER, NUMBER, INVOICE, CARDS = 0, 1, 2, 3, 4, 8
KEY_BITS = 24  # of the resources of one subscriber


class Moment(NamedTuple):
    """One step of a life: what happened, and the state that it left.

    account: FIRST, SECOND, or None for what concerns no account. card, previous: numbers of cards, None where
    the event has none. cards: cards used so far; products, renewals: changes so far.
    """

    event_type: str
    prev_status: str = "used"
    curr_status: str = "active"
    account: int | None = FIRST
    blocked: bool = False
    card: int | None = None
    previous: int | None = None
    cards: int = 0
    products: int = 0
    renewals: int = 0

    @property
    def bill_status(self) -> str:
        """The status of the account in the billing."""
        return "suspended" if self.blocked else "open"

    def touches(self, roles: frozenset[str]) -> list[int]:
        """List the resources that the event touches, among `roles`; the first is what it is about.

        By kind of event type, as the NSPS connector guide describes them: SIM/* concern a card and the accounts
        that have or had it, Account/* and Subscriber/* an account, Customer/*, DID/* and Invoice/* what they are
        named for.
        """
        touched: list[int] = []
        kind = self.event_type.partition("/")[0]
        if self.account is not None and "account" in roles:
            touched.append(self.account)
        if kind == "SIM":
            if self.card is not None and "card" in roles:
                touched.append(CARDS + self.card)
            if self.previous is not None and "previous_card" in roles:
                touched.append(CARDS + self.previous)
        elif (named := _NAMED.get(kind)) and named[0] in roles:
            touched.append(named[1])
        return touched


_NAMED = {"Customer": ("customer", CUSTOMER), "DID": ("number", NUMBER), "Invoice": ("invoice", INVOICE)}


class Population:
    """Who is who, and which event is whose.

    seed: any integer; the same seed gives the same people. subscribers: 1 to 10 million. episode: events
    that come to one subscriber shortly after each other (1 or more). cohort: subscribers whose episodes
    are interleaved; the wider, the further apart two events of one subscriber. flavour: LIFE (cards, products,
    blocks, bundles, numbers) or BILL_RUN (bundles renewed, debtors blocked, payers opened).

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
        used = cycle * whole.cards
        return then._replace(
            card=None if then.card is None else then.card + used,
            previous=None if then.previous is None else then.previous + used,
            cards=then.cards + used,
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


# Each story is given the state so far, and gives its moments. The state is a Moment of which only the counts and
# the card matter: `cards` is the number of the card that the first account holds.


def _touch(now: Moment) -> list[Moment]:
    return [now._replace(event_type="SIM/Updated")]


def _block(now: Moment) -> list[Moment]:
    return [
        now._replace(event_type="Account/Blocked", prev_status="active", curr_status="blocked", blocked=True),
        now._replace(event_type="Account/Unblocked", prev_status="blocked"),
    ]


def _suspend(now: Moment) -> list[Moment]:
    return [
        now._replace(event_type="Account/Status/Suspended", prev_status="active", curr_status="blocked", blocked=True),
        now._replace(event_type="Account/Status/SuspensionRemoved", prev_status="blocked"),
    ]


def _replace(now: Moment) -> list[Moment]:
    """A new card takes the place of the old one, which is deleted."""
    old, new = now.cards, now.cards + 1
    then = now._replace(cards=new, card=new)
    return [
        then._replace(event_type="SIM/Created", account=None),
        then._replace(event_type="SIM/Replaced", previous=old),
        then._replace(event_type="SIM/Deleted", account=None, card=old),
    ]


def _move(now: Moment) -> list[Moment]:
    """The card goes to the second account for a while."""
    card = now.cards
    return [
        now._replace(event_type="SIM/Replaced", card=None, previous=card),
        now._replace(event_type="SIM/Replaced", account=SECOND),
        now._replace(event_type="SIM/Updated", account=SECOND),
        now._replace(event_type="SIM/Replaced", account=SECOND, card=None, previous=card),
        now._replace(event_type="SIM/Replaced"),
    ]


def _hand_over(now: Moment) -> list[Moment]:
    """The first account gets a new card, the second one the old card, until that is removed and deleted."""
    old, new = now.cards, now.cards + 1
    then = now._replace(cards=new, card=new)
    return [
        then._replace(event_type="SIM/Created", account=None),
        then._replace(event_type="SIM/Replaced", previous=old),
        then._replace(event_type="SIM/Replaced", account=SECOND, card=old),
        then._replace(event_type="SIM/Replaced", account=SECOND, card=None, previous=old),
        then._replace(event_type="SIM/Deleted", account=None, card=old),
    ]


def _product(now: Moment) -> list[Moment]:
    return [now._replace(event_type="Account/Product/Changed", products=now.products + 1)]


def _renew(now: Moment) -> list[Moment]:
    return [now._replace(event_type="Account/ProductAddon/Changed", renewals=now.renewals + 1)]


def _customer(now: Moment) -> list[Moment]:
    return [
        now._replace(event_type="Customer/Blocked", account=None, card=None, curr_status="blocked"),
        now._replace(event_type="Customer/Unblocked", account=None, card=None, prev_status="blocked"),
    ]


def _number(now: Moment) -> list[Moment]:
    return [
        now._replace(event_type="DID/Assigned", account=None, card=None),
        now._replace(event_type="DID/Unassigned", account=None, card=None),
    ]


# Stories and their weights; the first one fills what is left of a script.
_STORIES = {
    LIFE: (
        *((_touch, 28), (_block, 14), (_suspend, 6), (_replace, 14), (_move, 8)),
        *((_hand_over, 8), (_product, 8), (_renew, 8), (_customer, 3), (_number, 3)),
    ),
    BILL_RUN: ((_renew, 82), (_block, 18)),
}


def _script(seed: int, flavour: str) -> list[Moment]:
    """Write one life: it ends in the state in which it began, but for the counts."""
    stories = [story for story, weight in _STORIES[flavour] for _ in range(weight)]
    filler = stories[0]
    moments: list[Moment] = []
    now = Moment("", card=0)
    for number in range(STEPS):
        if len(moments) == STEPS:
            break
        told = stories[draw(seed, number) % len(stories)](now)
        if len(moments) + len(told) > STEPS:
            told = filler(now)
        moments += told
        end = told[-1]
        now = now._replace(card=end.cards, cards=end.cards, products=end.products, renewals=end.renewals)
    return moments
