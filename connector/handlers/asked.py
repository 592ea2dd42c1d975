"""Which external systems the text of a handlers' module asks for: ``target()``, ``target("hlr")``.

So that a start without TARGET_URL says so, and not the first event. What is made up at run time is not seen.
"""

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Final, NamedTuple

from connector import external
from connector.handlers.declare import Handler, Hook
from connector.handlers.places import place

_HOME: Final = external.__name__


class Asked(NamedTuple):
    """A call of ``target`` and where it stands; ``name`` is None where it names no system."""

    name: str | None
    place: str


def asked_by(handlers: Iterable[Handler | Hook]) -> Iterator[Asked]:
    """The calls in the modules of these handlers, those of the connector's own left out."""
    names = dict.fromkeys(str(each.function.__globals__.get("__name__", "")) for each in handlers)
    for name in names:
        module = sys.modules.get(name)
        if module is not None and not name.startswith("connector."):
            yield from _asked_in(module)


def _asked_in(module: ModuleType) -> Iterator[Asked]:
    try:
        text = ast.parse(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError, ValueError):  # no text, as of a compiled module
        return
    called = [each for each in ast.walk(text) if isinstance(each, ast.Call)]
    known = {name for name, value in vars(module).items() if value is external.target}
    known |= {
        alias.asname or alias.name
        for each in ast.walk(text)
        if isinstance(each, ast.ImportFrom) and each.module == _HOME and not each.level
        for alias in each.names
        if alias.name == "target"
    }
    for call in called:
        if not _is_target(call.func, known, module) or len(call.args) + len(call.keywords) > 1:
            continue
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        name = given[0].value if given and isinstance(given[0], ast.Constant) else None
        if not given or isinstance(name, str):
            yield Asked(name if isinstance(name, str) else None, place(module.__file__ or "", call.lineno))


def _is_target(function: ast.expr, known: set[str], module: ModuleType) -> bool:
    if isinstance(function, ast.Name):
        return function.id in known
    if not isinstance(function, ast.Attribute) or function.attr != "target":
        return False
    dotted = ast.unparse(function.value)
    return dotted == _HOME or vars(module).get(dotted) is external
