"""What an event touches: two events that share a resource are handled one after the other. Pure.

A resource is a role of an event (``account``, ``card``, ...) and a key, such as ``i_account:1001@3``. Rules:

1. Which roles count for an event is said by its type (``connector.events.event_types``), or by ORDER_BY.
2. The first resource is the subscriber's; two roles with one key are one resource.
3. An id of PortaBilling (``i_account``, ``i_customer``, ...) is unique in its environment only, so its key ends in
   ``@`` and ``i_env`` where the event has one. IMSI, ICCID and numbers are the same in every environment.
4. All legal spellings of an id are one key: ``7``, ``"7"``, ``"007"``, ``7.0``, ``" 7 "``. A spelling that is no legal
   one (an object, control characters, a text that is too long) is still one resource for itself.
5. A card is known by its IMSI, else by its ICCID, else by its ``i_sim_card``. One that comes once by its IMSI and once
   by its ICCID alone counts as two.

ORDER_BY names what events touch in place of the table. Its grammar::

    ORDER_BY     = member *( "+" member )           each member that is there is a resource
    member       = alternative *( "," alternative ) the first that is there counts
    alternative  = part *( "&" part )               parts that belong together; all have to be there
    part         = role / path                      account, card, ... or the path of a field

``account+card+previous_card`` is a set of roles; ``pb_data.account_info.i_account,pb_data.sim_info.imsi`` is one
resource, by the first field that is there; ``data.variables.i_env&data.variables.site`` is one made of two fields.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from connector.events.body import NO_CARD, EventBody
from connector.events.event_types import ROLES, UNKNOWN, Role, kind_of
from connector.events.identity import plain_id
from connector.events.paths import Path, split
from connector.events.reading import Reading

MAX_KEY: Final = 255
"""Characters in a key; a longer one is cut and told from others by a hash."""

_IMSI_DIGITS: Final = 15
"""An IMSI that came as a number has lost its leading zeros (3GPP TS 23.003, 2.2: at most 15 digits)."""

_OTHERS: Final[tuple[Role, ...]] = ("customer", "number", "invoice", "product")

Reader = Callable[[Reading], str | None]


class Order:
    """What ORDER_BY says. ``Order("")`` is the table of event types."""

    def __init__(self, text: str = "") -> None:
        """Raises ValueError, with the reason, where ``text`` is not as the grammar above says."""
        self.text = text.strip()
        self.warnings: list[str] = []
        self._members = [self._member(member) for member in split(self.text, "+")] if self.text else []

    def resources_of(self, event_type: str, reading: Reading) -> dict[str, str]:
        """What the event touches: keys by role, the subscriber's first. A member of ORDER_BY is named by its text."""
        if not self._members:
            return _by_kind(event_type, reading)
        found = {name: key for name, read in self._members if (key := read(reading)) is not None}
        return _distinct(found) if len(found) > 1 else found

    def _member(self, text: str) -> tuple[str, Reader]:
        alternatives = [self._alternative(alternative) for alternative in split(text, ",") if alternative.strip()]
        if not alternatives:
            raise ValueError("a role or a path is missing before or after a +")
        name = text.strip()
        if len(alternatives) == 1:
            return name, alternatives[0]

        def first(reading: Reading) -> str | None:
            return next((key for read in alternatives if (key := read(reading)) is not None), None)

        return name, first

    def _alternative(self, text: str) -> Reader:
        parts = [part.strip() for part in split(text, "&")]
        if not all(parts):
            raise ValueError("a role or a path is missing before or after a &")
        if len(parts) == 1:
            return self._part(parts[0], alone=True)
        readers = [self._part(part, alone=False) for part in parts]

        def together(reading: Reading) -> str | None:
            keys = [key for read in readers if (key := read(reading)) is not None]
            return _bounded("&".join(keys)) if len(keys) == len(readers) else None

        return together

    def _part(self, text: str, *, alone: bool) -> Reader:
        if text in ROLES:
            return _of_body(_READERS[text])
        path = Path(text)
        if path.warning and "." not in text:
            raise ValueError(f"{text} is no role ({', '.join(ROLES)}) and no path of a field")
        if path.warning:
            self.warnings.append(path.warning)
        name = text.rpartition(".")[2].strip('"')
        if name in _SPELLED:
            key_of = _SPELLED[name]
            return lambda reading: key_of(_value(path, reading), reading.body)
        if name.startswith("i_") and name not in ("i_env", "i_event") and alone:
            name = "i_account" if name == "i_master_account" else name  # a parent is an account too
            return lambda reading: _internal(name, _value(path, reading), reading.body)
        return lambda reading: _key(name, _value(path, reading))


def resources_of(event_type: str, reading: Reading, order_by: Order | None = None) -> dict[str, str]:
    """What an event touches: keys by role, the subscriber's first; empty where it names nothing."""
    return (order_by or BY_TYPE).resources_of(event_type, reading)


def _value(path: Path, reading: Reading) -> Any:
    """What stands at a path, also where it cannot be read as what it should be; the one item of a list of one."""
    found = path(reading)
    if found is None and reading.unreadable:
        found = reading.unreadable.get(path.text)
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def _of_body(read: Callable[[EventBody], str | None]) -> Reader:
    return lambda reading: read(reading.body)


def before_environments(key: str) -> str:
    """The key that a subscriber had before keys named their environment: ``i_account:7`` for ``i_account:7@3``."""
    return key.rpartition("@")[0] or key if key.startswith("i_") else key


def _by_kind(event_type: str, reading: Reading) -> dict[str, str]:
    kind = kind_of(event_type)
    body = reading.body
    found: dict[str, str] = {}
    for role in kind.roles:
        key = _READERS[role](body)
        if key is None and reading.unreadable:
            key = _unreadable_key(role, reading)
        if key is not None:
            found[role] = key
    if kind is UNKNOWN and not found:
        for role in _OTHERS:
            key = _READERS[role](body)
            if key is not None:
                found[role] = key
    return _distinct(found) if len(found) > 1 else found


def _unreadable_key(role: Role, reading: Reading) -> str | None:
    """The resource of an id that cannot be read as one: a spelling of its own."""
    for path in _PATHS.get(role, ()):
        if (value := reading.unreadable.get(path)) is not None:
            return _internal(path.rpartition(".")[2], value, reading.body)
    return None


def _distinct(found: Mapping[str, str]) -> dict[str, str]:
    """The first role of each key."""
    if len(set(found.values())) == len(found):
        return dict(found)
    roles: dict[str, str] = {}
    for role, key in found.items():
        roles.setdefault(key, role)
    return {role: key for key, role in roles.items()}


def _key(name: str, value: Any) -> str | None:
    """The key of a value; None where there is none."""
    if type(value) is int and -_COMMON < value < _COMMON:
        return f"{name}:{value}"
    plain = plain_id(value)
    if plain is not None:
        return f"{name}:{plain}" if len(plain) < _SHORT and plain.isprintable() else _bounded(f"{name}:{plain}")
    if value is True or value is False or (value and not isinstance(value, str)):
        return _bounded(f"{name}:{msgspec.json.encode(value, order='deterministic').decode()}")
    return None


_SHORT: Final = 200
_COMMON: Final = 10**18


def _bounded(key: str) -> str:
    """``key`` without control characters and within MAX_KEY; different keys stay different."""
    if len(key) <= MAX_KEY and key.isprintable():
        return key
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    shown = "".join(each if each.isprintable() else "?" for each in key[: _SHORT // 4])
    return f"{shown}#{digest}"


def _internal(name: str, value: Any, body: EventBody) -> str | None:
    """The key of an id that is PortaBilling's own, in the environment of the event."""
    if value is None:
        return None
    key = _key(name, value)
    if key is None:
        return None
    environment = body.data.variables.get("i_env")
    if environment is None:
        return key
    if type(environment) is int and len(key) < _SHORT:
        return f"{key}@{environment}"
    plain = plain_id(environment)
    return key if plain is None else _bounded(f"{key}@{plain}")


def _imsi(value: Any, _: EventBody) -> str | None:
    if type(value) is str and len(value) == _IMSI_DIGITS and value.isascii() and value.isdigit():
        return f"imsi:{value}"
    plain = _compact(value)
    if plain is None:
        return None
    return _bounded(f"imsi:{plain.zfill(_IMSI_DIGITS)}") if plain.isdecimal() else _key("imsi", plain)


def _iccid(value: Any, _: EventBody) -> str | None:
    plain = _compact(value)
    return None if plain is None else _key("iccid", plain.upper())


def _number(name: str, value: Any) -> str | None:
    plain = _compact(value)
    return None if plain is None else _key(name, plain.removeprefix("+"))


def _compact(value: Any) -> str | None:
    """A number as text without the spaces, hyphens and dots that people write into it."""
    plain = plain_id(value)
    return plain if plain is None or plain.isalnum() else plain.translate(_SEPARATORS) or None


_SEPARATORS: Final = str.maketrans("", "", " -.()/")


def _account(body: EventBody) -> str | None:
    variables, pb_data = body.data.variables, body.pb_data
    value = pb_data.account_info.i_account
    if value is None:
        value = variables.get("i_account")
    found = _internal("i_account", value, body)
    if found is None:
        found = _internal("i_account", pb_data.sim_info.i_account, body)
    if found is None and "billing_entity_id" in variables and body.data.event_type.startswith("Account/"):
        found = _internal("i_account", variables["billing_entity_id"], body)
    return found


def _card(body: EventBody) -> str | None:
    card, variables = body.pb_data.sim_info, body.data.variables
    if card.imsi:
        found = _imsi(card.imsi, body)
        if found is not None:
            return found
    return (
        _imsi(variables.get("imsi"), body)
        or _iccid(card.iccid, body)
        or _iccid(variables.get("iccid"), body)
        or _internal("i_sim_card", card.i_sim_card, body)
        or _internal("i_sim_card", variables.get("i_sim_card"), body)
    )


def _previous_card(body: EventBody) -> str | None:
    card = body.pb_data.prev_sim_info
    if card is NO_CARD:
        return None
    return _imsi(card.imsi, body) or _iccid(card.iccid, body) or _internal("i_sim_card", card.i_sim_card, body)


def _customer(body: EventBody) -> str | None:
    variables = body.data.variables
    found = _internal("i_customer", variables.get("i_customer"), body)
    found = found or _internal("i_customer", body.pb_data.account_info.i_customer, body)
    if found is None and "billing_entity_id" in variables and body.data.event_type.startswith("Customer/"):
        found = _internal("i_customer", variables["billing_entity_id"], body)
    return found


def _did(body: EventBody) -> str | None:
    variables, pb_data = body.data.variables, body.pb_data
    return (
        _number("number", variables.get("number"))
        or _number("number", pb_data.sim_info.msisdn)
        or _number("number", (pb_data.account_info.id or "").partition("@")[0])
    )


def _invoice(body: EventBody) -> str | None:
    return _internal("i_invoice", body.data.variables.get("i_invoice"), body)


def _product(body: EventBody) -> str | None:
    pb_data = body.pb_data
    return (
        _internal("i_product", body.data.variables.get("i_product"), body)
        or _internal("i_product", pb_data.product_info.i_product, body)
        or _internal("i_product", pb_data.account_info.i_product, body)
    )


_READERS: Final[Mapping[Role, Callable[[EventBody], str | None]]] = {
    "account": _account,
    "card": _card,
    "previous_card": _previous_card,
    "customer": _customer,
    "number": _did,
    "invoice": _invoice,
    "product": _product,
}

_PATHS: Final[Mapping[Role, tuple[str, ...]]] = {
    "account": ("pb_data.account_info.i_account", "pb_data.sim_info.i_account"),
    "card": ("pb_data.sim_info.imsi", "pb_data.sim_info.iccid", "pb_data.sim_info.i_sim_card"),
    "previous_card": tuple(f"pb_data.prev_sim_info.{name}" for name in ("imsi", "iccid", "i_sim_card")),
    "customer": ("pb_data.account_info.i_customer",),
    "product": ("pb_data.product_info.i_product", "pb_data.account_info.i_product"),
}
"""Where the documented ids of a role stand: one that cannot be read is looked for there."""

_SPELLED: Final[Mapping[str, Callable[[Any, EventBody], str | None]]] = {
    "imsi": _imsi,
    "iccid": _iccid,
    "number": lambda value, _: _number("number", value),
}
"""Fields whose values have spellings of their own."""

BY_TYPE: Final = Order()
"""What the table of event types says."""
