"""Repeatable chance: the same seed and the same place always draw the same number.

Nothing here keeps a state, so any process can work out any event without the ones before it.
The mixing steps are those of SplitMix64.
"""

from __future__ import annotations

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(value: int) -> int:
    """Scramble 64 bits one to one, so that numbers next to each other end far apart."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def draw(seed: int, place: int) -> int:
    """Draw 64 bits for one place (an index, an account) of one seed."""
    return mix((seed + place * GOLDEN) & MASK)


def chance(seed: int, place: int) -> float:
    """Draw a number in [0, 1) for one place of one seed."""
    return draw(seed, place) / (MASK + 1)


def branch(seed: int, name: str) -> int:
    """Derive an independent seed for one purpose, so that two purposes never share their luck."""
    return mix((seed ^ int.from_bytes(name.encode()[:8].ljust(8, b"\0"), "big")) & MASK)
