"""Set-up and clean-up of the author's modules: ``@on_start`` and ``@on_stop``.

They are run in the order of their declaration, module by module in the order of HANDLERS, and cleaned up the other way
round. Only what was reached is cleaned up: when the third set-up fails, the first two are.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from connector import log
from connector.errors import StartError
from connector.handlers.declare import STOP_SECONDS, Hook
from connector.handlers.places import place_of_error
from connector.handlers.thread import call_in_thread

_log = log.get_logger()


@asynccontextmanager
async def running(hooks: Sequence[Hook]) -> AsyncIterator[None]:
    """What stands within runs between all set-ups and all clean-ups.

    Context variables that a set-up sets are seen by whatever is started within. Raises StartError, with file and line,
    where a set-up fails or takes too long.
    """
    async with AsyncExitStack() as stack:
        for hook in hooks:
            if hook.when == "stop":
                stack.push_async_callback(_clean_up, hook, _call_of(hook.function), hook.timeout)
            elif inspect.isasyncgenfunction(hook.function):
                both = hook.function()
                await _set_up(hook, both.__anext__)
                stack.push_async_callback(_clean_up, hook, _rest_of(both), STOP_SECONDS)
            else:
                await _set_up(hook, _call_of(hook.function))
        yield


async def _set_up(hook: Hook, call: Callable[[], Awaitable[Any]]) -> None:
    error = await _error_of(hook, call, hook.timeout)
    if error:
        raise StartError(f"HANDLERS: @on_start of {hook.name} ({hook.place}) {error}")


async def _clean_up(hook: Hook, call: Callable[[], Awaitable[Any]], timeout: float) -> None:
    error = await _error_of(hook, call, timeout)
    if error:
        _log.error(
            f"The clean-up of {hook.name} {error}", action="handlers.stop_failed", handler=hook.name, place=hook.place
        )


async def _error_of(hook: Hook, call: Callable[[], Awaitable[Any]], timeout: float) -> str:
    """Why a set-up or clean-up did not end well; an empty text where it did."""
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            await call()
    except StopAsyncIteration:
        return "ended without its yield"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an author's code may raise anything
        if limit.expired() and isinstance(error, TimeoutError):
            return f"did not end within {timeout:g} s"
        place = place_of_error(error, hook.function)
        return f"failed: {type(error).__name__}: {error}" + (f" ({place})" if place else "")
    return ""


def _call_of(function: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    """The coroutine function itself, or one that runs a plain function in a thread."""
    if inspect.iscoroutinefunction(function):
        return function

    async def call() -> None:
        await call_in_thread(function)

    return call


def _rest_of(generator: Any) -> Callable[[], Awaitable[Any]]:
    """What stands behind the ``yield``."""

    async def call() -> None:
        await anext(generator, None)
        await generator.aclose()

    return call
