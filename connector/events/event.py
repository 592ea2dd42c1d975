"""The NSPS event, typed. Bytes → Event is pure; no I/O here.

The documented fields are typed (NSPS connector guide and its OpenAPI description); a field nobody has
documented is never refused and stands in ``Event.document()``. Every documented field beside ``data.event_type``
may be missing or null. Ids may come as numbers or as numeric strings and are numbers here.
"""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import msgspec
import orjson
from msgspec import Meta
from structlog.typing import FilteringBoundLogger

from connector.events.identity import Identity, identity_of
from connector.log import get_logger

MAX_NAME = 255
"""Characters in an event id, event type or lane key; NSPS sends UUIDs and short names."""

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]


class ServiceFeatureAttribute(msgspec.Struct, frozen=True):
    """An attribute of a service feature."""

    name: str | None = None
    effective_value: str | None = None


class ServiceFeature(msgspec.Struct, frozen=True):
    """A service feature as it is in effect for the account."""

    name: str | None = None
    effective_flag_value: str | None = None
    attributes: list[ServiceFeatureAttribute] | None = None


class AddOnProduct(msgspec.Struct, frozen=True):
    """An add-on product assigned to the account."""

    i_product: int | None = None
    i_vd_plan: int | None = None
    i_product_group: int | None = None
    name: str | None = None
    description: str | None = None
    addon_priority: int | None = None
    addon_effective_from: str | None = None
    addon_effective_to: str | None = None


class AccountInfo(msgspec.Struct, frozen=True):
    """The account as PortaBilling had it when NSPS enriched the event. Has personal fields: never log it."""

    i_account: int | None = None
    i_customer: int | None = None
    i_master_account: int | None = None
    i_product: int | None = None
    i_vd_plan: int | None = None
    id: str | None = None
    bill_status: str | None = None
    billing_model: str | None = None
    blocked: bool | None = None
    status: str | None = None
    product_name: str | None = None
    firstname: str | None = None
    lastname: str | None = None
    email: str | None = None
    phone1: str | None = None
    zip: str | None = None
    time_zone_name: str | None = None
    assigned_addons: list[AddOnProduct] | None = None
    service_features: list[ServiceFeature] | None = None


class CardInfo(msgspec.Struct, frozen=True):
    """A SIM card."""

    i_sim_card: int | None = None
    i_account: int | None = None
    iccid: str | None = None
    imsi: str | None = None
    msisdn: str | None = None
    status: str | None = None


class AccessPolicyAttribute(msgspec.Struct, frozen=True):
    """An attribute of an access policy, e.g. group ``lte.wtl``, name ``cs_profile``."""

    group_name: str | None = None
    name: str | None = None
    value: str | None = None


class AccessPolicyInfo(msgspec.Struct, frozen=True):
    """An access policy of the account."""

    i_access_policy: int | None = None
    name: str | None = None
    attributes: list[AccessPolicyAttribute] | None = None


class ProductInfo(msgspec.Struct, frozen=True):
    """The product of the account."""

    i_product: int | None = None
    name: str | None = None
    description: str | None = None
    addon_priority: int | None = None


class CounterInfo(msgspec.Struct, frozen=True):
    """A bundle's counter; ``remaining`` and ``allocated_amount`` are numbers or texts such as ``N/A``."""

    service_name: str | None = None
    vdp_name: str | None = None
    i_vd_plan: int | None = None
    i_dest_group: int | None = None
    addon_priority: int | None = None
    i_vd_dg: int | None = None
    remaining: int | float | str | None = None
    i_service: int | None = None
    dg_name: str | None = None
    discount_info: str | None = None
    unit: str | None = None
    allocated_amount: int | float | str | None = None


class PBData(msgspec.Struct, frozen=True):
    """What NSPS added to the event: a snapshot of PortaBilling as of ``updated_at``.

    A part that did not come (or came as null) reads as one whose fields are all None, so
    ``event.pb_data.sim_info.imsi`` never fails.
    """

    _account_info: AccountInfo | None = msgspec.field(default=None, name="account_info")
    _sim_info: CardInfo | None = msgspec.field(default=None, name="sim_info")
    _prev_sim_info: CardInfo | None = msgspec.field(default=None, name="prev_sim_info")
    _access_policy_info: AccessPolicyInfo | list[AccessPolicyInfo] | None = msgspec.field(
        default=None, name="access_policy_info"
    )
    _product_info: ProductInfo | None = msgspec.field(default=None, name="product_info")
    full_vd_counter_info: list[CounterInfo] | None = None

    @property
    def account_info(self) -> AccountInfo:
        """The account."""
        return self._account_info or _NO_ACCOUNT

    @property
    def sim_info(self) -> CardInfo:
        """The SIM card."""
        return self._sim_info or _NO_CARD

    @property
    def prev_sim_info(self) -> CardInfo:
        """The SIM card that a ``SIM/Replaced`` took away."""
        return self._prev_sim_info or _NO_CARD

    @property
    def access_policy_info(self) -> AccessPolicyInfo:
        """The access policy; the first where NSPS sent a list of them."""
        policies = self.access_policies
        return policies[0] if policies else _NO_POLICY

    @property
    def access_policies(self) -> list[AccessPolicyInfo]:
        """All access policies, whichever of the two documented forms came."""
        found = self._access_policy_info
        if found is None:
            return []
        return found if isinstance(found, list) else [found]

    @property
    def product_info(self) -> ProductInfo:
        """The product."""
        return self._product_info or _NO_PRODUCT


class ESPFEvent(msgspec.Struct, frozen=True):
    """The PortaBilling event: its type and its variables as they were."""

    event_type: Name
    _variables: dict[str, Any] | None = msgspec.field(default=None, name="variables")

    @property
    def variables(self) -> dict[str, Any]:
        """The ESPF variables; ids may be numbers or numeric strings. Not to be changed."""
        return self._variables if self._variables is not None else {}


class EventBody(msgspec.Struct, frozen=True):
    """The body of ``POST /process-event``."""

    data: ESPFEvent
    event_id: Annotated[str, Meta(max_length=MAX_NAME)] | None = None
    _pb_data: PBData | None = msgspec.field(default=None, name="pb_data")
    handler_id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    status: str | None = None

    @property
    def pb_data(self) -> PBData:
        """The enrichment; all None where NSPS sent none."""
        return self._pb_data or _NO_PB_DATA


_NO_ACCOUNT, _NO_CARD, _NO_POLICY, _NO_PRODUCT = AccountInfo(), CardInfo(), AccessPolicyInfo(), ProductInfo()
_NO_PB_DATA = PBData()

decode = msgspec.json.Decoder(EventBody, strict=False).decode
"""The typed body of bytes. Raises msgspec.DecodeError, UnicodeDecodeError or RecursionError."""


class Event(msgspec.Struct, eq=False, gc=False):
    """An accepted event: what a handler is given. Not to be changed.

    ``event_id``    its id; a generated one where the sender gave none
    ``event_type``  e.g. ``SIM/Updated``
    ``resources``   what it touches, the subscriber's key first: events that share one run one at a time, in order
    ``request_id``, ``unique_id``  the trace ids of the request that brought it
    ``accepted_at`` when, in seconds since the epoch
    ``raw``         the body as it came
    ``seq``         its place in the order of acceptance (0 until the journal has stored it)
    ``attempt``     which attempt this is, from 1
    ``due``         when a waiting event is to be tried again, in seconds since the epoch; infinity for a held one
    ``log_ids``     the ids as they stand in its log lines, kept for the next line
    """

    event_id: str
    event_type: str
    resources: tuple[str, ...]
    request_id: str
    unique_id: str
    accepted_at: float
    raw: bytes
    seq: int = 0
    attempt: int = 1
    due: float | None = None
    log_ids: bytes | None = None
    _identity: Identity | None = None
    _body: EventBody | None = None

    def __repr__(self) -> str:
        """Ids and type only: the body has personal fields."""
        return f"<Event {self.event_id} {self.event_type} seq={self.seq} attempt={self.attempt}>"

    @property
    def body(self) -> EventBody:
        """The typed body; decoded once, at acceptance or when the event comes back from the journal."""
        if self._body is None:
            self._body = decode(self.raw)
        return self._body

    @property
    def identity(self) -> Identity:
        """What makes this event one and no other; two with equal identities are one event, sent twice."""
        if self._identity is None:
            self._identity = identity_of(self.body)
        return self._identity

    def idempotency_key(self, handler: str) -> str:
        """The key for the external system: the same over all attempts and retries of the event by this handler."""
        return self.identity.idempotency_key(handler, self.event_id)

    @property
    def lane(self) -> str:
        """The subscriber's key; one of its own for an event that touches nothing."""
        return self.resources[0] if self.resources else f"event_id:{self.event_id}"

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger whose lines carry the event's ids; put no personal field into them."""
        return get_logger(
            action="handler.log",
            request_id=self.request_id,
            unique_id=self.unique_id,
            event_id=self.event_id,
            event_type=self.event_type,
        )

    @property
    def data(self) -> ESPFEvent:
        """``data``: event type and variables."""
        return self.body.data

    @property
    def pb_data(self) -> PBData:
        """``pb_data``: account, SIM, product and policy data."""
        return self.body.pb_data

    @property
    def created_at(self) -> datetime | None:
        """When the event was made, or None where it is missing or no ISO 8601 time."""
        return parse_time(self.body.created_at)

    @property
    def updated_at(self) -> datetime | None:
        """When NSPS took the snapshot in ``pb_data``, or None as above."""
        return parse_time(self.body.updated_at)

    def document(self) -> dict[str, Any]:
        """The parsed body with the fields nobody modelled."""
        return document_of(self.raw)


def document_of(raw: bytes) -> dict[str, Any]:
    """An accepted body, parsed."""
    try:
        return cast("dict[str, Any]", orjson.loads(raw))
    except orjson.JSONDecodeError:  # legal JSON that orjson refuses: a number too large for a double
        return cast("dict[str, Any]", json.loads(raw, parse_int=float))


def parse_time(text: object) -> datetime | None:
    """An ISO 8601 time (or ``YYYY-MM-DD HH:MM:SS``) as an aware datetime, UTC where no offset stands; else None."""
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
