"""Made-up bodies of every documented event type, as they really come. Data for tests, the API description and docs.

Names, numbers and addresses are invented: IMSIs begin with the test network 001-01, numbers with 1 555.
"""

import copy
from typing import Any, Final

from connector.events.event_types import UNKNOWN, Kind, kind_of

Body = dict[str, Any]

CARD: Final[Body] = {
    "i_sim_card": 71,
    "i_account": 1001,
    "iccid": "8900000000000000001",
    "imsi": "001010000000001",
    "msisdn": "15550100001",
    "status": "used",
}

PREVIOUS_CARD: Final[Body] = {
    "i_sim_card": 70,
    "i_account": None,
    "iccid": "8900000000000000000",
    "imsi": "001010000000000",
    "msisdn": None,
    "status": "available",
}

ACCOUNT: Final[Body] = {
    "i_account": 1001,
    "i_customer": 501,
    "i_product": 31,
    "id": "15550100001@msisdn",
    "bill_status": "open",
    "billing_model": "credit_account",
    "blocked": False,
    "product_name": "Example Mobile",
    "time_zone_name": "UTC",
}

POLICY: Final[Body] = {
    "i_access_policy": 9,
    "name": "Example policy",
    "attributes": [
        {"group_name": "lte", "name": "cs_profile", "value": "cs-example"},
        {"group_name": "lte", "name": "eps_profile", "value": "eps-example"},
    ],
}

_ABOUT: Final[dict[str, Body]] = {
    "customer": {"i_customer": 501},
    "number": {"number": "15550100001"},
    "invoice": {"i_invoice": 9001, "i_customer": 501},
    "product": {"i_product": 31},
}
"""The variables that are mandatory for what an event without an account is about."""

_CHANGES: Final[dict[str, dict[str, Any]]] = {
    "Account/Blocked": {"pb_data.account_info.blocked": True},
    "Account/Status/Suspend": {"pb_data.account_info.bill_status": "suspended"},
    "Account/Status/Suspended": {"pb_data.account_info.bill_status": "suspended"},
    "Account/Status/Closed": {"pb_data.account_info.bill_status": "terminated", "pb_data.sim_info": None},
    "Account/BalanceChanged": {
        "data.variables.billing_entity_id": 1001,
        "data.variables.prev_balance": "10.00000",
        "data.variables.curr_balance": "9.50000",
    },
    "Customer/BalanceChanged": {
        "data.variables.billing_entity_id": 501,
        "data.variables.prev_balance": "10.00000",
        "data.variables.curr_balance": "9.50000",
    },
    "Subscriber/Deleted": {"pb_data.account_info.bill_status": "terminated", "pb_data.sim_info": None},
    "SIM/Updated": {"data.variables.prev_status": "active", "data.variables.curr_status": "used"},
    "SIM/Replaced": {"pb_data.prev_sim_info": PREVIOUS_CARD},
    "Account/SIMCardAssignment": {"pb_data.prev_sim_info": PREVIOUS_CARD},
}
"""What is special to an event type."""


def body_of(event_type: str = "SIM/Updated") -> Body:
    """The body of an event of this type; that of an event about an account for a type that is not documented."""
    kind = kind_of(event_type)
    variables: Body = {"i_event": 4711, "i_env": 1, "event_time": "2026-01-15 09:59:59"}
    body: Body = {
        "event_id": "0d6f5f0e-5a53-4d0c-9a3e-6f1f0e9a7c11",
        "data": {"event_type": event_type, "variables": variables},
        "pb_data": _pb_data(event_type, kind, variables),
        "handler_id": "example",
        "created_at": "2026-01-15T10:00:00.000000+00:00",
        "updated_at": "2026-01-15T10:00:01.000000+00:00",
        "status": "received",
    }
    for path, value in _CHANGES.get(event_type, {}).items():
        put(body, path, copy.deepcopy(value))
    return body


def _pb_data(event_type: str, kind: Kind, variables: Body) -> Body:
    if kind is UNKNOWN or kind.has_account:
        variables["i_account"] = ACCOUNT["i_account"]
        return copy.deepcopy({"account_info": ACCOUNT, "sim_info": CARD, "access_policy_info": POLICY})
    if event_type.startswith("SIM/"):  # in the inventory, of no account
        variables["i_sim_card"] = CARD["i_sim_card"]
        if event_type == "SIM/Created":
            return {"sim_info": {**CARD, "i_account": None, "msisdn": None, "status": "available"}}
        variables["imsi"] = CARD["imsi"]
    for role in kind.roles:
        variables.update(_ABOUT.get(role, {}))
    return {"account_info": None, "sim_info": None}


def put(body: Body, path: str, value: Any) -> None:
    """Set the field at a dotted path, with the objects on the way to it; the value ``...`` takes the field away."""
    *parents, last = path.split(".")
    place = body
    for name in parents:
        if not isinstance(place.get(name), dict):
            place[name] = {}
        place = place[name]
    if value is ...:
        place.pop(last, None)
    else:
        place[last] = value


def special_forms() -> dict[str, Body]:
    """Further bodies that come, by what is special about them."""

    def form(event_type: str, **changes: Any) -> Body:
        body = body_of(event_type)
        for path, value in changes.items():
            put(body, path.replace("__", "."), value)
        return body

    return {
        "a card that was removed from its account": form(
            "SIM/Replaced", pb_data__sim_info=None, pb_data__prev_sim_info={**PREVIOUS_CARD, **CARD, "i_account": None}
        ),
        "a first card that was assigned to an account": form("SIM/Replaced", pb_data__prev_sim_info=None),
        "access policies as a list": form("SIM/Updated", pb_data__access_policy_info=[POLICY]),
        "attributes with a list of values": form(
            "SIM/Updated",
            pb_data__access_policy_info={
                **POLICY,
                "attributes": [{"name": "cs_profile", "values": ["cs-example"]}],
            },
        ),
        "the types of Perl": form(
            "SIM/Updated",
            data__variables__i_account="1001",
            pb_data__account_info__blocked="N",
            pb_data__account_info__i_account="1001",
            pb_data__account_info__i_master_account="",
            pb_data__account_info__zip=12345,
            pb_data__prev_sim_info=[],
            pb_data__full_vd_counter_info={},
        ),
        "no enrichment": form("Account/BalanceChanged", pb_data__sim_info=None, pb_data__access_policy_info=None),
    }
