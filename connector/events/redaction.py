"""What of an event a person is shown: here, and nowhere else.

By allowlist: a value is shown where its name is documented and says nothing of a person, and masked anywhere else. A
field that nobody has documented may be anybody's name.

1. Of numbers of subscribers and cards (``msisdn``, ``imsi``, ``iccid``, the account's ``id``) three digits are left.
2. So they are of a long number in a text that is shown: an attribute of a service may be a telephone number.
3. True, false, null and what is empty are shown everywhere: they say of an undocumented field that it is there.
4. Control characters, and those that turn the direction of writing, are shown as escapes: they could write over what
   stands on a terminal.
"""

import re
from typing import Any, Final

MASK: Final = "***"

_IDS: Final = ("event_id", "handler_id", "created_at", "updated_at", "event_time")
"""Shown whole: an operator looks for them, and they are about an event and not about a person."""

_SHOWN: Final = frozenset(
    {
        # what an event is, and where it stands
        *_IDS, "event_type", "status", "curr_status", "prev_status",
        # ids of PortaBilling's records
        "i_env", "i_event", "i_account", "i_master_account", "i_customer", "i_product", "i_product_group", "i_vd_plan",
        "i_sim_card", "i_access_policy", "i_dest_group", "i_vd_dg", "i_service", "i_invoice", "billing_entity_id",
        # how an account is set
        "bill_status", "billing_model", "blocked", "product_name", "time_zone_name",
        # products, features, policies and counters
        "addon_priority", "addon_effective_from", "addon_effective_to", "description", "name", "group_name", "value",
        "values", "effective_value", "effective_flag_value", "service_name", "vdp_name", "dg_name", "discount_info",
        "unit", "remaining", "allocated_amount", "prev_balance", "curr_balance",
    }
)  # fmt: skip
"""Names of documented fields that are about a record, and not about a person."""

_NUMBERS: Final = frozenset({"msisdn", "imsi", "iccid", "number", "did", "prev_imsi", "prev_iccid", "prev_msisdn"})
"""Names of fields with the number of a subscriber or a card."""

_CONTAINERS: Final = frozenset(
    {
        "data", "variables", "pb_data", "account_info", "sim_info", "prev_sim_info", "access_policy_info",
        "product_info", "full_vd_counter_info", "assigned_addons", "service_features", "attributes",
    }
)  # fmt: skip
"""Documented objects and lists. Below any other one, the names alone do not tell what a value is."""

_DIGIT: Final = re.compile(r"\d(?=\d{3})")
_LONG: Final = re.compile(r"\d{7,}")
_NAME: Final = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)


def redact(value: Any) -> Any:
    """A copy of a parsed body in which nothing is shown but what the rules above allow."""
    return _within(value, documented=True)


def _within(value: Any, *, documented: bool) -> Any:
    if isinstance(value, list):
        return [_within(each, documented=documented) for each in value]
    if isinstance(value, dict):
        return {_key(name): _field(name, each, documented=documented) for name, each in value.items()}
    return value if _says_little(value) else MASK


def _field(name: str, value: Any, *, documented: bool) -> Any:
    if _says_little(value):
        return value
    if isinstance(value, dict):
        return _within(value, documented=documented and name in _CONTAINERS)
    if isinstance(value, list):
        return [_field(name, each, documented=documented) for each in value]
    if documented and name in _NUMBERS:
        return _number(str(value))
    if documented and name == "id" and isinstance(value, str):
        return _account_id(value)
    if not documented or name not in _SHOWN:
        return MASK
    if not isinstance(value, str) or name in _IDS:
        return value if not isinstance(value, str) else plain(value)
    return _LONG.sub(lambda found: _number(found[0]), plain(value))


def _says_little(value: Any) -> bool:
    return value is None or isinstance(value, bool) or value in ("", [], {})


def _key(name: str) -> str:
    """A name of a field; one that looks like no name may be somebody's."""
    return name if _NAME.fullmatch(name) else MASK


def _number(text: str) -> str:
    return _DIGIT.sub("*", text) if text.isascii() and text.lstrip("+").isdigit() else MASK


def _account_id(value: str) -> str:
    """An account's id: a number, or an address whose first part may be a name."""
    who, at, where = value.partition("@")
    return f"{_number(who)}{at}{plain(where)}"


def plain(text: str) -> str:
    """``text`` with an escape for each character that is not there to be seen."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()
