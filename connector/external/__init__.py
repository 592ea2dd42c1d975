"""The external system: what a handler's author calls, and what the composition root starts and stops.

In a handler::

    from connector.external import target

    await target().post("/prov", json={...}, event=event)

The client lives as long as the application: ``from_settings`` makes it, ``running`` opens it before the first event is
handled and closes it after the last. In a test, ``using(client)`` puts another in its place.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final

from connector.external import mapping
from connector.external.breaker import Gate
from connector.external.client import Answer, Target, TargetState
from connector.external.failures import (
    Kind,
    TargetAway,
    TargetBusy,
    TargetDead,
    TargetFailed,
    TargetIgnored,
    TargetRetry,
)
from connector.outcome import Retry
from connector.settings import Settings

__all__ = [
    "Answer",
    "Gate",
    "Kind",
    "Target",
    "TargetAway",
    "TargetBusy",
    "TargetDead",
    "TargetFailed",
    "TargetIgnored",
    "TargetRetry",
    "TargetState",
    "from_settings",
    "running",
    "target",
    "using",
]

_current: Final[ContextVar[Target]] = ContextVar("target")


def target() -> Target:
    """The external system of the connector that runs this handler. Raises Retry where TARGET_URL is not set."""
    try:
        return _current.get()
    except LookupError:
        raise Retry("TARGET_URL is not set: there is no external system to call") from None


def from_settings(
    settings: Settings, gate: Gate, clock: Callable[[], float], note: Callable[[str], None]
) -> Target | None:
    """The client that the settings describe, None without TARGET_URL; ``note`` is the breaker's.

    Raises StartError where a certificate, a key or the mapping file cannot be read.
    """
    if not settings.target_url:
        return None
    return Target(settings, gate=gate, clock=clock, note=note, mapping=mapping.from_settings(settings))


@asynccontextmanager
async def running(client: Target | None) -> AsyncIterator[None]:
    """Open ``client`` and make it ``target()`` of all tasks that are started within."""
    if client is None:
        yield
        return
    await client.open()
    _current.set(client)  # not reset: the end may come in another context, and this one ends with the application
    try:
        yield
    finally:
        await client.close()


@contextmanager
def using(client: Target) -> Iterator[None]:
    """Make an open ``client`` the ``target()`` of the code within: for tests of handlers."""
    before = _current.set(client)
    try:
        yield
    finally:
        _current.reset(before)
