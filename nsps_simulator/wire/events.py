"""The bodies that NSPS would send: enriched events of realistic size, made from a seed and an index.

Everything is a pure function of both: the same run can be sent again, by any process, in any order, and
the index can be read back from an event id. The personal fields are made up and look it: names end in a
number, addresses in `.invalid`, numbers begin with the country code 999 that nobody has, SIM cards with
the test network 001-01.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache

from nsps_simulator.wire.draw import branch, draw
from nsps_simulator.wire.population import Moment, Population

FIRST_EVENT = 1_000_000  # i_event of index 0; it grows by one with each event
FIRST_ACCOUNT = 5_000_000  # i_account of subscriber 0
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
# The templates of a shape, filled in two steps: first ~words~, which few events differ in, then the
# numbers of one event.
_HEAD = (
    b'{"event_id":"%b","data":{"event_type":"~kind~","variables":{"i_env":1,"i_event":%d,"i_account":%d,'
    b'"event_time":"%b","curr_status":"~curr~","prev_status":"~prev~"}},"pb_data":{"account_info":{"bill_status":"~bill~"'
)
_BARE_TAIL = b'}},"updated_at":"%b.%03d000+00:00"}'
_ACCOUNT = (
    b',"billing_model":"credit_account","blocked":~blocked~,"firstname":"Test","lastname":"Subscriber-%d",'
    b'"email":"subscriber-%d@example.invalid","phone1":"9990%08d","zip":"00000","i_account":%d,"i_customer":%d,'
    b'"i_product":~product~,"id":"9990%08d@msisdn","product_name":"~name~","status":"active","time_zone_name":"Etc/UTC",'
    b'"assigned_addons":[{"addon_effective_from":"2026-01-01T00:00:00","addon_priority":10,"description":"",'
    b'"i_product":3775,"i_vd_plan":1591,"name":"Made-up streaming pass"}],'
    b'"service_features":[{"name":"netaccess_policy","effective_flag_value":"Y",'
    b'"attributes":[{"name":"access_policy","effective_value":"179"}]}]},'
)
_SIM = (
    b'"sim_info":{"i_sim_card":%d,"i_account":%d,"iccid":"89999010%011d","imsi":"00101%010d","msisdn":"9990%08d",'
    b'"status":"~sim~"},'
)
_PREVIOUS = b'"prev_sim_info":{"i_sim_card":%d,"iccid":"89999010%011d","imsi":"00101%010d","status":"free"},'
_POLICY = (
    b'"access_policy_info":{"i_access_policy":179,"name":"Simulated policy","attributes":['
    b'{"group_name":"lte.sim","name":"cs_profile","value":"cs-pp-~product~"},'
    b'{"group_name":"lte.sim","name":"eps_profile","value":"eps-pp-~product~"}%b]},'
    b'"product_info":{"name":"~name~","description":"","addon_priority":0,"i_product":~product~},'
)
_COUNTERS = (
    b'"full_vd_counter_info":[{"service_name":"Internet Access KB","vdp_name":"Made-up bundle",'
    b'"i_dest_group":2650,"i_vd_dg":%d,"remaining":"10240","i_service":106,"unit":"megabyte",'
    b'"allocated_amount":10240}],'
)
_TAIL = (
    b'"rating_info":null},"status":"received","handler_id":"nsps-simulator",'
    b'"created_at":"%b.000000+00:00","updated_at":"%b.%03d000+00:00"}'
)


class Events:
    """Event number `index` of a run, as NSPS would send it."""

    def __init__(self, seed: int, population: Population) -> None:
        self._population = population
        self._seed = branch(seed, "events")
        self._key = branch(seed, "ids") & _MASK48
        self._filler, self._cuts = _filler()
        self._templates: dict[tuple[int, int | None], bytes] = {}
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

    def i_account(self, index: int) -> int:
        """Give the account that an event concerns."""
        return FIRST_ACCOUNT + self._population.locate(index)[0]

    def request(self, index: int, attempt: int) -> tuple[bytes, bytes, bytes]:
        """Give body, `x-b3-traceid` (kept over retries) and `x-request-id` (new for each attempt) of one
        request.

        The body is JSON of 0.3 KB to 1 MB, 1.5 KB as a rule.
        """
        subscriber, step = self._population.locate(index)
        moment = self._population.moment(subscriber, step)
        first = draw(self._seed, index)
        second, millisecond = divmod(index, PER_SECOND)
        if second != self._second:
            self._set_second(second)
        account = FIRST_ACCOUNT + subscriber
        event_id = _uuid(first, ((index * _ODD) & _MASK48) ^ self._key)
        head = (event_id, FIRST_EVENT + index, account, self._plain)
        luck = first & 0xFFFF
        if luck < _BARE:
            body = self._template(moment, None) % (*head, self._iso, millisecond)
        else:
            customer = 6000 + subscriber % 997
            sim = subscriber * 100 + moment.sims % 100
            before = (sim - 1, sim - 1, sim - 1) if moment.event_type == "SIM/Replaced" else ()
            after = (moment.renewals,) if moment.event_type == "Bundle/Renewed" else ()
            body = self._template(moment, moment.products % len(_PRODUCTS)) % (
                *head,
                *(subscriber, subscriber, subscriber, account, customer, subscriber),
                *(sim, account, sim, sim, subscriber, *before),
                *(
                    b"" if luck < _LARGE else self._extra(luck, first),
                    *after,
                    self._iso,
                    self._iso,
                    millisecond,
                ),
            )
        return body, b"%032x" % (first * _WIDE), b"%b%012x" % (event_id[:24], index << 12 | attempt)

    def body(self, index: int) -> bytes:
        """Render the body alone."""
        return self.request(index, 1)[0]

    def _template(self, moment: Moment, product: int | None) -> bytes:
        """Give the template of a moment's shape, made once; without a product it is the bare one."""
        key = (moment.shape, product)
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = _shape(moment, product)
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


def _shape(moment: Moment, product: int | None) -> bytes:
    """Make the template of one shape, with the words in and the numbers open."""
    parts = [_HEAD]
    if product is None:
        parts.append(_BARE_TAIL)
    else:
        parts += [_ACCOUNT, _SIM]
        if moment.event_type == "SIM/Replaced":
            parts.append(_PREVIOUS)
        parts.append(_POLICY)
        if moment.event_type == "Bundle/Renewed":
            parts.append(_COUNTERS)
        parts.append(_TAIL)
    words = {
        "kind": moment.event_type,
        "curr": moment.curr_status,
        "prev": moment.prev_status,
        "bill": moment.bill_status,
        "blocked": "true" if moment.blocked else "false",
        "sim": "blocked" if moment.blocked else "active",
        "product": str(3770 + (product or 0)),
        "name": _PRODUCTS[product or 0],
    }
    template = b"".join(parts)
    for slot, word in words.items():
        template = template.replace(b"~%b~" % slot.encode(), word.encode())
    return template


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
