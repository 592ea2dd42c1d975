"""The kinds of values that the command line takes beyond click's own."""

from __future__ import annotations

import math
import re
from typing import Any

import click


class Address(click.ParamType[tuple[str, int]]):
    """HOST:PORT."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Read it; fails with a sentence."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(?:\[(.+)\]|([^:\[\]]+)):(\d{1,5})", value)
        if not match or int(match[3]) > 0xFFFF:
            self.fail(f"{value!r} is not HOST:PORT", param, ctx)
        return match[1] or match[2], int(match[3])


class Seconds(click.ParamType[tuple[float, ...]]):
    """Moments, separated by commas."""

    name = "s,s,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read them; fails with a sentence."""
        if isinstance(value, tuple):
            return value
        try:
            moments = tuple(float(part) for part in value.split(","))
        except ValueError:
            moments = (math.nan,)
        if not all(0 <= moment < math.inf for moment in moments):
            self.fail(f"{value!r} is no list of seconds such as 5,12.5", param, ctx)
        return moments


class Stretches(click.ParamType[tuple[tuple[float, float], ...]]):
    """Stretches of time, as FROM-TO, separated by commas."""

    name = "s-s,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[float, float], ...]:
        """Read them; fails with a sentence."""
        if isinstance(value, tuple):
            return value
        stretches = []
        reached = -1.0
        for part in value.split(","):
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)\s*", part)
            if not match or not reached < float(match[1]) < float(match[2]):
                self.fail(f"{value!r} is no list of stretches, one after the other, such as 10-20,35-40", param, ctx)
            reached = float(match[2])
            stretches.append((float(match[1]), reached))
        return tuple(stretches)
