"""Plain functions of an author, each call in a thread of its own.

A pool would be filled by a few calls that hang, since a thread cannot be killed, and would hold up the stop until they
end. Threads of their own cost some 50 µs a call, and those that hang harm nobody else: they are daemons. A call that
was cut off while its thread is still at work is *left behind*; how many calls of one handler may be so is bounded.
"""

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any, Final

from connector.events.event import Event

MOST_LEFT_BEHIND: Final = 16
"""Calls of one handler that were cut off and whose threads are still at work; then its events wait until one ends."""


async def call_in_thread(
    function: Callable[..., Any], *arguments: Any, name: str | None = None, left: "Callable[[int], None] | None" = None
) -> Any:
    """What ``function`` returns, called in a thread and in a copy of this context; awaited if it is awaitable.

    ``left`` is told 1 when the call is cut off while the thread is at work, and -1 when that thread has ended.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def end(result: Any, error: BaseException | None) -> None:
        if ended.done():  # cut off meanwhile
            if left is not None:
                left(-1)
        elif error is None:
            ended.set_result(result)
        else:
            ended.set_exception(error)

    def work() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = context.run(function, *arguments)
        except StopIteration as raised:  # which no future can carry
            error = RuntimeError(f"StopIteration: {raised}")
        except BaseException as raised:  # noqa: BLE001 - told to the caller, whatever it is
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(end, result, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    try:
        result = await ended
    except asyncio.CancelledError:
        if ended.cancelled() and left is not None:
            left(1)
        raise
    return await result if inspect.isawaitable(result) else result


class InThread:
    """A plain function as a handler's call.

    ``left_behind``  how many calls were cut off and are still at work
    ``freed``        is called when there is room for a call again
    """

    def __init__(self, function: Callable[[Event], Any]) -> None:
        self._function = function
        self.left_behind = 0
        self.freed: Callable[[], None] = lambda: None

    async def __call__(self, event: Event) -> Any:
        """Run the function in a thread; its result."""
        return await call_in_thread(self._function, event, name=f"handler {event.event_id}", left=self._count)

    @property
    def is_full(self) -> bool:
        """Whether no further call may begin."""
        return self.left_behind >= MOST_LEFT_BEHIND

    def _count(self, more: int) -> None:
        was_full = self.is_full
        self.left_behind += more
        if was_full and not self.is_full:
            self.freed()
