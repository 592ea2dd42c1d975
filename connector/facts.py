"""What happens in the connector, said once: ``facts.accepted(event)``. Log lines listen; metrics listen beside them.

- The part that knows a fact says it, once, in the event loop's thread, when it has become true: ``accepted`` after the
  commit, ``outcome`` when it is decided.
- A listener overrides the methods of ``Listener`` that it needs. It neither raises nor waits.
- A fact that one listener hears is a call of that listener's method, and one that nobody hears is a call of nothing:
  the two facts of every event cost what their log lines cost.

A new fact: a method of ``Listener``; a line for it: the same method of ``LogLines``.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from connector import log
from connector.flood import flood
from connector.log import Traced

_log = log.get_logger()


class Refusal(NamedTuple):
    """A request that was not answered 202.

    ``kind``     one of a few names of what is wrong, for counts
    ``action``   ``event.refused`` on the event path, ``request.refused`` elsewhere
    ``status``   of the answer
    ``remote``   address of the client
    ``more``     further fields of the log line, such as the ids of the request
    """

    kind: str
    action: str
    method: str
    status: int
    type: str
    reason: str
    details: Sequence[str]
    remote: str | None
    more: dict[str, Any]


class Listener:
    """One method a fact; each does nothing."""

    def accepted(self, event: Traced) -> None:
        """A new event is kept; its 202 is about to be sent."""

    def duplicate(self, event: Traced) -> None:
        """An event is known already; it is answered 202 and not processed again."""

    def conflict(self, event: Traced) -> None:
        """An event is known already, with another body."""

    def unordered(self, event: Traced) -> None:
        """A new event names nothing that it touches; it runs at once."""

    def field_unreadable(self, event: Traced, path: str, kind: str) -> None:
        """A new event has a documented field that cannot be read and counts as null; ``kind``: what stands there."""

    def time_unreadable(self, event: Traced, path: str) -> None:
        """A new event has a time that cannot be read and counts as missing."""

    def time_ahead(self, event: Traced, path: str) -> None:
        """A new event for a ``latest_only`` handler has a time of more than an hour ahead; it counts as without one."""

    def refused(self, refusal: Refusal) -> None:
        """A request was refused."""

    def attempt(self, event: Traced, handler: str, result: str, seconds: float) -> None:
        """A handler has ended: ``result`` is done, ignored, waiting, dead or held; it took ``seconds``."""

    def outcome(
        self, event: Traced, state: str, reason: str, attempt: int = 1, ms: int = 0, due: float | None = None
    ) -> None:
        """What becomes of an event after an attempt, ``state`` as in ``attempt`` or ``superseded``.

        ``due``: when a waiting event is tried again, in seconds since the epoch.
        """

    def committed(self, events: int, seconds: float) -> None:
        """A transaction of the journal with so many new events was synced; it took ``seconds``."""

    def called(self, event: Traced | None, message: str, seconds: float, more: dict[str, Any]) -> None:
        """An external system was called, and answered or did not; it took ``seconds``.

        ``event`` is what the call was for, where that is known. ``more``: target, method, host, path, status.
        """

    def breaker(self, state: str, reason: str, more: Mapping[str, Any]) -> None:
        """A circuit breaker is ``open``, ``half_open`` or ``closed`` now. ``more``: of which target, for how long."""

    def operated(self, verb: str, named: int, more: Mapping[str, Any]) -> None:
        """An operator's command, such as ``replay``, was carried out; ``more``: on what, by whom."""


FACTS: Final = tuple(name for name in vars(Listener) if not name.startswith("_"))


class Minutely:
    """Counts of what is said once a minute: how often it was, with this time, since it was last said."""

    SECONDS: Final = 60.0
    MOST: Final = 256
    """Names that are counted; a further one takes the place of all before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._said: dict[str, list[float]] = {}

    def count(self, name: str) -> int:
        """How often ``name`` was, if it is to be said now; else 0."""
        now = self._clock()
        known = self._said.get(name)
        if known is not None:
            known[1] += 1
            if now - known[0] < self.SECONDS:
                return 0
        elif len(self._said) >= self.MOST:
            self._said.clear()
        count = 1 if known is None else int(known[1])
        self._said[name] = [now, 0]
        return count


class LogLines(Listener):
    """The log lines of the facts. Lines that anybody can cause go through ``connector.flood``."""

    def __init__(self) -> None:
        self._minutely = Minutely()

    def accepted(self, event: Traced) -> None:
        log.event_line("event.accepted", "Event accepted", event)

    def duplicate(self, event: Traced) -> None:
        log.event_line("event.duplicate", "Event is known already and is not processed again", event)

    def conflict(self, event: Traced) -> None:
        log.event_line(
            "event.conflict", "Event is known already with another body; the first one counts", event, "warning"
        )

    def unordered(self, event: Traced) -> None:
        log.event_line("event.unordered", "Event names no subscriber and waits for no other event", event, "warning")

    def field_unreadable(self, event: Traced, path: str, kind: str) -> None:
        if count := self._minutely.count(path):
            more = {"path": path, "kind": kind, "count": count}
            log.event_line("event.field_unreadable", f"{path} cannot be read: {kind}", event, "warning", more)

    def time_unreadable(self, event: Traced, path: str) -> None:
        if count := self._minutely.count(f"time {path}"):
            more = {"path": path, "count": count}
            log.event_line("event.time_unreadable", f"{path} is no time that can be read", event, "warning", more)

    def time_ahead(self, event: Traced, path: str) -> None:
        if count := self._minutely.count(f"ahead {path}"):
            more = {"path": path, "count": count}
            log.event_line(
                "event.time_ahead", f"{path} is more than an hour ahead of the clock", event, "warning", more
            )

    def refused(self, refusal: Refusal) -> None:
        flood.line(
            refusal.kind,
            f"{refusal.method} refused: {refusal.status} {refusal.reason}",
            action=refusal.action,
            **refusal.more,
            status=refusal.status,
            type=refusal.type,
            reason=refusal.reason,
            details=refusal.details,
            remote=refusal.remote,
        )

    def outcome(
        self, event: Traced, state: str, reason: str, attempt: int = 1, ms: int = 0, due: float | None = None
    ) -> None:
        if state == "done":
            log.event_line("event.processed", reason or "Event processed", event)
            return
        action, level, message = _OUTCOMES[state]
        more = {"reason": reason, "attempt": attempt, "ms": ms}
        if due is not None:
            more["due"] = due
        log.event_line(action, message, event, level, more)

    def called(self, event: Traced | None, message: str, seconds: float, more: dict[str, Any]) -> None:
        more = {**more, "ms": round(seconds * 1000)}
        if event is None:
            _log.info(message, action="target.called", **more)
        else:
            log.event_line("target.called", message, event, more=more)

    def breaker(self, state: str, reason: str, more: Mapping[str, Any]) -> None:
        action, level, message = _BREAKER[state]
        _log.log(level, message, action=action, reason=reason, **more)

    def operated(self, verb: str, named: int, more: Mapping[str, Any]) -> None:
        _log.info(f"An operator's {verb} was carried out", action=f"operator.{verb}", named=named, **more)


_OUTCOMES: Final = {
    "ignored": ("event.ignored", "info", "Event ignored"),
    "superseded": ("event.superseded", "info", "Event superseded"),
    "waiting": ("event.retrying", "warning", "Event will be tried again"),
    "dead": ("event.dead", "error", "Event is dead"),
    "held": ("event.dead", "error", "Event is dead and holds its subscriber's events"),
}

_BREAKER: Final = {
    "open": ("breaker.opened", logging.WARNING, "The target seems to be unavailable; calls to it wait"),
    "half_open": ("breaker.half_open", logging.INFO, "Trying the target again"),
    "closed": ("breaker.closed", logging.INFO, "The target is available again; calls to it go on"),
}


class Facts(Listener):
    """Where facts are said: each method calls that of all who listen."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._connect()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Let ``listener`` hear all facts from now on; the function returned ends that."""
        self._listeners.append(listener)
        self._connect()

        def leave() -> None:
            self._listeners.remove(listener)
            self._connect()

        return leave

    def _connect(self) -> None:
        for fact in FACTS:
            hear = [
                getattr(listener, fact)
                for listener in self._listeners
                if getattr(type(listener), fact) is not getattr(Listener, fact)
            ]
            setattr(self, fact, hear[0] if len(hear) == 1 else _all(hear) if hear else _nobody)


def _nobody(*_: Any, **__: Any) -> None:
    pass


def _all(hear: Sequence[Callable[..., None]]) -> Callable[..., None]:
    def tell(*args: Any, **kwargs: Any) -> None:
        for each in hear:
            each(*args, **kwargs)

    return tell


facts: Final = Facts()
facts.listen(LogLines())
