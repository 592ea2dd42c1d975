"""The body of an event, typed: the documented fields of NSPS's connector guide and of its OpenAPI description.

A field that nobody has documented is never refused and stands in ``Event.document()``. Every documented field beside
``data.event_type`` may be missing or null. How a value becomes one of these types:
``connector.events.reading``.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

MAX_NAME: Final = 255
"""Characters in an event id or event type; NSPS sends UUIDs and short names."""

AS_IT_CAME: Final = {"read": "as it came"}
"""Marks a text that is never made of another type (``Meta.extra``)."""

TEXT_OR_NUMBER: Final = {"read": "text or number"}
"""Marks a text that is made of a number too; anything else there is an error."""

IN_SERVICE: Final = frozenset({"open", "active", "o"})
"""``bill_status`` of an account in service, as three pages of the guide spell it; small letters."""

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, extra=AS_IT_CAME)]
BillStatus = Annotated[str, Meta(extra=AS_IT_CAME)]


class ServiceFeatureAttribute(msgspec.Struct, frozen=True, gc=False):
    """An attribute of a service feature."""

    name: str | None = None
    effective_value: str | None = None
    values: list[str] | None = None


class ServiceFeature(msgspec.Struct, frozen=True, gc=False):
    """A service feature as it is in effect for the account."""

    name: str | None = None
    effective_flag_value: str | None = None
    attributes: list[ServiceFeatureAttribute] | None = None


class AddOnProduct(msgspec.Struct, frozen=True, gc=False):
    """An add-on product assigned to the account."""

    i_product: int | None = None
    i_vd_plan: int | None = None
    i_product_group: int | None = None
    name: str | None = None
    description: str | None = None
    addon_priority: int | None = None
    addon_effective_from: str | None = None
    addon_effective_to: str | None = None


class AccountInfo(msgspec.Struct, frozen=True, gc=False):
    """The account as PortaBilling had it when NSPS enriched the event. Has personal fields: never log it."""

    i_account: int | None = None
    i_customer: int | None = None
    i_master_account: int | None = None
    i_product: int | None = None
    i_vd_plan: int | None = None
    id: str | None = None
    bill_status: BillStatus | None = None
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

    @property
    def in_service(self) -> bool:
        """Whether the account is to have service: ``bill_status`` says so, and it is not blocked.

        The guide spells that status ``open`` (samples, OpenAPI), ``active`` (table of fields) and ``O`` (prompt page).
        """
        status = self.bill_status
        return status is not None and status.strip().casefold() in IN_SERVICE and not self.blocked


class CardInfo(msgspec.Struct, frozen=True, gc=False):
    """A SIM card."""

    i_sim_card: int | None = None
    i_account: int | None = None
    iccid: str | None = None
    imsi: str | None = None
    msisdn: str | None = None
    status: str | None = None


class AccessPolicyAttribute(msgspec.Struct, frozen=True, gc=False):
    """An attribute of an access policy, e.g. group ``lte.wtl``, name ``cs_profile``."""

    group_name: str | None = None
    name: str | None = None
    value: str | None = None
    values: list[str] | None = None

    @property
    def first(self) -> str | None:
        """The value, in whichever of the two documented forms it came: ``value``, or the first of ``values``."""
        if self.value is None and self.values:
            return self.values[0]
        return self.value


class AccessPolicyInfo(msgspec.Struct, frozen=True, gc=False):
    """An access policy of the account."""

    i_access_policy: int | None = None
    name: str | None = None
    attributes: list[AccessPolicyAttribute] | None = None

    def attribute(self, name: str) -> str | None:
        """The value of the first attribute of this name that has one."""
        found = (each.first for each in self.attributes or () if each.name == name)
        return next((value for value in found if value is not None), None)


class ProductInfo(msgspec.Struct, frozen=True, gc=False):
    """The product of the account."""

    i_product: int | None = None
    i_vd_plan: int | None = None
    name: str | None = None
    description: str | None = None
    addon_priority: int | None = None


class CounterInfo(msgspec.Struct, frozen=True, gc=False):
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


class PBData(msgspec.Struct, frozen=True, gc=False):
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
        return self._sim_info or NO_CARD

    @property
    def prev_sim_info(self) -> CardInfo:
        """The SIM card that a ``SIM/Replaced`` took away."""
        return self._prev_sim_info or NO_CARD

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

    def attribute(self, name: str) -> str | None:
        """The value of the first attribute of this name in any of the access policies, such as ``cs_profile``."""
        found = (policy.attribute(name) for policy in self.access_policies)
        return next((value for value in found if value is not None), None)

    @property
    def product_info(self) -> ProductInfo:
        """The product."""
        return self._product_info or _NO_PRODUCT


class ESPFEvent(msgspec.Struct, frozen=True, gc=False):
    """The PortaBilling event: its type and its variables as they were."""

    event_type: Name
    _variables: dict[str, Any] | None = msgspec.field(default=None, name="variables")

    @property
    def variables(self) -> dict[str, Any]:
        """The ESPF variables; ids may be numbers or numeric strings. Not to be changed."""
        return self._variables if self._variables is not None else {}


class EventBody(msgspec.Struct, frozen=True, gc=False):
    """The body of ``POST /process-event``."""

    data: ESPFEvent
    event_id: Annotated[str, Meta(max_length=MAX_NAME, extra=TEXT_OR_NUMBER)] | None = None
    _pb_data: PBData | None = msgspec.field(default=None, name="pb_data")
    handler_id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    status: str | None = None

    @property
    def pb_data(self) -> PBData:
        """The enrichment; all None where NSPS sent none."""
        return self._pb_data or _NO_PB_DATA


_NO_ACCOUNT, NO_CARD, _NO_POLICY, _NO_PRODUCT = AccountInfo(), CardInfo(), AccessPolicyInfo(), ProductInfo()
_NO_PB_DATA = PBData()
