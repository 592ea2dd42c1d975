"""The modules that HANDLERS names: imported, their declarations collected, every mistake in one told at once."""

import difflib
import importlib
import inspect
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Final

from connector.errors import StartError
from connector.events import paths
from connector.events.event_types import DOCUMENTED
from connector.handlers.choice import Handlers
from connector.handlers.declare import MARK, Handler, Hook, declared
from connector.handlers.mistakes import between, in_handler, in_hook, near_types
from connector.handlers.places import place_of_error

DEFAULT: Final = "connector.handlers.log_only"

BUILT_IN: Final = ("connector.handlers.forward", DEFAULT)

_NO_PLACE_FOR_HANDLERS: Final = {"conftest", "run", "setup"}


def load(modules: Sequence[str]) -> Handlers:
    """The handlers and hooks declared in these modules, the default handler for an empty list.

    Modules are looked for in the working directory too. Collected is what was declared in a module of HANDLERS, in a
    part of a package that it imports, or in another module from which it takes the function by name. Raises StartError
    that names every mistake.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    mistakes: list[str] = []
    found: list[Handler | Hook] = []
    for name in modules or [DEFAULT]:
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a module of somebody else's may raise anything
            mistakes.append(_not_imported(name, error))
            continue
        here_declared = _declared_in(module)
        if not here_declared:
            mistakes.append(f"HANDLERS: {name} declares no handler; put @on(...) from connector before a function")
        found.extend(each for each in here_declared if each not in found)
        mistakes.extend(_hidden_by_decorators(module))
    handlers = [each for each in found if isinstance(each, Handler)]
    for each in found:
        what = f"HANDLERS: {each.name} ({each.place})"
        mistakes.extend(
            f"{what}: {mistake}" for mistake in (in_handler(each) if isinstance(each, Handler) else in_hook(each))
        )
    mistakes.extend(between(handlers))
    if mistakes:
        raise StartError("\n".join(dict.fromkeys(mistakes)))
    hooks = [each for each in found if isinstance(each, Hook)]
    return Handlers(_told_apart(handlers), hooks, [*_warnings(modules, handlers, found)])


def _not_imported(name: str, error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        return f"HANDLERS: {name} cannot be imported: {text}{_hint(name)}"
    place = place_of_error(error)
    return f"HANDLERS: {name} cannot be imported: {text}" + (f" ({place})" if place else "")


def _hint(name: str) -> str:
    """What may have been meant by the name of a module that is not there."""
    if name.endswith(".py"):
        return f"; name the module, without .py: {name.removesuffix('.py').strip('./').replace('/', '.')}"
    here = Path.cwd()
    names = [path.stem for path in here.glob("*.py") if path.stem not in _NO_PLACE_FOR_HANDLERS]
    names += [path.parent.name for path in here.glob("*/__init__.py")]
    short = {each.rpartition(".")[2]: each for each in BUILT_IN}
    near = difflib.get_close_matches(name, [*names, *BUILT_IN, *short], 3)
    if not near:
        return f"; it is looked for in {here}, then on PYTHONPATH"
    return f"; did you mean {' or '.join(dict.fromkeys(short.get(each, each) for each in near))}?"


def _declared_in(module: ModuleType) -> list[Handler | Hook]:
    """What was declared in a module or below it, in its order, and what the module took from others by name."""
    taken = {vars(value)[MARK] for value in vars(module).values() if _is_marked(value)}
    return [each for each in declared if each in taken or _stands_in(each, module)]


def _stands_in(each: Handler | Hook, module: ModuleType) -> bool:
    names = each.function.__globals__
    if names is vars(module):
        return True
    inside = str(names.get("__name__", ""))
    return inside.startswith(f"{module.__name__}.") and vars(sys.modules.get(inside, module)) is names


def _is_marked(value: object) -> bool:
    return inspect.isfunction(value) and MARK in vars(value)


def _hidden_by_decorators(module: ModuleType) -> Iterator[str]:
    places = [vars(module), *(vars(value) for value in vars(module).values() if inspect.isclass(value))]
    for value in (value for place in places for value in place.values()):
        function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if not _is_marked(function):
            continue
        handler = vars(function)[MARK]
        if handler.function is not function:
            yield (
                f"HANDLERS: {handler.name} ({handler.place}): another decorator stands before @on and would be left "
                "out; @on has to be the first"
            )


def _told_apart(handlers: Sequence[Handler]) -> list[Handler]:
    """The handlers, where the functions of several have one name with ``#2``, ``#3`` behind it."""
    seen: Counter[str] = Counter()
    apart = []
    for handler in handlers:
        seen[handler.name] += 1
        number = seen[handler.name]
        apart.append(handler if number == 1 else replace(handler, name=f"{handler.name}#{number}"))
    return apart


def _warnings(modules: Sequence[str], handlers: Sequence[Handler], found: Sequence[Handler | Hook]) -> Iterator[str]:
    if not modules:
        yield "HANDLERS is not set: events are only logged"
    known = {name.partition("/")[0] for name in DOCUMENTED}
    for handler in handlers:
        for name in (name for name in handler.types if "*" not in name and name not in DOCUMENTED):
            near = near_types(name)
            if near or name.partition("/")[0] not in known:
                yield f"{handler.name} ({handler.place}): {name} is no documented event type" + (
                    f"; did you mean {' or '.join(near)}?" if near else ""
                )
        yield from _path_warnings(handler)
    for name, count in Counter(handler.name for handler in handlers).items():
        if count > 1:
            yield f"{count} handlers are called {name}: give each a name= of its own, under which its progress is kept"
    for each in declared:
        home = str(each.function.__globals__.get("__name__", ""))
        if each not in found and not home.startswith("connector.") and home in sys.modules and _is_alive(each):
            yield f"{each.name} ({each.place}) is not used: HANDLERS does not name {home}"


def _path_warnings(handler: Handler) -> Iterator[str]:
    for path in (*handler.require, *handler.skip_unless):
        if warning := paths.path(path).warning:
            yield f"{handler.name} ({handler.place}): {warning}"


def _is_alive(each: Handler | Hook) -> bool:
    """Whether it was declared at the top of a module that is still the imported one, and not inside a function."""
    module = sys.modules.get(str(each.function.__globals__.get("__name__", "")))
    return (
        module is not None
        and vars(module) is each.function.__globals__
        and "<locals>" not in each.function.__qualname__
    )
