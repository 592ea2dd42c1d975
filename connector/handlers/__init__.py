"""Handlers: declared with ``@on``, found in the modules that HANDLERS names.

A handler is called with one ``Event``. When it returns, the event is done (a text it returns becomes the message of
the log line and the note in the history); ``Ignored``, ``Retry`` and ``DeadLetter`` say otherwise, and any other
exception means: try again later.
"""

import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from connector.errors import StartError
from connector.events import paths
from connector.events.event import Event
from connector.handlers.thread import in_thread

Function = TypeVar("Function", bound=Callable[[Event], Any])

ANY: Final = "*"
DEFAULT: Final = "connector.handlers.log_only"
_MARK: Final = "__nsps_handler__"


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler as it was declared.

    ``types``         the event types it takes; ``*`` takes what no other takes
    ``require``       paths of fields without which an event of these types is refused (422)
    ``latest_only``   never apply a snapshot older than one already applied for the subscriber
    ``timeout``       seconds until an attempt is cut off (None: HANDLER_TIMEOUT)
    ``max_attempts``  attempts until the event is dead (None: MAX_ATTEMPTS)
    """

    name: str
    call: Callable[[Event], Awaitable[Any]]
    function: Callable[[Event], Any]
    types: tuple[str, ...]
    require: tuple[str, ...] = ()
    latest_only: bool = False
    timeout: float | None = None
    max_attempts: int | None = None


def on(
    *types: str,
    require: Sequence[str] = (),
    latest_only: bool = False,
    timeout: float | None = None,
    max_attempts: int | None = None,
) -> Callable[[Function], Function]:
    """Declare a function as the handler of these event types; see ``Handler`` for the options.

    The function may be ``async`` (preferred) or not; one that is not is run in a thread. Mistakes in a declaration
    are reported together when the connector starts.
    """

    if any(callable(name) for name in types):
        raise TypeError('put @on with the names of event types before a function: @on("SIM/Updated")')

    def declare(function: Function) -> Function:
        if not inspect.isfunction(function):
            raise TypeError(f"@on has to stand before a function, not before {function!r}")
        if _MARK in vars(function):
            raise TypeError(f"@on stands twice before {function.__qualname__}: name all its event types in one")
        handler = Handler(
            name=f"{function.__module__}.{function.__qualname__}",
            call=function if inspect.iscoroutinefunction(function) else in_thread(function),
            function=function,
            types=types,
            require=(require,) if isinstance(require, str) else tuple(str(path) for path in require),
            latest_only=latest_only,
            timeout=timeout,
            max_attempts=max_attempts,
        )
        setattr(function, _MARK, handler)
        return function

    return declare


def handler_of(function: Callable[..., Any]) -> Handler:
    """The handler that a function was declared to be. Raises ValueError where it was not."""
    handler: Handler | None = getattr(function, _MARK, None)
    if handler is None:
        raise ValueError(f"{function!r} is no handler: put @on(...) before it")
    return handler


class Handlers:
    """The handlers of a connector, by event type."""

    def __init__(self, handlers: Sequence[Handler]) -> None:
        self.all = tuple(handlers)
        self._by_type = {name: handler for handler in handlers for name in handler.types}
        self._rest = self._by_type.get(ANY)

    def find(self, event_type: str) -> Handler | None:
        """Who takes events of this type; None where nobody does."""
        return self._by_type.get(event_type, self._rest)

    @property
    def require(self) -> dict[str, tuple[str, ...]]:
        """The fields that events must have, by event type; ``*`` for types that no handler names."""
        if not any(handler.require for handler in self.all):
            return {}
        return {name: handler.require for name, handler in self._by_type.items()}

    @property
    def any_latest(self) -> bool:
        """Whether there is a ``latest_only`` handler at all."""
        return any(handler.latest_only for handler in self.all)

    def latest(self, event_type: str) -> str | None:
        """The name of the handler of this type if it is ``latest_only``."""
        handler = self.find(event_type)
        return handler.name if handler is not None and handler.latest_only else None


def load(modules: Sequence[str]) -> Handlers:
    """The handlers declared in these modules, the default one for an empty list.

    Modules are looked for in the working directory too. Raises StartError that names every mistake.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    faults: list[str] = []
    found: list[Handler] = []
    for name in modules or [DEFAULT]:
        try:
            declared = _declared(importlib.import_module(name))
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - a module of somebody else's may raise anything
            faults.append(f"HANDLERS: {name} cannot be imported: {type(fault).__name__}: {fault}")
            continue
        if not declared:
            faults.append(f"HANDLERS: {name} declares no handler; put @on(...) from connector before a function")
        found.extend(handler for handler, _ in declared if handler not in found)
        for handler, function in declared:
            faults.extend(f"HANDLERS: {handler.name}: {mistake}" for mistake in _mistakes(handler, function))
    faults.extend(_taken_twice(found))
    if faults:
        raise StartError("\n".join(dict.fromkeys(faults)))
    return Handlers(found)


def _taken_twice(handlers: Sequence[Handler]) -> Iterator[str]:
    taken: dict[str, str] = {}
    for handler in handlers:
        for event_type in filter(lambda name: isinstance(name, str), handler.types):
            if event_type in taken:
                yield f"HANDLERS: {event_type} is taken twice: by {taken[event_type]} and by {handler.name}"
            taken[event_type] = handler.name


def _declared(module: ModuleType) -> list[tuple[Handler, Callable[..., Any]]]:
    """The handlers in a module, each with what stands there under its name."""
    return [
        (vars(value)[_MARK], value)
        for value in vars(module).values()
        if inspect.isfunction(value) and _MARK in vars(value)
    ]


def _mistakes(handler: Handler, function: Callable[..., Any]) -> list[str]:
    mistakes = []
    if not handler.types or not all(isinstance(name, str) and name for name in handler.types):
        mistakes.append('@on needs the names of event types, such as @on("SIM/Updated"), or "*"')
    if function is not handler.function:
        mistakes.append("another decorator stands before @on and would be left out; @on has to be the first")
    try:
        inspect.signature(handler.function).bind(object())
    except TypeError:
        mistakes.append("it cannot be called with one event")
    if inspect.isgeneratorfunction(handler.function) or inspect.isasyncgenfunction(handler.function):
        mistakes.append("it has a yield in it, so that a call would do nothing")
    for path in handler.require:
        try:
            paths.field(path)
        except ValueError as fault:
            mistakes.append(f"require: {fault}")
    if handler.timeout is not None and not (_is_number(handler.timeout, int, float) and handler.timeout > 0):
        mistakes.append("timeout must be a number of seconds above 0")
    if handler.max_attempts is not None and not (_is_number(handler.max_attempts, int) and handler.max_attempts >= 1):
        mistakes.append("max_attempts must be a whole number of at least 1")
    return mistakes


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
