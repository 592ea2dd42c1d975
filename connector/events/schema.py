"""What an event must have, what it touches, and what to say where it is refused. Pure; no I/O here."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from uuid import uuid4

from connector.errors import ConnectorError, Detail, Invalid
from connector.events.body import MAX_NAME
from connector.events.event import Event
from connector.events.event_types import kind_of
from connector.events.identity import identity_of
from connector.events.paths import Path, descend, is_absent
from connector.events.patterns import MOST_TYPES, best
from connector.events.reading import REQUIRED, Reading, document_of, kind_of_value, read
from connector.events.resources import Order

BILL_STATUS: Final = "pb_data.account_info.bill_status"
"""What an event about an account must have unless REQUIRED_FIELDS says otherwise (the seed's rule)."""


BEFORE_SETS: Final = (
    "pb_data.account_info.i_account,data.variables.i_account,pb_data.sim_info.i_account,pb_data.sim_info.imsi"
)
"""The default of ORDER_BY when an event had one resource; it stands in files that were copied from ours."""

_EVERY_TYPE: Final = (
    f"REQUIRED_FIELDS asks for {BILL_STATUS} of every type, so that SIM/Created, SIM/Deleted, Customer/* and others"
    " without an account are refused; leave it empty to ask for it by type (docs/nsps.md)"
)
_ONE_RESOURCE: Final = (
    "ORDER_BY is the default of an earlier version: a card that moves between accounts is not kept in order, nor are"
    " customers, numbers and invoices; leave it empty to order by what each type touches (docs/nsps.md)"
)


class Schema:
    """What an event must have, and what it touches."""

    def __init__(
        self,
        required: Sequence[str] | None = None,
        order_by: str = "",
        require: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """The rules of a connector.

        ``required``  the fields that every event must have; None: ``bill_status`` where the type is documented with an
                      account, or not documented at all (``connector.events.event_types``). ``data.event_type`` always
        ``order_by``  what ORDER_BY says; empty: the table of event types
        ``require``   further fields that events must have, by type or pattern (``connector.events.patterns``)

        Raises ValueError where a path cannot be read, or ORDER_BY is not as its grammar says.
        """
        self.by_type = required is None
        self.required = [Path(path) for path in required or ()]
        self.require = {name: [Path(path) for path in paths] for name, paths in (require or {}).items()}
        self._by_event_type: dict[str, tuple[Path, ...]] = {}
        self._order = Order(order_by)
        self.warnings = [*(path.warning for path in self.required if path.warning), *self._order.warnings]
        if BILL_STATUS in (required or ()):
            self.warnings.append(_EVERY_TYPE)
        if self._order.text == BEFORE_SETS:
            self.warnings.append(_ONE_RESOURCE)

    def parse(self, raw: bytes, request_id: str, unique_id: str, accepted_at: float) -> Event:
        """The event in ``raw``. Raises NotJson (400) or Invalid (422) with every error that was found."""
        try:
            reading = read(raw)
        except Invalid as error:
            raise Invalid(details=[*error.details, *self._also_missing(raw, error.details)]) from None
        body = reading.body
        event_type = body.data.event_type
        if details := self._missing(event_type, reading):
            raise Invalid(details=details)
        identity = identity_of(body)
        event_id = body.event_id
        if event_id is None or identity.event_id is None:
            event_id = str(uuid4())
        elif not event_id.isprintable():
            event_id = _escaped(event_id)
        return Event(
            event_id,
            event_type,
            tuple(self._order.resources_of(event_type, reading).values()),
            request_id,
            unique_id,
            accepted_at,
            reading.raw,
            _identity=identity,
            _reading=reading,
        )

    @property
    def ordering(self) -> str:
        """Names the rule of order, and changes with it: a journal makes its resources anew then."""
        return f"resources 1: {self._order.text}"

    def resources_of(self, event: Event) -> tuple[str, ...]:
        """What an event touches by the rule of order. Raises ConnectorError where its body cannot be read."""
        return tuple(self._order.resources_of(event.event_type, event.reading).values())

    def required_of(self, event_type: str) -> list[str]:
        """The paths of what an event of this type must have."""
        return [path.text for path in self._paths(event_type)]

    def _paths(self, event_type: str) -> tuple[Path, ...]:
        paths = self._by_event_type.get(event_type)
        if paths is None:
            if event_type.isspace() or _CONTROL.search(event_type):
                text = "A name without control characters is expected"
                raise Invalid(details=[Detail(["data", "event_type"], text)])
            by_type = [_BILL_STATUS] if self.by_type and kind_of(event_type).has_account else []
            paths = (*by_type, *self.required, *(best(self.require, event_type) or ()))
            if len(self._by_event_type) < MOST_TYPES:
                self._by_event_type[event_type] = paths
        return paths

    def _missing(self, event_type: str, reading: Reading) -> list[Detail]:
        details: list[Detail] = []
        for path in self._paths(event_type):
            value = path(reading)
            if value is None or is_absent(value):
                came = reading.unreadable.get(path.text)
                text = REQUIRED if came is None else f"Field required: {kind_of_value(came)} there cannot be read"
                details.append(Detail(_loc(path.text), text))
        return details

    def _also_missing(self, raw: bytes, known: Sequence[Detail]) -> Iterator[Detail]:
        """The required fields that a body without a legal id or event type lacks beside."""
        try:
            document = document_of(raw)
        except ConnectorError:
            return
        for path in [_BILL_STATUS] * self.by_type + self.required:
            loc = _loc(path.text)
            if is_absent(descend(document, path.text.split("."))) and all(detail.loc != loc for detail in known):
                yield Detail(loc, REQUIRED)


_BILL_STATUS: Final = Path(BILL_STATUS)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _loc(path: str) -> list[str | int]:
    """Where a path leads to, as steps where it has plain ones."""
    return [*path.split(".")] if path.replace(".", "").replace("_", "").isalnum() else [path]


def _escaped(event_id: str) -> str:
    """An id with what cannot be printed as an escape: it goes into logs, headers and terminals."""
    return event_id.encode("unicode_escape").decode()[:MAX_NAME]
