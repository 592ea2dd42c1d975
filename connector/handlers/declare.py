"""Declarations of an author: ``@on`` for handlers, ``@on_start`` and ``@on_stop`` for set-up and clean-up.

Each one that runs is noted, whatever becomes of the name of its function, so that none is dropped unseen.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, overload

from connector.events.event import Event
from connector.events.event_types import Documented, Role
from connector.handlers.places import place_of_function
from connector.handlers.thread import InThread

Function = TypeVar("Function", bound=Callable[[Event], Any])
Act = Callable[[], Awaitable[Any] | AsyncIterator[Any] | Any]
ActFunction = TypeVar("ActFunction", bound=Act)

MARK: Final = "__nsps_handler__"
"""The attribute under which a function keeps what it was declared to be."""

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
"""Seconds that one set-up or clean-up may take, unless it says otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """A handler as it was declared.

    ``name``          under which its progress and its marks are kept; ``named`` whether the author has set it
    ``types``         the event types or patterns it takes
    ``require``       paths of fields without which an event of these types is refused (422)
    ``skip_unless``   paths of fields without which an event ends as ignored here
    ``resource``      the role of the resource that it writes to (None: the event's first resource)
    ``latest_only``   never apply a snapshot older than one already applied; a text names what is written
    ``timeout``       seconds until an attempt is cut off (None: HANDLER_TIMEOUT)
    ``max_attempts``  attempts until the event is dead (None: MAX_ATTEMPTS)
    ``place``         file and line
    """

    name: str
    call: Callable[[Event], Awaitable[Any]]
    function: Callable[[Event], Any]
    types: tuple[str, ...]
    require: tuple[str, ...] = ()
    skip_unless: tuple[str, ...] = ()
    resource: str | None = None
    latest_only: bool | str = False
    timeout: float | None = None
    max_attempts: int | None = None
    place: str = ""
    named: bool = False

    @property
    def thread(self) -> InThread | None:
        """The calls in threads of a plain function; None for a coroutine function."""
        return self.call if isinstance(self.call, InThread) else None

    @property
    def writes(self) -> str | None:
        """The name of what is written, for a ``latest_only`` handler; None for another."""
        if not self.latest_only:
            return None
        return self.latest_only if isinstance(self.latest_only, str) else self.name


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """A set-up (``start``) or clean-up (``stop``) as it was declared; ``timeout`` in seconds."""

    when: Literal["start", "stop"]
    name: str
    function: Act
    timeout: float
    place: str


declared: Final[list[Handler | Hook]] = []
"""Every declaration that ran in this process, in its order."""


def on(
    *types: Documented | str,
    name: str | None = None,
    require: Sequence[str] = (),
    skip_unless: Sequence[str] = (),
    resource: Role | None = None,
    latest_only: bool | str = False,
    timeout: float | None = None,
    max_attempts: int | None = None,
) -> Callable[[Function], Function]:
    """Declare a function as a handler of these event types or patterns; see ``Handler`` for the options.

    The function may be ``async`` (preferred) or not; one that is not is run in a thread. Mistakes in a declaration
    are reported together when the connector starts.
    """

    if any(callable(each) or isinstance(each, (staticmethod, classmethod)) for each in types):
        raise TypeError('put @on with the names of event types before a function: @on("SIM/Updated")')

    def declare(function: Function) -> Function:
        if isinstance(function, (staticmethod, classmethod)):
            raise TypeError("@staticmethod has to stand above @on, so that @on stands before the function")
        if not inspect.isfunction(function):
            raise TypeError(f"@on has to stand before a function, not before {function!r}")
        if MARK in vars(function):
            raise TypeError(f"@on stands twice before {function.__qualname__}: name all its event types in one")
        handler = Handler(
            name=f"{function.__module__}.{function.__qualname__}" if name is None else name,
            call=function if inspect.iscoroutinefunction(function) else InThread(function),
            function=function,
            types=types,
            require=_paths("require", require),
            skip_unless=_paths("skip_unless", skip_unless),
            resource=resource,
            latest_only=latest_only,
            timeout=timeout,
            max_attempts=max_attempts,
            place=place_of_function(function),
            named=name is not None,
        )
        setattr(function, MARK, handler)
        declared.append(handler)
        return function

    return declare


@overload
def on_start(function: ActFunction, /) -> ActFunction: ...


@overload
def on_start(*, timeout: float = START_SECONDS) -> Callable[[ActFunction], ActFunction]: ...


def on_start(function: Any = None, /, *, timeout: float = START_SECONDS) -> Any:
    """Declare a function without arguments as a set-up: it is run before the first event is handled.

    An async function with one ``yield`` is a set-up and its clean-up: what stands behind the ``yield`` is run at the
    stop. An error in a set-up stops the start; so does one that takes longer than ``timeout`` seconds.
    """
    return _hook("start", function, timeout)


@overload
def on_stop(function: ActFunction, /) -> ActFunction: ...


@overload
def on_stop(*, timeout: float = STOP_SECONDS) -> Callable[[ActFunction], ActFunction]: ...


def on_stop(function: Any = None, /, *, timeout: float = STOP_SECONDS) -> Any:
    """Declare a function without arguments as a clean-up: it is run after the last event was handled.

    An error in it is logged, and so is one that takes longer than ``timeout`` seconds; the others are run all the same.
    """
    return _hook("stop", function, timeout)


def handler_of(function: Callable[..., Any]) -> Handler:
    """The handler that a function was declared to be. Raises ValueError where it was not."""
    handler: Handler | None = getattr(function, MARK, None)
    if handler is None:
        raise ValueError(f"{function!r} is no handler: put @on(...) before it")
    return handler


def _paths(option: str, paths: Sequence[str]) -> tuple[str, ...]:
    if isinstance(paths, str):
        return (paths,)
    if paths is None:
        raise TypeError(f"{option} takes a list of paths, not None")
    return tuple(str(path) for path in paths)


def _hook(when: Literal["start", "stop"], function: Any, timeout: float) -> Any:
    def declare(function: ActFunction) -> ActFunction:
        if not inspect.isfunction(function):
            raise TypeError(f"@on_{when} has to stand before a function, not before {function!r}")
        name = f"{function.__module__}.{function.__qualname__}"
        declared.append(Hook(when, name, function, timeout, place_of_function(function)))
        return function

    return declare if function is None else declare(function)
