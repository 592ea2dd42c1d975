"""Mistakes in declarations, each as one sentence for the author. Pure: nothing is imported or run here."""

import difflib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from connector.events import paths, patterns
from connector.events.body import MAX_NAME
from connector.events.event_types import DOCUMENTED, ROLES
from connector.handlers.declare import Handler, Hook


def in_handler(handler: Handler) -> Iterator[str]:
    """What is wrong with the declaration of one handler."""
    yield from _in_types(handler.types)
    yield from _in_signature(handler.function)
    for option, named in (("require", handler.require), ("skip_unless", handler.skip_unless)):
        yield from _in_paths(option, named)
    if not isinstance(handler.name, str) or not 0 < len(handler.name) <= MAX_NAME:
        yield f"name must be a text of 1 to {MAX_NAME} characters"
    if handler.resource is not None and handler.resource not in ROLES:
        yield f"resource must be one of {', '.join(ROLES)}, not {handler.resource!r}{_near(handler.resource, ROLES)}"
    if not isinstance(handler.latest_only, (bool, str)) or handler.latest_only == "":
        yield "latest_only must be True, False or the name of what is written"
    if handler.timeout is not None:
        yield from _in_timeout(handler.timeout)
    if handler.max_attempts is not None and not (_is_number(handler.max_attempts, int) and handler.max_attempts >= 1):
        yield "max_attempts must be a whole number of at least 1"


def in_hook(hook: Hook) -> Iterator[str]:
    """What is wrong with the declaration of one set-up or clean-up."""
    try:
        inspect.signature(hook.function).bind()
    except TypeError:
        yield f"@on_{hook.when} stands before a function that needs arguments"
    is_context = inspect.isasyncgenfunction(hook.function)
    if inspect.isgeneratorfunction(hook.function) or (hook.when == "stop" and is_context):
        yield "it has a yield in it; only an async function with @on_start may have one"
    yield from _in_timeout(hook.timeout)


def between(handlers: Sequence[Handler]) -> Iterator[str]:
    """What is wrong with declarations that are right one by one."""
    names = {name: handler for handler in handlers for name in handler.types if isinstance(name, str)}
    for event_type, group, ending in patterns.undecided(names, DOCUMENTED):
        yield (
            f"HANDLERS: {event_type} is matched by {group} of {names[group].name} ({names[group].place}) and by "
            f"{ending} of {names[ending].name} ({names[ending].place}): name it in the @on that is to take it"
        )
    by_name: dict[str, Handler] = {}
    for handler in handlers:
        other = by_name.setdefault(handler.name, handler)
        if other is not handler and (handler.named or other.named):
            yield f"HANDLERS: two handlers have name={handler.name!r}: {other.place} and {handler.place}"


def near_types(name: str) -> list[str]:
    """Documented event types that may have been meant, those of the same group alone where there are any."""
    known = {each.lower(): each for each in DOCUMENTED}
    near = [known[each] for each in difflib.get_close_matches(name.lower(), known, 3, 0.75)]
    group = name.lower().partition("/")[0]
    return [each for each in near if each.lower().partition("/")[0] == group] or near


def _in_types(types: Sequence[object]) -> Iterator[str]:
    names = [name for name in types if isinstance(name, str) and name]
    if not names or len(names) < len(types):
        yield '@on needs the names of event types, such as @on("SIM/Updated"), or "*"'
    for name in names:
        if not patterns.is_legal(name):
            yield f'{name!r} is no pattern; one is "Group/*", "*/Name" or "*"'
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{name} is named twice"


def _in_signature(function: Callable[..., Any]) -> Iterator[str]:
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        in_class = "." in function.__qualname__.rpartition("<locals>.")[2]
        yield "it cannot be called with one event" + (" (put @staticmethod above @on)" if in_class else "")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        yield "it has a yield in it, so that a call would do nothing"


def _in_paths(option: str, named: Sequence[str]) -> Iterator[str]:
    for path in named:
        try:
            paths.path(path)
        except ValueError as error:
            yield f"{option}: {error}"


def _in_timeout(timeout: object) -> Iterator[str]:
    if not (_is_number(timeout, int, float) and timeout > 0):  # type: ignore[operator]
        yield "timeout must be a number of seconds above 0"


def _near(name: object, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1) if isinstance(name, str) else []
    return f"; did you mean {near[0]}?" if near else ""


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
