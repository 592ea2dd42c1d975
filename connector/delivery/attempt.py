"""One attempt: the call of one handler for one event, as a task of its own, in a fresh context, within its time.

Invariants:

1. Whatever the handler raises, returns, cancels or leaves behind, ``Attempt.ended`` tells and raises nothing of it.
   SystemExit and KeyboardInterrupt of a handler, or of a task that it made, are errors of its event.
2. Nothing of it reaches another attempt: context variables and the decimal context begin anew, and a ``cancel()`` of
   its task by a timer that it left finds a task that has ended.
3. It is cut off after its time, and again every ``CUT_OFF_AGAIN`` seconds if it goes on all the same.
4. What shows that the handler forgot something fails: it returned a coroutine or an exception, or a coroutine that it
   made was never awaited.
"""

import asyncio
import contextvars
import decimal
import inspect
import time
import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, NamedTuple, TextIO

from connector import log
from connector.delivery import eager
from connector.events.event import Event
from connector.external import attempt
from connector.handlers import Handler

CUT_OFF_AGAIN: Final = 10.0
"""Seconds after which a handler that went on although it was cut off is cut off again."""

_current: Final[contextvars.ContextVar["Attempt"]] = contextvars.ContextVar("attempt")

_log = log.get_logger()


class HandlerMistake(Exception):
    """The handler ended well, and in a way that shows that it did not do what its author meant."""


class HandlerExit(Exception):
    """A task that the handler made wanted to end the process."""


class Ended(NamedTuple):
    """How an attempt ended: ``error`` is None where it ended well. ``stopped``: it was cut off since we stop."""

    note: object = None
    error: BaseException | None = None
    seconds: float = 0.0
    stopped: bool = False


class Attempts:
    """Begins attempts. To be made in the event loop: the context in which it is made is that of each attempt.

    ``close`` undoes what it does to the loop and to ``warnings``.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._decimal = decimal.getcontext().copy()
        self._factory_before = self._loop.get_task_factory()
        self._show_before = warnings.showwarning
        self._loop.set_task_factory(_make_task)
        warnings.filterwarnings("always", "coroutine .* was never awaited", RuntimeWarning)
        warnings.showwarning = self._show

    def close(self) -> None:
        """Make tasks and show warnings as before."""
        self._loop.set_task_factory(self._factory_before)
        warnings.showwarning = self._show_before

    def begin(self, handler: Handler, event: Event, timeout: float) -> "Attempt":
        """Begin an attempt; it is cut off after ``timeout`` seconds."""
        return Attempt(self._loop, self._context.copy(), self._decimal.copy(), handler, event, timeout)

    def _show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        running = _current.get(None)
        if running is None or category is not RuntimeWarning or not str(message).endswith("was never awaited"):
            self._show_before(message, category, filename, lineno, file, line)
        elif not running.mistake:
            running.mistake = f"{message}: put await before the call"


class Attempt:
    """One attempt under way.

    ``over``     whether it has ended
    ``mistake``  what shows that the handler forgot something
    ``exit``     why a task that it made wanted to end the process
    """

    __slots__ = (
        "_decimal",
        "_ended",
        "_loop",
        "_task",
        "_timer",
        "_waiter",
        "cuts",
        "event",
        "exit",
        "handler",
        "mistake",
        "over",
        "started",
        "stopped",
        "timeout",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        decimals: decimal.Context,
        handler: Handler,
        event: Event,
        timeout: float,
    ) -> None:
        self.handler = handler
        self.event = event
        self.timeout = timeout
        self.started = time.monotonic()
        self.cuts = 0
        self.stopped = False
        self.over = False
        self.mistake = ""
        self.exit: HandlerExit | None = None
        self._loop = loop
        self._decimal = decimals
        self._ended: Ended | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        task = eager.begin(self._run(), loop, context)
        if not self.over:
            self._goes_on(task)

    def _goes_on(self, task: "asyncio.Task[None]") -> None:
        self._task = task
        if self.exit is not None:
            task.cancel()
        left = self.timeout - (time.monotonic() - self.started)
        self._timer = self._loop.call_later(left, self._cut_off)

    async def ended(self) -> Ended:
        """How it ended, once it has; to be asked once, since an error that stays here would be in a cycle.

        Cancelling who waits here does not cancel the attempt; ``stop`` does.
        """
        if not self.over:
            self._waiter = self._loop.create_future()
            await self._waiter
        ended, self._ended = self._ended, None
        assert ended is not None  # noqa: S101 - for the type checker: it is over
        return ended

    def stop(self) -> None:
        """Cut it off, since the connector stops."""
        if not self.over:
            self.stopped = True
            self._cancel()

    def fail(self, reason: HandlerExit) -> None:
        """A task that the handler made wanted to end the process: fail, or say it where the attempt has ended."""
        if self.over:
            _log.error(
                f"A task that {self.handler.name} left behind wanted to end the process",
                action="handler.exit",
                event_id=self.event.event_id,
                reason=str(reason),
                place=self.handler.place,
            )
            return
        self.exit = self.exit or reason
        self._cancel()

    async def _run(self) -> None:
        decimal.setcontext(self._decimal)
        _current.set(self)
        attempt.begin(self.event, self.handler.name)
        note: object = None
        error: BaseException | None = None
        try:
            note = await self.handler.call(self.event)
        except BaseException as raised:  # noqa: BLE001 - whatever a handler raises is its event's outcome
            error = raised
        self._end(self._judged(note, error))
        error = None  # it knows this frame, so that a frame that knows it would be a cycle

    def _judged(self, note: object, error: BaseException | None) -> Ended:
        seconds = time.monotonic() - self.started
        if self.exit is not None:
            error = self.exit
        elif isinstance(error, asyncio.CancelledError):
            if self.stopped:
                return Ended(seconds=seconds, stopped=True)
            if self.cuts:
                error = TimeoutError(f"cut off after {self.timeout:g} s")
        elif error is None:
            error = self._mistake_in(note)
        return Ended(note, error, seconds)

    def _end(self, ended: Ended) -> None:
        self.over, self._ended = True, ended
        self._task = None  # its context knows this attempt: that would be a cycle
        if self._timer is not None:
            self._timer.cancel()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _mistake_in(self, note: object) -> HandlerMistake | None:
        if note is None or isinstance(note, str):
            return HandlerMistake(self.mistake) if self.mistake else None
        if inspect.iscoroutine(note):
            note.close()
            return HandlerMistake(
                f"the handler returned the coroutine {note.__qualname__}(): put await before the call"
            )
        if inspect.isawaitable(note):
            return HandlerMistake(f"the handler returned a {type(note).__name__}, which nobody awaits")
        if isinstance(note, BaseException) or (isinstance(note, type) and issubclass(note, BaseException)):
            return HandlerMistake(f"the handler returned {note!r:.200} instead of raising it")
        return HandlerMistake(self.mistake) if self.mistake else None

    def _cut_off(self) -> None:
        if self.cuts:
            log.event_line("handler.stuck", "Handler goes on although it was cut off", self.event, "error")
        self.cuts += 1
        self._timer = self._loop.call_later(CUT_OFF_AGAIN, self._cut_off)
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class _Guarded(Coroutine[Any, Any, Any]):
    """A coroutine that a handler runs as a task: where it wants to end the process, its attempt fails instead.

    A class and no ``async def`` around it: that would leave the inner one never awaited if the task ends unbegun.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], attempt: Attempt) -> None:
        self._coroutine = coroutine
        self._attempt = attempt
        self.__name__ = getattr(coroutine, "__name__", type(coroutine).__name__)
        self.__qualname__ = getattr(coroutine, "__qualname__", self.__name__)

    def send(self, value: Any) -> Any:
        return self._guard(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        return self._guard(self._coroutine.throw, *error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def _guard(self, step: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return step(*arguments)
        except (SystemExit, KeyboardInterrupt) as error:
            reason = HandlerExit(f"{type(error).__name__} in the task {self.__qualname__} of the handler")
            self._attempt.fail(reason)
            raise reason from error


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
    """The loop's task factory: tasks that a handler makes, and those that they make, are guarded."""
    context: contextvars.Context | None = options.get("context")
    running = _current.get(None) if context is None else context.get(_current)
    if running is not None:
        coroutine = _Guarded(coroutine, running)
    return asyncio.Task(coroutine, loop=loop, **options)
