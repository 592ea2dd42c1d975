"""Handlers that are no coroutines, each call in a thread of its own.

A pool would be filled by a few calls that hang, since a thread cannot be killed, and would hold up the stop until they
end. Threads of their own cost some 50 µs a call, and those that hang harm nobody else: they are daemons.
"""

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from connector.events.event import Event


def in_thread(function: Callable[[Event], Any]) -> Callable[[Event], Awaitable[Any]]:
    """A coroutine function that runs ``function`` in a thread; what that returns is awaited if it is awaitable."""

    async def call(event: Event) -> Any:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def end(result: Any, fault: BaseException | None) -> None:
            if ended.done():  # cut off meanwhile
                return
            if fault is None:
                ended.set_result(result)
            else:
                ended.set_exception(fault)

        def work() -> None:
            result: Any = None
            fault: BaseException | None = None
            try:
                result = context.run(function, event)
            except StopIteration as raised:  # which no future can carry
                fault = RuntimeError(f"StopIteration: {raised}")
            except BaseException as raised:  # noqa: BLE001 - told to the caller, whatever it is
                fault = raised
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(end, result, fault)

        threading.Thread(target=work, name=f"handler {event.event_id}", daemon=True).start()
        result = await ended
        return await result if inspect.isawaitable(result) else result

    return call
