"""The event types that PortaOne documents: which of them come with an account, and what they touch. Data, no I/O.

Sources: *guide* is the event types page of PortaOne's NSPS connector guide; *webhooks* are the pages "Group
Subscriber", "Group Customer", "Group DID" and "Group Invoice" of PortaBilling's manual "Provisioning via webhooks";
*ESPF* is its appendix "Events that ESPF handlers support" (MR99 to MR121; some names were changed in between, and both
are listed).
"""

from typing import Final, Literal, NamedTuple, get_args

Role = Literal["account", "card", "previous_card", "customer", "number", "invoice", "product"]
"""What an event can touch: a SIM card, the card that a SIM/Replaced took away, a DID number, ..."""

ROLES: Final[tuple[Role, ...]] = get_args(Role)


class Kind(NamedTuple):
    """What is documented of a group of event types.

    ``pattern``      a type, or ``Group/*`` for all types of a group
    ``has_account``  whether it is about an account, so that ``pb_data.account_info`` comes with it
    ``roles``        what an event of this kind touches, as far as it names it
    ``source``       where that is documented
    """

    pattern: str
    has_account: bool
    roles: tuple[Role, ...]
    source: str


_SUBSCRIBER: Final[tuple[Role, ...]] = ("account", "card", "previous_card")

KINDS: Final = (
    Kind("SIM/Created", False, ("account", "card"), "guide: a card has been added to the inventory"),
    Kind("SIM/Deleted", False, ("account", "card"), "guide: a card has been removed from the inventory"),
    Kind("SIM/*", True, _SUBSCRIBER, "guide: SIM/Updated is about an account, SIM/Replaced about it and two cards"),
    Kind("Account/*", True, _SUBSCRIBER, "ESPF: an account has been ...; Account/SIMCardAssignment names a card"),
    Kind("Subscriber/*", True, _SUBSCRIBER, "webhooks, Group Subscriber: i_account is mandatory"),
    Kind("Customer/*", False, ("customer",), "webhooks, Group Customer: i_customer is mandatory, no account"),
    Kind("CustomerSite/*", False, ("customer",), "ESPF: a site of a customer"),
    Kind("DID/*", False, ("number",), "webhooks, Group DID: number is mandatory, no account"),
    Kind("Invoice/*", False, ("invoice", "customer"), "webhooks, Group Invoice: i_invoice and i_customer"),
    Kind("Product/*", False, ("product",), "ESPF: a product has been changed; no account"),
    Kind("AccessPolicy/*", False, (), "ESPF: a policy that many products use; no account"),
    Kind("Connection/*", False, (), "ESPF: a connection of a vendor; no account"),
    Kind("IPDeviceProfile/*", False, (), "ESPF: a profile of devices; no account"),
    Kind("PaymentTransaction/*", False, ("account", "customer"), "ESPF: a payment of an account or of a customer"),
)
"""The first whose pattern fits counts: exact types stand before their group."""

UNKNOWN: Final = Kind("*", True, _SUBSCRIBER, "not documented; the seed's rule: an account with a bill_status")

_EXACT: Final = {kind.pattern: kind for kind in KINDS if not kind.pattern.endswith("/*")}
_GROUPS: Final = {kind.pattern.removesuffix("/*"): kind for kind in KINDS if kind.pattern.endswith("/*")}


def kind_of(event_type: str) -> Kind:
    """What is documented of a type; ``UNKNOWN`` where nothing is."""
    return _EXACT.get(event_type) or _GROUPS.get(event_type.partition("/")[0], UNKNOWN)


Documented = Literal[
    # guide
    "SIM/Updated",
    "SIM/Created",
    "SIM/Deleted",
    "SIM/Replaced",
    # webhooks
    "Subscriber/Created",
    "Subscriber/Updated",
    "Subscriber/Deleted",
    "Customer/Created",
    "Customer/Updated",
    "Customer/Deleted",
    "DID/Created",
    "DID/Updated",
    "DID/Deleted",
    "Invoice/Created",
    "Invoice/Updated",
    # accounts, from ESPF
    "Account/New",
    "Account/Blocked",
    "Account/Unblocked",
    "Account/ID/Changed",
    "Account/Password/Changed",
    "Account/Product/Changed",
    "Account/ServiceAttribute/Changed",
    "Account/ServiceFlags/Changed",
    "Account/ProductAddon/Changed",
    "Account/ProductAddon/Deleted",
    "Account/ProductAddon/Inserted",
    "Account/SIMCardAssignment",
    "Account/IPDeviceAssignment",
    "Account/CustomField/Changed",
    "Account/Status/Changed",
    "Account/Status/Closed",
    "Account/Status/Exported",
    "Account/Status/Imported",
    "Account/Status/Suspend",
    "Account/Status/Unsuspend",
    "Account/Status/Suspended",
    "Account/Status/SuspensionRemoved",
    "Account/BalanceChanged",
    "Account/AvailableFundsAppear",
    "Account/ZeroAvailableFunds",
    "Account/ActivationDate/Changed",
    "Account/ExpirationDate/Changed",
    "Account/Alias/Delete",
    "Account/AccessPolicy/Changed",
    "Account/Discount/Changed",
    "Account/ServicePassword/Changed",
    "Account/Service/QuotaAvailable",
    "Account/Service/QuotaExceeded",
    "Account/Service/Msg/QuotaExceeded",
    "Account/Service/Netaccess/QuotaExceeded",
    "Account/FollowMe/Changed",
    "Account/FollowMeNumber/Changed",
    "Account/FollowMeNumber/Deleted",
    "Account/FollowMeNumber/Inserted",
    "Subscriber/Address/Changed",
    "Subscriber/ContactInfo/Changed",
    "Subscriber/Name/Changed",
    # customers, from ESPF
    "Customer/New",
    "Customer/Blocked",
    "Customer/Unblocked",
    "Customer/Name/Changed",
    "Customer/BalanceChanged",
    "Customer/AvailableFundsAppear",
    "Customer/ZeroAvailableFunds",
    "Customer/CustomField/Changed",
    "Customer/ServiceAttribute/Changed",
    "Customer/ServiceFlags/Changed",
    "Customer/Status/Activated",
    "Customer/Status/Deactivated",
    "Customer/Status/Changed",
    "Customer/Status/Closed",
    "Customer/Status/Exported",
    "Customer/Status/Imported",
    "Customer/Status/Suspend",
    "Customer/Status/Unsuspend",
    "CustomerSite/ServiceAttribute/Changed",
    # numbers, invoices, products and what no account has, from ESPF
    "DID/New",
    "DID/Status/Activated",
    "DID/Status/Assigned",
    "DID/Status/Canceled",
    "DID/Status/Moved",
    "DID/Status/Unassigned",
    "Invoice/New",
    "Invoice/Status/Changed",
    "Invoice/AmountPaid/Changed",
    "Invoice/Adjustments/Changed",
    "Product/AccessPolicy/Changed",
    "Product/Discount/Changed",
    "Product/ServiceAttribute/Changed",
    "AccessPolicy/Changed",
    "AccessPolicy/Phase/Changed",
    "AccessPolicy/Phase/Deleted",
    "AccessPolicy/Phase/New",
    "Connection/Changed",
    "Connection/Deleted",
    "Connection/New",
    "IPDeviceProfile/New",
    "PaymentTransaction/New",
    "PaymentTransaction/ResultCode/Changed",
    "PaymentTransaction/Status/Changed",
]  # fmt: skip
"""Event types that PortaOne names. There are more: a type that is not listed is taken as any other."""

DOCUMENTED: Final[tuple[str, ...]] = get_args(Documented)
