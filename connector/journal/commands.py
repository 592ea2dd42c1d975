"""What an operator may change in a journal, as values.

Nothing is overwritten by a replay: it is a new series of attempts with a place of its own in the order, linked to the
one before. ``names`` are event ids (replay, discard: all events that bear one) or resources (release, skip: the event
that blocks one; ``1001`` names ``i_account:1001`` too).
"""

from typing import Final, Literal

import msgspec

Verb = Literal["replay", "discard", "release", "skip", "pause", "resume"]

PAUSED: Final = "paused by an operator"
"""The reason under which delivery is held while it is paused."""


class Command(msgspec.Struct, frozen=True):
    """``whole``: a replay runs all handlers of the event's type again, also those that have ended well."""

    verb: Verb
    names: list[str] = []
    whole: bool = False


class CommandResult(msgspec.Struct, frozen=True):
    """What became of each name, as a sentence."""

    results: dict[str, str] = {}
