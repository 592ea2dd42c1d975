"""The bodies that NSPS would send: enriched events of realistic size, made from a seed and an index.

Everything is a pure function of both: the same run can be sent again, by any process, in any order, and the
index can be read back from an event id. The personal fields are made up and look it: names end in a number,
addresses in `.invalid`, numbers begin with the country code 999 that nobody has, SIM cards with the test network 001-01.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta

from connector.simulator.draw import GOLDEN, MASK, branch, draw, mix
from connector.simulator.population import Moment, Population

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

# Shares of 65,536: one event in ten is bare, 26 in a thousand are large, one in 1,000 is huge, one in 65,536 is of the greatest size.
_BARE, _LARGE, _HUGE, _GREATEST = 6_554, 63_766, 65_470, 65_535

_PRODUCTS = ("Pay as you go", "Family 20 GB", "Business voice", "Unlimited 5G", "Tourist week")
_HEAD = (
    b'{"event_id":"%b","data":{"event_type":"%b","variables":{"i_env":1,"i_event":%d,"i_account":%d,'
    b'"event_time":"%b","curr_status":"%b","prev_status":"%b"}},"pb_data":{"account_info":{"bill_status":"%b"'
)
_BARE_TAIL = b'}},"updated_at":"%b.%03d000+00:00"}'
_ACCOUNT = (
    b',"billing_model":"credit_account","blocked":%b,"firstname":"Test","lastname":"Subscriber-%d",'
    b'"email":"subscriber-%d@example.invalid","phone1":"9990%08d","zip":"00000","i_account":%d,"i_customer":%d,'
    b'"i_product":%d,"id":"9990%08d@msisdn","product_name":"%b","status":"active","time_zone_name":"Etc/UTC",'
    b'"assigned_addons":[{"addon_effective_from":"2026-01-01T00:00:00","addon_priority":10,"description":"",'
    b'"i_product":3775,"i_vd_plan":1591,"name":"Made-up streaming pass"}],'
    b'"service_features":[{"name":"netaccess_policy","effective_flag_value":"Y",'
    b'"attributes":[{"name":"access_policy","effective_value":"179"}]}]},'
    b'"sim_info":{"i_sim_card":%d,"i_account":%d,"iccid":"89999010%011d","imsi":"00101%010d","msisdn":"9990%08d","status":"%b"},'
)
_PREVIOUS = b'"prev_sim_info":{"i_sim_card":%d,"i_account":%d,"iccid":"89999010%011d","imsi":"00101%010d","status":"free"},'
_POLICY = (
    b'"access_policy_info":{"i_access_policy":179,"name":"Simulated policy","attributes":['
    b'{"group_name":"lte.sim","name":"cs_profile","value":"cs-pp-%d"},'
    b'{"group_name":"lte.sim","name":"eps_profile","value":"eps-pp-%d"}%b]},'
    b'"product_info":{"name":"%b","description":"","addon_priority":0,"i_product":%d},'
)
_COUNTERS = (
    b'"full_vd_counter_info":[{"service_name":"Internet Access KB","vdp_name":"Made-up bundle","i_vd_plan":204,'
    b'"i_dest_group":2650,"i_vd_dg":%d,"remaining":"%d","i_service":106,"unit":"megabyte",'
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

    def trace(self, index: int, attempt: int) -> tuple[bytes, bytes]:
        """Give `x-b3-traceid` (kept over retries) and `x-request-id` (new for each attempt)."""
        first = draw(self._seed, index)
        return b"%016x%016x" % (first ^ MASK, first), _uuid(mix(first ^ attempt), index)

    def body(self, index: int) -> bytes:
        """Render the body: JSON of 0.3 KB to 1 MB, 1.5 KB as a rule."""
        subscriber, step = self._population.locate(index)
        moment = self._population.moment(subscriber, step)
        first = draw(self._seed, index)
        second, millisecond = divmod(index, PER_SECOND)
        if second != self._second:
            self._set_second(second)
        account = FIRST_ACCOUNT + subscriber
        head = _HEAD % (
            _uuid(first, ((index * _ODD) & _MASK48) ^ self._key),
            moment.event_type.encode(),
            FIRST_EVENT + index,
            account,
            self._plain,
            moment.curr_status.encode(),
            moment.prev_status.encode(),
            moment.bill_status.encode(),
        )
        luck = first & 0xFFFF
        if luck < _BARE:
            return head + _BARE_TAIL % (self._iso, millisecond)
        return head + self._enriched(subscriber, account, moment, self._extra(luck, first), millisecond)

    def _enriched(self, subscriber: int, account: int, moment: Moment, extra: bytes, millisecond: int) -> bytes:
        product = moment.products % len(_PRODUCTS)
        name = _PRODUCTS[product].encode()
        sim = subscriber * 100 + moment.sims % 100
        blocked = b"true" if moment.blocked else b"false"
        status = b"blocked" if moment.blocked else b"active"
        parts = [
            _ACCOUNT
            % (
                *(blocked, subscriber, subscriber, subscriber, account, 6000 + subscriber % 997),
                *(3770 + product, subscriber, name, sim, account, sim, sim, subscriber, status),
            )
        ]
        if moment.event_type == "SIM/Replaced":
            parts.append(_PREVIOUS % (sim - 1, account, sim - 1, sim - 1))
        parts.append(_POLICY % (20260000 + product, 20260000 + product, extra, name, 3770 + product))
        if moment.event_type == "Bundle/Renewed":
            parts.append(_COUNTERS % (moment.renewals, 10240))
        parts.append(_TAIL % (self._iso, self._iso, millisecond))
        return b"".join(parts)

    def _extra(self, luck: int, first: int) -> bytes:
        """Give as much more of the access policy as this event's size asks for."""
        spread = (first >> 16) & 0xFFF
        if luck < _LARGE:
            return b""
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


def _uuid(bits: int, node: int) -> bytes:
    """Format a version 4 UUID out of 64 bits and the 48 of its last group."""
    clock = (bits * GOLDEN >> 7) & 0x3FFF
    return b"%08x-%04x-4%03x-%04x-%012x" % (bits >> 32, bits >> 16 & 0xFFFF, bits & 0xFFF, 0x8000 | clock, node)


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
