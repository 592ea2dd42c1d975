"""Looks into answers for data of other events: an ErrorResponse that quotes a body may quote the wrong one."""

from __future__ import annotations

import re

from nsps_simulator.records import NO_EVENT
from nsps_simulator.wire.events import Events

_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_PERSONAL = re.compile(
    rb"subscriber-(\d+)@example\.invalid|Subscriber-(\d+)|89999010(\d{8})\d{3}|00101(\d{7})\d{3}", re.IGNORECASE
)


class Leaks:
    """Says of each answer whether it holds an id or a personal field that its request did not bring."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._harmless = b""  # the last body without any such thing: as a rule all accepting ones are alike

    def found(self, answer: bytes, index: int) -> bool:
        """Whether the answer to event `index` (or to NO_EVENT) holds data of another subscriber or event."""
        body = answer[answer.find(b"\r\n\r\n") + 4 :]
        if body == self._harmless or not body:
            return False
        for match in _UUID.finditer(body):
            other = self._events.index_of(match[0].lower())
            if other is not None and other != index:
                return True
        subscriber = -1 if index == NO_EVENT else self._events.subscriber(index)
        named = [int(next(group for group in match.groups() if group)) for match in _PERSONAL.finditer(body)]
        if any(other != subscriber for other in named):
            return True
        if not named:
            self._harmless = body
        return False
