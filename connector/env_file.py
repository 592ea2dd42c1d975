"""``.env``: what stands in it is read as it stands there, or the start ends with the file and the line.

The form is that of python-dotenv, whose parser reads it (``NAME=value``, quotes, ``export``, comments behind a space
and ``#``). What that library passes over in silence is an error here: a file that cannot be read, a line that is no
assignment, a quote that stays open, a name twice. ``${...}`` is not expanded.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

from connector.errors import StartError

MAX_BYTES: Final = 2**20
"""Largest file, in bytes."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*", re.ASCII)
_ASSIGNMENT: Final = re.compile(
    r"\s*(export\s+)?[A-Za-z_][A-Za-z0-9_.\-]*\s*=(?!=?\s*$)", re.ASCII
)  # but no end of Base64
_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_KINDS: Final = (
    (stat.S_ISDIR, "a folder (Docker makes one where a file to mount does not exist)"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read(path: Path) -> Mapping[str, str]:
    """The names and values of the file, nothing where there is none. Raises StartError, one line an error."""
    text = _text(path)
    if text is None:
        return {}
    values: dict[str, str] = {}
    lines: dict[str, int] = {}  # where a name got its value; one that is blank is not set
    wrong: list[str] = []
    for line, binding in _bindings(text):
        error = _error(binding, lines)
        if error:
            wrong.append(f"{path}, line {line}: {error}")
        elif binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
            if binding.value.strip():
                lines[binding.key] = line
    if wrong:
        raise StartError("\n".join(wrong))
    return values


def is_open_to_others(path: Path) -> bool:
    """Whether every user of the machine may read the file."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _text(path: Path) -> str | None:
    data = _bytes(path)
    if data is None:
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise StartError(f"{path}, line 1: the file is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StartError(
            f"{path}, line {_line(data[: error.start])}: this is no UTF-8; save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = _line(data[: data.index(b"\0")])
        raise StartError(f"{path}, line {line}: it has a NUL character; save the file as UTF-8 text")
    return text


def _bytes(path: Path) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise StartError(f"{path} is a link to {path.readlink()}, which does not exist") from None
        return None
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror}") from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            kind = next((text for is_kind, text in _KINDS if is_kind(mode)), "no file")
            raise StartError(f"{path} is {kind}; a file is expected")
        data = os.read(fd, MAX_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise StartError(f"{path} is over {MAX_BYTES} bytes")
    return data


def _line(before: bytes) -> int:
    return len(_NEWLINE.findall(before.decode(errors="replace"))) + 1


def _bindings(text: str) -> Iterator[tuple[int, Binding]]:
    """What the parser finds, with the line that it begins in."""
    for binding in parse_stream(StringIO(text, newline="")):
        blank = re.match(r"\s*", binding.original.string)
        yield binding.original.line + (_line(blank[0].encode()) - 1 if blank else 0), binding


def _error(binding: Binding, lines: Mapping[str, int]) -> str | None:
    """What is wrong with a binding; never shows a value."""
    if binding.error:
        return "NAME=value is expected; a quote that is opened has to be closed, with nothing but a comment behind it"
    if binding.key is None:
        return None
    if not _NAME.fullmatch(binding.key):
        return "this is no name of a setting: letters, digits and _ are expected before the ="
    if binding.value is None:
        return f"{binding.key} has no value: {binding.key}=value is expected"
    if any(map(_ASSIGNMENT.match, _NEWLINE.split(binding.original.string.lstrip())[1:])):
        return f"the quote of {binding.key} is not closed in its line, and the next lines look like settings"
    if binding.key in lines:
        return f"{binding.key} stands in line {lines[binding.key]} already; keep one of them"
    return None
