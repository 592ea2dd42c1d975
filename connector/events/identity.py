"""Which event a body is: two bodies of one identity are one event, sent twice. Pure.

The identity of an event is its ``event_id`` with ``i_env``, ``i_event`` and ``event_type``: a retry of NSPS has all of
them equal (NSPS connector guide, "Event retries"; PortaBilling: "Variables", ``i_event``), while two events that share
an id, as the guide's own samples do, differ in one of them.

1. An id that says nothing (missing, blank, ``undefined``, ``null``, ...) is no part of the identity.
2. With neither ``event_id`` nor ``i_event`` the identity is not known: such an event is never a duplicate.
3. A number and its text are one id: ``7``, ``"7"``, ``7.0``, ``" 7 "``.
"""

import hashlib
from typing import Any, Final

import msgspec

from connector.events.body import EventBody

HALF_KEY: Final = 8
"""Bytes of a key that stand for the ``event_id``, and as many for the rest."""

_SAYS_NOTHING: Final = frozenset(
    {"", "undefined", "null", "none", "nil", "nan", "n/a", "(null)", "<null>", "(none)", "[]", "{}", "[object object]"}
    | {"00000000-0000-0000-0000-000000000000"}  # the nil UUID (RFC 9562, 5.9)
)
"""What broken senders write where they have no id; small letters."""

_MAY_BEGIN: Final = {text[:1] for text in _SAYS_NOTHING} | {text[:1].upper() for text in _SAYS_NOTHING}
"""How such texts begin: most ids need not be looked at further."""


def plain_id(value: Any) -> str | None:
    """An id in the one spelling that stands for all of its legal ones; None where it says nothing.

    ``7``, ``"7"``, ``"007"``, ``7.0`` and ``" 7 "`` are ``7``. A text that is no number stays as it is, without the
    white space around it. Lists, objects and booleans are no ids: None.
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return text.lstrip("0") or "0"
    if says_nothing(text):
        return None
    whole, dot, rest = text.partition(".")
    if dot and not rest.strip("0") and whole.removeprefix("-").isdigit() and whole.isascii():
        return whole if whole.startswith("-") else whole.lstrip("0") or "0"
    return text


def says_nothing(text: str) -> bool:
    """Whether a text stands where there is no id: blank, ``undefined``, ``null`` and the like."""
    return (text[:1] in _MAY_BEGIN or text[:1].isspace()) and text.strip().casefold() in _SAYS_NOTHING


class Identity(msgspec.Struct, frozen=True):
    """What makes an event this one and no other. A part that came without a value is None."""

    event_id: str | None
    i_env: str | None
    i_event: str | None
    event_type: str

    @property
    def known(self) -> bool:
        """Whether another event can be told to be this one."""
        return self.event_id is not None or self.i_event is not None

    @property
    def key(self) -> bytes:
        """16 bytes for the identity; all identities with one ``event_id`` share the first 8 (``id_prefix``)."""
        return id_prefix(self.event_id) + _hash(f"{_part(self.i_env)}\0{_part(self.i_event)}\0={self.event_type}")

    def idempotency_key(self, handler: str, event_id: str) -> str:
        """The key that an external system is given: the same over all attempts and retries, another for each handler.

        ``event_id`` is the generated one of an event whose identity is not known.
        """
        parts = (self.event_id or "", self.i_env, self.i_event, self.event_type) if self.known else (event_id,)
        text = "\0".join(["" if part is None else f"={part}" for part in (*parts, handler)])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def id_prefix(event_id: str | None) -> bytes:
    """The first half of the keys of all identities with this ``event_id``."""
    return _hash(_part(event_id))


def own_key(event_id: str) -> bytes:
    """The key of an event whose identity is not known, under its generated id: equal to that of no identity."""
    return id_prefix(event_id) + _hash("?")


def _part(part: str | None) -> str:
    return "" if part is None else f"={part}"


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=HALF_KEY).digest()


def identity_of(body: EventBody) -> Identity:
    """The identity of the event that a body is about."""
    variables = body.data.variables
    event_id = body.event_id
    return Identity(
        event_id.strip() if event_id is not None and not says_nothing(event_id) else None,
        plain_id(variables.get("i_env")),
        plain_id(variables.get("i_event")),
        body.data.event_type,
    )
