"""Event types by pattern: an exact type beats ``Group/*`` and ``*/Name``, and these beat ``*``. Pure.

A ``*`` stands for any text, slashes included: ``Account/*`` matches ``Account/Blocked`` and ``Account/ID/Changed``, and
so does ``*/Changed`` the latter. Of two patterns with their ``*`` at the same end, the longer one beats the other; of
two with their ``*`` at different ends none is better, so that the start refuses them (``undecided``).
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

ANY: Final = "*"

MOST_TYPES: Final = 1000
"""Event types for which is remembered what was found for them; senders may make up more."""

Value = TypeVar("Value")


def is_legal(name: str) -> bool:
    """Whether this is the name of a type, ``Group/*``, ``*/Name`` or ``*``."""
    if "*" not in name or name == ANY:
        return bool(name)
    fixed = name[:-1] if name.endswith("*") else name[1:]
    return name.count("*") == 1 and fixed.strip("/") != "" and (name.endswith("/*") or name.startswith("*/"))


def matches(pattern: str, event_type: str) -> bool:
    """Whether a type is one of those that a pattern, or the name of a type, stands for."""
    if pattern.endswith("*"):
        return event_type.startswith(pattern[:-1])
    return event_type.endswith(pattern[1:]) if pattern.startswith("*") else pattern == event_type


def best(table: Mapping[str, Value], event_type: str) -> Value | None:
    """What stands in ``table`` for this type, under its name or the best pattern; None where nothing does."""
    found = table.get(event_type)
    slash = event_type.rfind("/")
    while found is None and slash >= 0:
        found = table.get(f"{event_type[:slash]}/*")
        slash = event_type.rfind("/", 0, slash)
    slash = event_type.find("/")
    while found is None and slash >= 0:
        found = table.get(f"*{event_type[slash:]}")
        slash = event_type.find("/", slash + 1)
    return table.get(ANY) if found is None else found


def is_better(one: str, other: str) -> bool:
    """Whether ``one`` counts rather than ``other`` for the types that both match: as ``best`` decides."""
    if "*" not in one:
        return matches(other, one)
    if other == ANY:
        return True
    return "*" in other and one.endswith("*") == other.endswith("*") and len(one) > len(other)


def undecided(names: Iterable[str], known: Iterable[str] = ()) -> list[tuple[str, str, str]]:
    """The types for which none of two patterns is better: each with the pattern for its group and that for its name.

    Looked at are the ``known`` types and the shortest one that both match. A type that ``names`` has is decided.
    """
    names = list(dict.fromkeys(names))
    groups = [name for name in names if name.endswith("/*")]
    endings = [name for name in names if name.startswith("*/")]
    found = []
    for group in groups:
        for ending in endings:
            both = (each for each in known if matches(group, each) and matches(ending, each))
            types = dict.fromkeys([f"{group[:-2]}{ending[1:]}", *both])
            found += [(each, group, ending) for each in types if each not in names]
    return found
