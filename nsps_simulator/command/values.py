"""The kinds of values that the command line takes beyond click's own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import click


class Read(click.ParamType[Any]):
    """A value that a function reads from text, or says with a ValueError what is wrong with it."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it; fails with a sentence."""
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def address(text: str) -> tuple[str, int]:
    """Read HOST:PORT."""
    match = re.fullmatch(r"(?:\[(.+)\]|([^:\[\]]+)):(\d{1,5})", text)
    if not match or int(match[3]) > 0xFFFF:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return match[1] or match[2], int(match[3])


def relay(text: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """Read LISTEN=UPSTREAM, each HOST:PORT."""
    front, _, behind = text.partition("=")
    return address(front), address(behind)


def seconds(text: str) -> tuple[float, ...]:
    """Read moments, separated by commas."""
    try:
        moments = tuple(float(part) for part in text.split(","))
    except ValueError:
        moments = (math.nan,)
    if not all(0 <= moment < math.inf for moment in moments):
        raise ValueError(f"{text!r} is not a list of seconds such as 5,12.5")
    return moments


def stretches(text: str) -> tuple[tuple[float, float], ...]:
    """Read stretches of time, as FROM-TO, separated by commas."""
    found = []
    reached = -1.0
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)\s*", part)
        if not match or not reached < float(match[1]) < float(match[2]):
            raise ValueError(f"{text!r} is not a list of stretches, one after the other, such as 10-20,35-40")
        reached = float(match[2])
        found.append((float(match[1]), reached))
    return tuple(found)


def roles(known: tuple[str, ...]) -> Callable[[str], frozenset[str]]:
    """Make the reader of a list of roles such as account+card."""

    def read(text: str) -> frozenset[str]:
        named = frozenset(part.strip() for part in text.replace(",", "+").split("+"))
        if unknown := named - set(known):
            raise ValueError(f"{', '.join(sorted(unknown))}: no such resource; there are {'+'.join(known)}")
        return named

    return read


ADDRESS = Read("host:port", address)
RELAY = Read("listen=upstream", relay)
SECONDS = Read("s,s,...", seconds)
STRETCHES = Read("s-s,...", stretches)
