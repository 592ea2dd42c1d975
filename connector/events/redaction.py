"""Personal fields are masked wherever an event is shown to a person: here, and nowhere else."""

import re
from typing import Any, Final

MASK: Final = "***"

PERSONAL: Final = frozenset(
    {
        "firstname", "lastname", "fullname", "midinit", "salutation", "companyname", "email", "bcc",
        "phone", "phone1", "phone2", "mobile", "fax", "faxnum", "cont1", "cont2",
        "zip", "zipcode", "postalcode", "city", "state", "street", "address", "birthdate", "taxpayerid",
        *(f"baddr{number}" for number in range(1, 6)),
        "login", "password", "h323password", "msisdn",
    }
)  # fmt: skip
"""Names of fields that are about a person, wherever they stand in the body; small letters, no separators."""

_NUMBER = re.compile(r"\d(?=\d{3})")
_SEPARATORS = str.maketrans("", "", "_-. ")


def redact(value: Any) -> Any:
    """A copy of a parsed body in which personal fields are masked; of numbers of subscribers three digits are left."""
    if isinstance(value, list):
        return [redact(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _field(name, each) for name, each in value.items()}


def _field(name: str, value: Any) -> Any:
    plain = name.casefold().translate(_SEPARATORS)
    if value is None or value == "":
        return value
    if plain == "id" and isinstance(value, str):
        return _account_id(value)
    if plain not in PERSONAL:
        return redact(value)
    return _NUMBER.sub("*", str(value)) if plain == "msisdn" and not isinstance(value, (dict, list)) else MASK


def _account_id(value: str) -> str:
    """An account's id: a number, or an address whose first part may be a name."""
    who, at, where = value.partition("@")
    return f"{_NUMBER.sub('*', who) if who.isdecimal() else MASK}{at}{where}"
