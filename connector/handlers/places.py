"""Where in an author's code something stands or went wrong: file and line, as short as they can be told."""

import os
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_START: Final = os.getcwd()  # noqa: PTH109 - a handler may change the working directory later
_LIBRARIES: Final = tuple(
    {os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib", "purelib", "platlib")}  # noqa: PTH118
)
_OURS: Final = str(Path(__file__).parent.parent) + os.sep


def place(file: str, line: int | None) -> str:
    """``file:line``, relative to the folder in which the connector was started where it lies in there."""
    short = file.removeprefix(_START.rstrip(os.sep) + os.sep)
    return f"{short}:{line}" if line else short


def place_of_function(function: Callable[..., Any]) -> str:
    """Where a function stands."""
    code = function.__code__
    return place(code.co_filename, code.co_firstlineno)


def place_of_error(error: BaseException, function: Callable[..., Any] | None = None) -> str:
    """The author's line that was at work when ``error`` was raised; an empty text where none was.

    That is the innermost frame that belongs neither to Python, nor to an installed library, nor to the connector, or
    that stands in the file of ``function``. Of a syntax error it is its own line, of a group of errors the place of the
    first one in it.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return place(error.filename, error.lineno)
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    own = function.__code__.co_filename if function is not None else ""
    found = ""
    for file, line in _frames(error.__traceback__):
        if file == own or not file.startswith(("<", _OURS, *_LIBRARIES)):
            found = place(file, line)
    return found


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int]]:
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
