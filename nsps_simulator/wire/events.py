"""The bodies that NSPS would send: enriched events of realistic size, made from a seed and an index.

Everything is a pure function of both: the same run can be sent again, by any process, in any order, and
the index can be read back from an event id. The personal fields are made up and look it: names end in a
number, addresses in `.invalid`, numbers begin with the country code 999 that nobody has, SIM cards with
the test network 001-01.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache

from nsps_simulator.wire.draw import GOLDEN, branch, draw
from nsps_simulator.wire.population import KEY_BITS, ROLES, Moment, Population

FIRST_EVENT = 1_000_000  # i_event of index 0; it grows by one with each event
FIRST_ACCOUNT = 5_000_000  # i_account of the first account of subscriber 0
MAX_BODY = 1_000_000
MAX_EVENTS = 1 << 32

# The virtual clock: each event is enriched a millisecond after the one before it, so `updated_at` never ties.
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
PER_SECOND = 1000

_ODD = 0xB5026F5AA967
_ODD_INVERSE = pow(_ODD, -1, 1 << 48)
_MASK48 = (1 << 48) - 1
_WIDE = 0xD1342543DE82EF95  # spreads 64 drawn bits over the 128 of a trace id

# Shares of 65,536: one event in ten is bare, 26 in a thousand are large, one in 1,000 is huge, one in
# 65,536 is of the greatest size.
_BARE, _LARGE, _HUGE, _GREATEST = 6_554, 63_766, 65_470, 65_535

_PRODUCTS = ("Pay as you go", "Family 20 GB", "Business voice", "Unlimited 5G", "Tourist week")
# The pieces of a body. %(name)b and %(name)d are filled for each event, the words between ~ once for each shape.
_HEAD = b'{"event_id":"%(id)b","data":{"event_type":"~kind~","variables":{"i_env":%(env)d,"i_event":%(i_event)d,'
_VARIABLES = {
    "account": b'"i_account":%(account)d,',
    "card": b'"i_sim_card":%(sim)d,',
    "customer": b'"i_customer":%(customer)d,',
    "number": b'"number":"9990%(subscriber)08d","i_customer":%(customer)d,',
}
_TIMES = b'"event_time":"%(plain)b","curr_status":"~curr~","prev_status":"~prev~"}},"pb_data":{'
_BARE_ACCOUNT = b'"account_info":{"bill_status":"~bill~"}'
_ACCOUNT = (
    b'"account_info":{"bill_status":"~bill~","billing_model":"credit_account","blocked":~blocked~,"firstname":"Test",'
    b'"lastname":"Subscriber-%(subscriber)d","email":"subscriber-%(subscriber)d@example.invalid",'
    b'"phone1":"9990%(subscriber)08d","zip":"00000","i_account":%(account)d,"i_customer":%(customer)d,'
    b'"i_product":~product~,"id":"999~line~%(subscriber)08d@msisdn","product_name":"~name~","status":"active",'
    b'"time_zone_name":"Etc/UTC","assigned_addons":[{"addon_effective_from":"2026-01-01T00:00:00",'
    b'"addon_priority":10,"description":"","i_product":3775,"i_vd_plan":1591,"name":"Made-up streaming pass"}],'
    b'"service_features":[{"name":"netaccess_policy","effective_flag_value":"Y",'
    b'"attributes":[{"name":"access_policy","effective_value":"179"}]}]},'
)
_CUSTOMER = b'"customer_info":{"i_customer":%(customer)d,"name":"Customer-%(subscriber)d","bill_status":"~curr~"},'
_SIM = (
    b'"sim_info":{"i_sim_card":%(sim)d,"i_account":%(holder)b,"iccid":"89999010%(card)011d","imsi":"00101%(card)010d",'
    b'"msisdn":"999~line~%(subscriber)08d","status":"~sim~"},'
)
_NO_SIM = b'"sim_info":null,'
_PREVIOUS = (
    b'"prev_sim_info":{"i_sim_card":%(prev_sim)d,"iccid":"89999010%(prev_card)011d","imsi":"00101%(prev_card)010d",'
    b'"status":"free"},'
)
_POLICY = (
    b'"access_policy_info":{"i_access_policy":179,"name":"Simulated policy","attributes":['
    b'{"group_name":"lte.sim","name":"cs_profile","value":"cs-pp-~product~"},'
    b'{"group_name":"lte.sim","name":"eps_profile","value":"eps-pp-~product~"}%(extra)b]},'
    b'"product_info":{"name":"~name~","description":"","addon_priority":0,"i_product":~product~},'
)
_COUNTERS = (
    b'"full_vd_counter_info":[{"service_name":"Internet Access KB","vdp_name":"Made-up bundle",'
    b'"i_dest_group":2650,"i_vd_dg":%(renewals)d,"remaining":"10240","i_service":106,"unit":"megabyte",'
    b'"allocated_amount":10240}],'
)
_TAIL = (
    b'"rating_info":null},"status":"received","handler_id":"nsps-simulator",'
    b'"created_at":"%(iso)b.000000+00:00","updated_at":"%(iso)b.%(ms)03d000+00:00"}'
)
_BARE_TAIL = b'},"updated_at":"%(iso)b.%(ms)03d000+00:00"}'

ENVIRONMENTS = (1, 3)  # neighbours share the numbers of PortaBilling, each in an environment of its own
_CARD_NUMBERS = 1000  # cards that one subscriber can have had before their numbers come again
_PERL_NUMBER = re.compile(rb'("i_\w+"|"addon_priority"|"allocated_amount"):(%\(\w+\)d|\d+)')


class Events:
    """Event number `index` of a run, as NSPS would send it.

    perl: the share (0 to 1) of subscribers whose events have Perl's types: numbers as strings, "Y" and "N" for
    booleans, empty lists and strings for nothing.
    """

    def __init__(self, seed: int, population: Population, *, perl: float = 0.0) -> None:
        self._population = population
        self._seed = branch(seed, "events")
        self._key = branch(seed, "ids") & _MASK48
        self._perl = int(perl * 256)
        self._filler, self._cuts = _filler()
        self._templates: dict[tuple[object, ...], bytes] = {}
        self._second = -1
        self._iso = b""
        self._plain = b""

    def event_id(self, index: int) -> bytes:
        """Give the id of an event: a random-looking UUID that `index_of` can read."""
        first = draw(self._seed, index)
        return _uuid(first, ((index * _ODD) & _MASK48) ^ self._key)

    def index_of(self, event_id: bytes) -> int | None:
        """Read the index back from an id; None when no event of this run has that id."""
        try:
            index = ((int(event_id[-12:], 16) ^ self._key) * _ODD_INVERSE) & _MASK48
        except ValueError:
            return None
        return index if index < MAX_EVENTS and self.event_id(index) == event_id else None

    def i_event(self, index: int) -> int:
        """Give PortaBilling's number of an event; it grows with the index."""
        return FIRST_EVENT + index

    def subscriber(self, index: int) -> int:
        """Give the subscriber that an event concerns, 0..subscribers-1."""
        return self._population.locate(index)[0]

    def resources(self, index: int, roles: frozenset[str] = frozenset(ROLES)) -> tuple[int, ...]:
        """Give the keys of what an event touches, among `roles`; two events share a key if they share a resource."""
        subscriber, step = self._population.locate(index)
        base = subscriber << KEY_BITS
        return tuple(base | code for code in self._population.moment(subscriber, step).touches(roles))

    def describe(self, index: int) -> dict[str, object]:
        """Name an event for a person: type, environment, account and cards."""
        subscriber, step = self._population.locate(index)
        moment = self._population.moment(subscriber, step)
        facts: dict[str, object] = {
            "event_id": self.event_id(index).decode(),
            "event_type": moment.event_type,
            "subscriber": subscriber,
            "i_env": ENVIRONMENTS[subscriber & 1],
            "i_event": self.i_event(index),
        }
        if moment.account is not None:
            facts["i_account"] = _account(subscriber, moment.account)
        if moment.card is not None:
            facts["imsi"] = f"00101{_card(subscriber, moment.card):010d}"
        if moment.previous is not None:
            facts["previous_imsi"] = f"00101{_card(subscriber, moment.previous):010d}"
        return facts

    def request(self, index: int, attempt: int) -> tuple[bytes, bytes, bytes]:
        """Give body, `x-b3-traceid` (kept over retries) and `x-request-id` (new for each attempt) of one
        request.

        The body is JSON of 0.3 KB to 1 MB, 1.5 KB as a rule.
        """
        event_id, first, body = self._render(index)
        return body, b"%032x" % (first * _WIDE), b"%b%012x" % (event_id[:24], index << 16 | attempt & 0xFFFF)

    def body(self, index: int) -> bytes:
        """Render the body alone."""
        return self._render(index)[2]

    def _render(self, index: int) -> tuple[bytes, int, bytes]:
        """Give (event id, the 64 bits drawn for the event, body)."""
        subscriber, step = self._population.locate(index)
        moment = self._population.moment(subscriber, step)
        first = draw(self._seed, index)
        second, millisecond = divmod(index, PER_SECOND)
        if second != self._second:
            self._set_second(second)
        event_id = _uuid(first, ((index * _ODD) & _MASK48) ^ self._key)
        luck = first & 0xFFFF
        account, card, previous = moment.account, moment.card, moment.previous
        in_porta = subscriber >> 1
        values = {
            b"id": event_id,
            b"env": ENVIRONMENTS[subscriber & 1],
            b"i_event": FIRST_EVENT + index,
            b"subscriber": subscriber,
            b"customer": 6000 + in_porta,
            b"plain": self._plain,
            b"iso": self._iso,
            b"ms": millisecond,
            b"renewals": moment.renewals,
            b"extra": b"" if luck < _LARGE else self._extra(luck, first),
            b"account": 0 if account is None else FIRST_ACCOUNT + 2 * in_porta + account,
            b"holder": b"null" if account is None else b"%d" % (FIRST_ACCOUNT + 2 * in_porta + account),
        }
        if card is not None:
            values[b"sim"] = in_porta * _CARD_NUMBERS + card % _CARD_NUMBERS
            values[b"card"] = subscriber * _CARD_NUMBERS + card % _CARD_NUMBERS
        if previous is not None:
            values[b"prev_sim"] = in_porta * _CARD_NUMBERS + previous % _CARD_NUMBERS
            values[b"prev_card"] = subscriber * _CARD_NUMBERS + previous % _CARD_NUMBERS
        bare = luck < _BARE and moment.event_type.startswith("Account/")
        perl = (subscriber * GOLDEN >> 40) & 0xFF < self._perl
        return event_id, first, self._template(moment, bare, perl) % values

    def _template(self, moment: Moment, bare: bool, perl: bool) -> bytes:
        """Give the template of a moment's shape, made once."""
        product = moment.products % len(_PRODUCTS)
        shape = (moment.card is None, moment.previous is None, moment.account, moment.blocked)
        key = (moment.event_type, moment.prev_status, moment.curr_status, shape, product, bare, perl)
        template = self._templates.get(key)
        if template is None:
            template = _shape(moment, product, bare=bare)
            self._templates[key] = template = _as_perl(template) if perl else template
        return template

    def _extra(self, luck: int, first: int) -> bytes:
        """Give as much more of the access policy as this event's size asks for."""
        spread = (first >> 16) & 0xFFF
        if luck < _HUGE:
            size = 2_000 + spread * 2  # 2 to 10 KB more
        elif luck < _GREATEST:
            size = 20_000 + spread * 40  # 20 to 184 KB more
        else:
            size = MAX_BODY - 3_000
        return self._filler[: self._cuts[bisect_right(self._cuts, size) - 1]]

    def _set_second(self, second: int) -> None:
        moment = EPOCH + timedelta(seconds=second)
        self._second = second
        self._iso = moment.strftime("%Y-%m-%dT%H:%M:%S").encode()
        self._plain = moment.strftime("%Y-%m-%d %H:%M:%S").encode()


def _account(subscriber: int, account: int) -> int:
    return FIRST_ACCOUNT + 2 * (subscriber >> 1) + account


def _card(subscriber: int, card: int) -> int:
    return subscriber * _CARD_NUMBERS + card % _CARD_NUMBERS


def _shape(moment: Moment, product: int, *, bare: bool) -> bytes:
    """Make the template of one shape, with the words in and the numbers open."""
    kind = moment.event_type.partition("/")[0]
    about = {"Customer": "customer", "DID": "number"}.get(kind, "account" if moment.account is not None else "card")
    parts = [_HEAD, _VARIABLES[about], _TIMES]
    if bare:
        parts += [_BARE_ACCOUNT, _BARE_TAIL]
    else:
        if moment.account is not None:
            parts.append(_ACCOUNT)
        elif about in {"customer", "number"}:
            parts.append(_CUSTOMER)
        if moment.card is not None:
            parts.append(_SIM)
        elif moment.previous is not None:
            parts.append(_NO_SIM)
        if moment.previous is not None:
            parts.append(_PREVIOUS)
        if moment.account is not None:
            parts.append(_POLICY)
        if moment.event_type == "Account/ProductAddon/Changed":
            parts.append(_COUNTERS)
        parts.append(_TAIL)
    words = {
        "kind": moment.event_type,
        "curr": moment.curr_status,
        "prev": moment.prev_status,
        "bill": moment.bill_status,
        "blocked": "true" if moment.blocked else "false",
        "sim": "blocked" if moment.blocked else "active" if moment.account is not None else "free",
        "product": str(3770 + product),
        "name": _PRODUCTS[product],
        "line": str(moment.account or 0),
    }
    template = b"".join(parts)
    for slot, word in words.items():
        template = template.replace(b"~%b~" % slot.encode(), word.encode())
    return template


def _as_perl(template: bytes) -> bytes:
    """Give the same template with the types that PortaBilling's Perl may send."""
    template = _PERL_NUMBER.sub(rb'\1:"\2"', template)
    template = template.replace(b'"blocked":true', b'"blocked":"Y"').replace(b'"blocked":false', b'"blocked":"N"')
    template = template.replace(b'"sim_info":null', b'"sim_info":[]').replace(
        b'"rating_info":null', b'"rating_info":""'
    )
    return template.replace(b'"i_account":%(holder)b', b'"i_account":"%(account)d"')


def _uuid(bits: int, node: int) -> bytes:
    """Format a version 4 UUID out of 64 bits and the 48 of its last group."""
    return b"%08x-%04x-4%03x-8%03x-%012x" % (
        bits >> 32,
        bits >> 16 & 0xFFFF,
        bits & 0xFFF,
        bits >> 12 & 0xFFF,
        node,
    )


@cache
def _filler() -> tuple[bytes, list[int]]:
    """Make a megabyte of policy attributes once, and where it may be cut."""
    parts: list[bytes] = []
    cuts = [0]
    while cuts[-1] < MAX_BODY:
        number = len(parts)
        parts.append(
            b',{"group_name":"lte.sim.%d","name":"apn_%d","value":"internet-%d.example.invalid"}'
            % (number % 7, number, number)
        )
        cuts.append(cuts[-1] + len(parts[-1]))
    return b"".join(parts), cuts
