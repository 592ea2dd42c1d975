"""Reads the lock files."""

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name


def pinned(lock: Path) -> dict[NormalizedName, Requirement]:
    """The pins of a lock file by normalised name."""
    lines = re.findall(r"^[A-Za-z0-9].*?(?= \\$)", lock.read_text(), re.MULTILINE)
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): each for each in requirements}
