"""Personal fields are masked wherever an event is shown to a person: here, and nowhere else."""

import re
from typing import Any, Final

MASK: Final = "***"

PERSONAL: Final = frozenset(
    {
        "firstname", "lastname", "midinit", "salutation", "companyname", "email", "bcc", "phone1", "phone2", "faxnum",
        "cont1", "cont2", "zip", "city", "state", "address", "birth_date", "taxpayer_id",
        *(f"baddr{number}" for number in range(1, 6)),
        "login", "password", "h323_password", "msisdn",
    }
)  # fmt: skip
"""Names of fields that are about a person, wherever they stand in the body."""

_NUMBER = re.compile(r"\d(?=\d{3})")


def redact(value: Any) -> Any:
    """A copy of a parsed body in which personal fields are masked; of numbers of subscribers three digits are left."""
    if isinstance(value, list):
        return [redact(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _field(name, each) for name, each in value.items()}


def _field(name: str, value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return redact(value)
    if value is None or value == "":
        return value
    if name == "msisdn" or (name == "id" and isinstance(value, str) and "@" in value):
        return _NUMBER.sub("*", str(value))
    return MASK if name in PERSONAL else value
