"""The event types that PortaOne documents: which of them come with an account, and what they touch. Data, no I/O.

Sources: *guide* is the event types page of PortaOne's NSPS connector guide; *webhooks* are the pages "Group
Subscriber", "Group Customer", "Group DID" and "Group Invoice" of PortaBilling's manual "Provisioning via webhooks";
*ESPF* is its appendix "Events that ESPF handlers support".
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
