"""Tasks that begin at once: what never waits costs no turn of the event loop.

Python 3.12 has that (``eager_start``). For 3.11 it is done here by hand: a new task asks its loop to be called soon,
and what it asks for is called at once instead, while the task that runs now stands aside.
"""

import asyncio
import contextvars
import sys
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine
from typing import Any, Final

_IS_BUILT_IN: Final = sys.version_info >= (3, 12)


def begin(
    coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: contextvars.Context
) -> "asyncio.Task[None]":
    """A task that has run up to its first wait; from within another task. ``coroutine`` raises nothing."""
    if _IS_BUILT_IN:
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)  # type: ignore[call-arg, unused-ignore]
    loop.call_soon = _call_at_once  # type: ignore[method-assign, assignment]
    try:
        task = asyncio.Task(coroutine, loop=loop, context=context)
    finally:
        del loop.call_soon
    now = asyncio.current_task(loop)
    assert now is not None  # noqa: S101 - for the type checker: see above
    _leave_task(loop, now)
    try:
        context.run(_steps.pop())
    finally:
        _enter_task(loop, now)
    return task


_steps: Final[list[Callable[[], object]]] = []


def _call_at_once(step: Callable[[], object], *, context: contextvars.Context) -> None:
    _steps.append(step)
