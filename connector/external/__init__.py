"""The external systems: what a handler's author calls, and what the composition root starts and stops.

In a handler::

    from connector.external import target

    await target().put("/sims/{imsi}", {"imsi": imsi}, json={...}, event=event)

The clients live as long as the application: ``Targets`` makes them from the settings, ``running`` opens them before the
first event is handled and closes them after the last. In a test, ``using(stand_in)`` puts others in their place.

``attempt``  whose event a call is for          ``aiohttp_inside``  what is changed in aiohttp
``client``   one target: what a call passes     ``options``, ``request``, ``urls``, ``body``, ``headers``  what is sent
``wire``, ``tls``  the sockets                  ``mapping``, ``credentials``  the forwarder's body, the tokens
``breaker``, ``limits``  when it may be sent    ``response``, ``failures``, ``hooks``, ``said``  what an answer means
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar, cast

from connector.external.client import Target, TargetState
from connector.external.hooks import Verdict, on_response
from connector.external.response import (
    Kind,
    TargetBusy,
    TargetDead,
    TargetFailed,
    TargetIgnored,
    TargetMistake,
    TargetResponse,
    TargetRetry,
    TargetUnavailable,
)
from connector.external.targets import Targets

__all__ = [
    "Kind",
    "Target",
    "TargetBusy",
    "TargetDead",
    "TargetFailed",
    "TargetIgnored",
    "TargetMistake",
    "TargetResponse",
    "TargetRetry",
    "TargetState",
    "TargetUnavailable",
    "Targets",
    "Verdict",
    "from_thread",
    "on_response",
    "running",
    "stand_ins",
    "target",
    "using",
]

Result = TypeVar("Result")

_current: Final[ContextVar[Targets | None]] = ContextVar("targets", default=None)
_stand_ins: Final[ContextVar[Mapping[str | None, Target]]] = ContextVar("stand_ins", default={})  # noqa: B039 - not changed


class _Process:
    """What threads see that were started without the context of a handler: executors do not copy it."""

    targets: Targets | None = None
    loop: asyncio.AbstractEventLoop | None = None
    stand_ins: Mapping[str | None, Target] = {}


def target(name: str | None = None) -> Target:
    """The external system of this name (TARGETS); without a name, that of TARGET_URL or the only one.

    Its methods are coroutines of the connector's event loop; in a thread, see ``from_thread``. Raises TargetMistake
    where there is none of this name.
    """
    stand_ins = _stand_ins.get() or ({} if _current.get() else _Process.stand_ins)
    if stand_ins:
        found = stand_ins.get(name) or (
            next(iter(stand_ins.values())) if name is None and len(stand_ins) == 1 else None
        )
        if found is None:
            raise TargetMistake(f"using() put nothing in the place of target({name!r})")
        return found
    targets = _current.get() or _Process.targets
    if targets is None:
        raise TargetMistake("target() needs a running connector; in a test, put a stand-in in its place with using()")
    try:
        return targets.find(name)
    except LookupError as error:
        raise TargetMistake(str(error)) from None


def from_thread(call: Coroutine[Any, Any, Result]) -> Result:
    """The result of a call, waited for in a thread: ``from_thread(target().get("/sims/1"))``.

    For handlers that are plain functions, and executors. Raises what the call raises, RuntimeError in the event loop's
    own thread, where ``await`` is the word.
    """
    loop = _Process.loop
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if loop is None or here is loop:
        call.close()
        raise RuntimeError("from_thread() is for threads of a running connector; in a coroutine, await the call")
    return asyncio.run_coroutine_threadsafe(call, loop).result()


@asynccontextmanager
async def running(targets: Targets) -> AsyncIterator[None]:
    """Open the clients and make them the ``target()`` of all tasks that are started within."""
    await targets.open()
    _current.set(targets)  # not reset: the end may come in another context, and this one ends with the application
    _Process.targets = targets
    try:
        with taking_calls_of_threads():
            yield
    finally:
        if _Process.targets is targets:
            _Process.targets = None
        await targets.close()


@contextmanager
def taking_calls_of_threads() -> Iterator[None]:
    """Within it, ``from_thread`` brings the calls of threads to this event loop."""
    before, _Process.loop = _Process.loop, asyncio.get_running_loop()
    try:
        yield
    finally:
        _Process.loop = before


@contextmanager
def using(stand_in: object = None, **named: object) -> Iterator[None]:
    """Put stand-ins in the place of targets, for the code within: for tests of handlers.

    ``using(fake)`` is ``target()``; ``using(hlr=a, crm=b)`` is ``target("hlr")`` and ``target("crm")``. A stand-in
    is an open ``Target``, a ``StandIn``, or anything with the methods that the handler calls.
    """
    places: dict[str | None, Target] = {name: cast("Target", each) for name, each in named.items()}
    if stand_in is not None:
        places[None] = cast("Target", stand_in)
    before, _Process.stand_ins = _Process.stand_ins, places
    token = _stand_ins.set(places)
    try:
        yield
    finally:
        _stand_ins.reset(token)
        _Process.stand_ins = before


def stand_ins() -> list[Target]:
    """What ``using`` has put in the place of targets, here and now."""
    return list(_stand_ins.get().values())
