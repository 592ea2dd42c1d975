"""Thresholds that a run must keep: `p99<200ms`, `rate>2000`, `refused<=0`. Pure.

A threshold is a figure, a comparison and a value. A figure that the run does not have (nothing was forwarded, say)
misses every threshold: what was not measured is not met.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_UNITS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "%": 0.01}
_FORM = re.compile(r"\s*([a-z][a-z0-9_.]*)\s*(<=|>=|<|>)\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|%)?\s*")


@dataclass(frozen=True)
class Requirement:
    """One threshold; text as it was written."""

    text: str
    figure: str
    compare: str
    value: float

    def met_by(self, figures: Mapping[str, float]) -> bool:
        """Whether the figures of a run meet it."""
        found = figures.get(self.figure, math.nan)
        return not math.isnan(found) and _COMPARE[self.compare](found, self.value)


def read(text: str, known: Mapping[str, str]) -> Requirement:
    """Read a threshold. known: the figures there are, each with its meaning.

    Raises ValueError that says what is wrong.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a threshold such as p99<200ms or rate>2000")
    figure = match[1]
    if figure not in known:
        raise ValueError(f"there is no figure {figure!r}; there are: {', '.join(known)}")
    return Requirement(text.strip(), figure, match[2], float(match[3]) * _UNITS[match[4] or ""])
