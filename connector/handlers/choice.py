"""Which handlers take an event of a type."""

from collections.abc import Sequence

from connector.events import patterns
from connector.events.event import Event
from connector.handlers.declare import Handler, Hook
from connector.outcome import Mark


class Handlers:
    """The handlers of a connector, by event type, with its hooks and what the start has to warn of."""

    def __init__(self, handlers: Sequence[Handler], hooks: Sequence[Hook] = (), warnings: Sequence[str] = ()) -> None:
        self.all = tuple(handlers)
        self.hooks = tuple(hooks)
        self.warnings = tuple(warnings)
        by_type: dict[str, list[Handler]] = {}
        for handler in handlers:
            for name in handler.types:
                by_type.setdefault(name, []).append(handler)
        self._any_latest = any(handler.latest_only for handler in handlers)
        self._by_type = {name: tuple(several) for name, several in by_type.items()}
        self._found: dict[str, tuple[Handler, ...]] = {}

    def find(self, event_type: str) -> tuple[Handler, ...]:
        """Who takes events of this type, in the order in which they are run; empty where nobody does.

        The handlers of the type itself; where there are none those of the best pattern (``connector.events.patterns``).
        """
        found = self._found.get(event_type)
        if found is None:
            found = patterns.best(self._by_type, event_type) or ()
            if len(self._found) < patterns.MOST_TYPES:
                self._found[event_type] = found
        return found

    @property
    def require(self) -> dict[str, tuple[str, ...]]:
        """The fields that events must have, by event type or pattern: those of all its handlers together."""
        if not any(handler.require for handler in self.all):
            return {}
        return {
            name: tuple(dict.fromkeys(path for handler in several for path in handler.require))
            for name, several in self._by_type.items()
        }

    @property
    def types(self) -> dict[str, list[str]]:
        """The types and patterns that each handler takes, by its name."""
        return {handler.name: list(handler.types) for handler in self.all}

    def marks(self, event: Event) -> tuple[Mark, ...]:
        """What the ``latest_only`` handlers of an event would write."""
        if not self._any_latest:
            return ()
        found = (mark_of(handler, event) for handler in self.find(event.event_type) if handler.latest_only)
        return tuple(mark for mark in found if mark is not None)


def mark_of(handler: Handler, event: Event) -> Mark | None:
    """What a ``latest_only`` handler writes for an event; None for another, and where its resource is not there.

    The resource is the event's first one, unless the handler names a role.
    """
    if handler.writes is None:
        return None
    if handler.resource is None:
        return Mark(handler.writes, event.resources[0]) if event.resources else None
    key = event.resource(handler.resource)
    return None if key is None else Mark(handler.writes, key)
