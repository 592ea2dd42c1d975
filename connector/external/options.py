"""What may be said of a call: the keyword arguments of ``Target.get``, ``post``, ``put``, ``patch``, ``delete``."""

from collections.abc import Mapping
from typing import Any, Final, TypedDict
from xml.etree.ElementTree import Element

from connector.events.event import Event
from connector.external.urls import Value
from connector.setting_values import StatusOutcome

Form = Mapping[str, str | int]
"""Fields of a form, ``application/x-www-form-urlencoded``."""

Files = Mapping[str, str | bytes | tuple[str, bytes] | tuple[str, bytes, str]]
"""Parts of a ``multipart/form-data``: a text, bytes, (file name, bytes) or (file name, bytes, content type)."""


class GetOptions(TypedDict, total=False):
    """Options of every call.

    ``event``     what the call is for: its key goes along as Idempotency-Key, its trace as trace headers
    ``params``    of the query, percent-encoded
    ``headers``   beside those of the event and the authorization
    ``timeout``   seconds for this call in all, in place of TARGET_TIMEOUT
    ``outcomes``  what a status means in this call, over TARGET_STATUS and the table
    """

    event: Event | None
    params: Mapping[str, Value] | None
    headers: Mapping[str, str] | None
    timeout: float | None
    outcomes: Mapping[int, StatusOutcome] | None


class BodyOptions(TypedDict, total=False):
    """The body, in one of these forms: ``files`` with ``form`` for its fields, or one alone.

    ``json``   anything that has a JSON form
    ``xml``    a text or an Element
    ``data``   bytes: JSON, unless ``headers`` name another Content-Type
    """

    json: Any
    form: Form | None
    xml: Element | str | None
    text: str | None
    data: bytes | None
    files: Files | None


class Options(GetOptions, BodyOptions, total=False):
    """Options of a call that changes something.

    ``step``  a name for this call, where a handler makes several that change something for one event
    """

    step: str


GET_OPTIONS: Final = frozenset(GetOptions.__annotations__)
OPTIONS: Final = frozenset(Options.__annotations__)
