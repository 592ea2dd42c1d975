"""The NSPS event, as a handler's author sees it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import force_setattr
from structlog.typing import FilteringBoundLogger

from connector.events import paths
from connector.events.body import ESPFEvent, EventBody, PBData
from connector.events.identity import Identity, identity_of, own_key
from connector.events.reading import Reading, document_of, read
from connector.events.resources import resources_of
from connector.events.times import parse_time
from connector.log import get_logger, log_ids


class Event(msgspec.Struct, frozen=True, eq=False, gc=False):
    """An accepted event: what a handler is given. Its fields cannot be set; what the journal notes is in its ``Entry``.

    ``event_id``    its id; a generated one where the sender gave none
    ``event_type``  e.g. ``SIM/Updated``
    ``resources``   what it touches, the subscriber's key first: events that share one run one at a time, in order
    ``request_id``, ``unique_id``  the trace ids of the request that brought it
    ``accepted_at`` when, in seconds since the epoch
    ``raw``         the body as it came
    ``attempt``     which attempt this is, from 1

    The fields that begin with ``_`` are made when they are first asked for.
    """

    event_id: str
    event_type: str
    resources: tuple[str, ...]
    request_id: str
    unique_id: str
    accepted_at: float
    raw: bytes
    attempt: int = 1
    _log_ids: bytes | None = None
    _identity: Identity | None = None
    _key: bytes | None = None
    _reading: Reading | None = None

    def __repr__(self) -> str:
        """Ids and type only: the body has personal fields."""
        return f"<Event {self.event_id} {self.event_type} attempt={self.attempt}>"

    @property
    def body(self) -> EventBody:
        """The typed body; read once, at acceptance or when the event comes back from the journal."""
        return self.reading.body

    @property
    def unreadable(self) -> Mapping[str, Any]:
        """The documented fields that read as None though something stands there: the value as it came, by path."""
        return self.reading.unreadable

    @property
    def reading(self) -> Reading:
        """The body as it was read. Raises ConnectorError where it cannot be read any more."""
        reading = self._reading
        if reading is None:
            reading = read(self.raw)
            force_setattr(self, "_reading", reading)
        return reading

    def forget(self) -> None:
        """Let go of what was read of the body; it is read again when it is asked for."""
        _ = self.identity  # which is made of what is forgotten
        force_setattr(self, "_reading", None)

    @property
    def identity(self) -> Identity:
        """What makes this event one and no other; two with equal identities are one event, sent twice."""
        identity = self._identity
        if identity is None:
            identity = identity_of(self.body)
            force_setattr(self, "_identity", identity)
        return identity

    @property
    def key(self) -> bytes:
        """16 bytes that stand for the identity; those of an event whose identity is not known are its own alone."""
        key = self._key
        if key is None:
            key = self.identity.key if self.identity.known else own_key(self.event_id)
            force_setattr(self, "_key", key)
        return key

    def idempotency_key(self, handler: str) -> str:
        """The key for the external system: the same over all attempts and retries of the event by this handler."""
        return self.identity.idempotency_key(handler, self.event_id)

    @property
    def lane(self) -> str:
        """The subscriber's key; one of its own for an event that touches nothing."""
        return self.resources[0] if self.resources else f"event_id:{self.event_id}"

    @property
    def log_ids(self) -> bytes:
        """The ids as they stand in its log lines."""
        ids = self._log_ids
        if ids is None:
            ids = log_ids(self.request_id, self.unique_id, self.event_id, self.event_type)
            force_setattr(self, "_log_ids", ids)
        return ids

    @property
    def log(self) -> FilteringBoundLogger:
        """A structlog logger whose lines carry the event's ids; put no personal field into them."""
        return get_logger(
            action="handler.log",
            request_id=self.request_id,
            unique_id=self.unique_id,
            event_id=self.event_id,
            event_type=self.event_type,
        )

    @property
    def data(self) -> ESPFEvent:
        """``data``: event type and variables."""
        return self.body.data

    @property
    def pb_data(self) -> PBData:
        """``pb_data``: account, SIM, product and policy data."""
        return self.body.pb_data

    @property
    def created_at(self) -> datetime | None:
        """When the event was made, or None where it is missing or no time (``connector.events.times``)."""
        return parse_time(self.body.created_at)

    @property
    def updated_at(self) -> datetime | None:
        """When NSPS took the snapshot in ``pb_data``, or None as above."""
        return parse_time(self.body.updated_at)

    @property
    def happened_at(self) -> datetime | None:
        """When PortaBilling raised the event (``data.variables.event_time``), or None as above."""
        return parse_time(self.data.variables.get("event_time"))

    def resource(self, role: str) -> str | None:
        """The key of what the event touches in this role, such as ``card``; None where it names none."""
        return resources_of(self.event_type, self.reading).get(role)

    def field(self, path: str) -> Any:
        """What stands at ``path`` (``connector.events.paths``), documented or not; None where nothing does.

        Raises ValueError where ``path`` is none.
        """
        return paths.path(path)(self.reading)

    def document(self) -> dict[str, Any]:
        """The parsed body: every field as it came, also those that nobody has documented."""
        return document_of(self.raw)
