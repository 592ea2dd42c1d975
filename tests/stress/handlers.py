"""Handlers that misbehave: an event's type says how, ``Well/Behaved`` ones write down what they handle.

``HANDLED``  the file: a line ``process lane event_id`` for each event of a well-behaved handler
``FATAL``    of a hundred of them so many are dead at first; which ones, their ids decide
"""

import asyncio
import contextvars
import decimal
import gc
import os
import signal
import sys
import threading
import warnings
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from connector import DeadLetter, Event, Ignored, Later, Retry, on

_file = os.open(os.environ.get("HANDLED", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
_fatal = int(os.environ.get("FATAL", "0"))
_seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="")
_kept: list[Any] = []

Act = Callable[[Event], Awaitable[Any]]


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise SystemExit(9)


def _raises(make: Callable[[], BaseException]) -> Act:
    async def act(_: Event) -> None:
        raise make()

    return act


def _does(do: Callable[[], Any]) -> Act:
    async def act(_: Event) -> None:
        do()
        await asyncio.sleep(0.01)

    return act


async def _later_once(event: Event) -> None:
    if event.event_id not in _kept:
        _kept.append(event.event_id)
        raise Later(seconds=1)


async def _task_exits(_: Event) -> None:
    async def leave() -> None:
        sys.exit(3)

    _kept.append(asyncio.create_task(leave()))
    await asyncio.sleep(0.01)


async def _late_cancel(_: Event) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.01, task.cancel)


async def _cancels_itself(_: Event) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def _leaks_context(_: Event) -> None:
    assert _seen.get() == "", "the context of another event"
    _seen.set("mine")
    decimal.getcontext().prec = 3


async def _hangs(_: Event) -> None:
    await asyncio.Event().wait()


async def _swallows(_: Event) -> None:
    for _again in range(3):
        try:
            await asyncio.sleep(2)
        except asyncio.CancelledError:
            continue


async def _forgets_await(_: Event) -> Any:
    return asyncio.sleep(0)


async def _blocks(_: Event) -> None:
    threading.Event().wait(0.3)


async def _huge_text(_: Event) -> None:
    raise RuntimeError("x" * 1_000_000 + "\udcff")


def _call_soon(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: asyncio.get_running_loop().call_soon(function, *arguments)


def _interrupt() -> None:
    raise KeyboardInterrupt


def _child() -> None:
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)


KINDS: Final[dict[str, Act]] = {
    "Raises/Error": _raises(lambda: KeyError("imsi")),
    "Raises/Exit": _raises(lambda: SystemExit(4)),
    "Raises/Interrupt": _raises(KeyboardInterrupt),
    "Raises/GeneratorExit": _raises(GeneratorExit),
    "Raises/Cancelled": _raises(asyncio.CancelledError),
    "Raises/Unprintable": _raises(_Unprintable),
    "Raises/Group": _raises(lambda: ExceptionGroup("both", [OSError(), KeyError()])),
    "Raises/Memory": _raises(MemoryError),
    "Raises/Dead": _raises(DeadLetter),
    "Raises/Ignored": _raises(Ignored),
    "Raises/Later": _later_once,
    "Raises/Retry": _raises(lambda: Retry("at once", after=0)),
    "Raises/Huge": _huge_text,
    "Task/Exits": _task_exits,
    "Cancels/Late": _late_cancel,
    "Cancels/Itself": _cancels_itself,
    "Callback/Exits": _does(_call_soon(sys.exit, 5)),
    "Callback/Interrupts": _does(_call_soon(_interrupt)),
    "Loop/Stopped": _does(lambda: asyncio.get_running_loop().stop()),
    "Leaks/Context": _leaks_context,
    "Hangs/Forever": _hangs,
    "Swallows/Cancel": _swallows,
    "Forgets/Await": _forgets_await,
    "Blocks/Loop": _blocks,
    "Thread/Exits": _does(lambda: threading.Thread(target=sys.exit).start()),
    "Warns/Error": _does(lambda: warnings.simplefilter("error")),
    "Collects/Off": _does(gc.disable),
    "Signal/Ignored": _does(lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN)),
    "Forks/Child": _does(_child),
    "Folder/Changed": _does(lambda: os.chdir("/")),
}


@on("*", timeout=1.0)
async def handle(event: Event) -> None:
    """As the type says."""
    if event.event_type in KINDS:
        await KINDS[event.event_type](event)
        return
    if event.attempt == 1 and zlib.crc32(event.event_id.encode()) % 100 < _fatal:
        raise DeadLetter("an operator has to look")
    os.write(_file, f"{os.getpid()} {event.lane} {event.event_id}\n".encode())
