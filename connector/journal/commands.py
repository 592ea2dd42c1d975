"""What an operator may change in a journal: the commands as values, and what each of them does, for every store.

Nothing is overwritten by a replay: it is a new series of attempts with a place of its own in the order, linked to the
one before. ``names`` are event ids (replay, discard: all events that bear one) or resources (release, skip: the event
that blocks one; clear_newest: what was applied last to one; ``1001`` names ``i_account:1001`` too).
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from connector.errors import ConnectorError

Verb = Literal["replay", "discard", "release", "skip", "clear_newest", "pause", "resume"]

PENDING, WAITING, HELD = 0, 1, 2
"""How a store writes the state of an open event."""

NOT_KNOWN: Final = "not known"
NOTHING_APPLIED: Final = "nothing is known to be applied to it"
NOTHING_OPEN: Final = "nothing is open for this resource"

PAUSED: Final = "paused by an operator"
"""The reason under which delivery is held while it is paused."""


class Command(msgspec.Struct, frozen=True):
    """A command.

    ``seqs``   single series, for replay and discard: what a filter has chosen
    ``whole``  a replay of a dead event runs all handlers of its type again, also those that have ended well
    """

    verb: Verb
    names: list[str] = []
    whole: bool = False
    seqs: list[int] = []


class CommandResult(msgspec.Struct, frozen=True):
    """What became of each name, as a sentence."""

    results: dict[str, str] = {}


class Change(msgspec.Struct):
    """What commands have changed: for the scheduler, and to be counted."""

    last_seq: int
    unblocked: set[int] = msgspec.field(default_factory=set)
    gone: set[int] = msgspec.field(default_factory=set)
    holds: dict[str, bool] = msgspec.field(default_factory=dict)
    open_events: int = 0
    open_bytes: int = 0
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    acts: list[tuple[Verb, dict[str, str]]] = msgspec.field(default_factory=list)


class OpenEvent(NamedTuple):
    """An open event as a command sees it: ``state`` as above, the attempt that is next, how many it waits behind, the
    bytes of its body.
    """

    seq: int
    state: int
    attempt: int
    blockers: int
    bytes: int


class Operator(ABC):
    """Carries out commands within one transaction of a store; ``change`` says what they have changed."""

    def __init__(self, last_seq: int) -> None:
        self.change = Change(last_seq)

    def run(self, command: Command) -> CommandResult:
        """Carry out one command."""
        results = self._results(command)
        self.change.acts.append((command.verb, results))
        return CommandResult(results)

    def _results(self, command: Command) -> dict[str, str]:
        match command.verb:
            case "replay":
                results = {name: self._replay(name, command.whole) for name in command.names}
                return results | {str(seq): self._replay_one(seq, command.whole) for seq in command.seqs}
            case "discard":
                results = {name: self._discard(name) for name in command.names}
                return results | {str(seq): self._discard_one(seq) for seq in command.seqs}
            case "release":
                return {name: self._release(name) for name in command.names}
            case "skip":
                return {name: self._skip(name) for name in command.names}
            case "clear_newest":
                return {name: self._clear_newest(name) for name in command.names}
            case "pause" | "resume":
                return {"delivery": self._pause(command.verb == "pause")}

    @abstractmethod
    def latest(self, event_id: str) -> Sequence[int]:
        """The latest series of each event that bears this id."""

    @abstractmethod
    def find(self, seq: int) -> OpenEvent | None:
        """An open event; None where the series has ended."""

    @abstractmethod
    def first(self, resource: str) -> OpenEvent | None:
        """The first open event of a resource, named whole or without its kind; one that waits or is held if any is."""

    @abstractmethod
    def reason(self, seq: int) -> str:
        """Why the last attempt at an open event did not go well."""

    @abstractmethod
    def copy(self, seq: int, whole: bool) -> int | None:
        """Begin a new series of an event that has ended: its number; None where the payload is no longer kept.

        Raises ConnectorError where it is kept and cannot be read any more.
        """

    @abstractmethod
    def end(self, event: OpenEvent, state: str, reason: str) -> Sequence[int]:
        """End an open event; the events that may run now since it has ended.

        What a running one would write counts as applied: nobody can say whether it is.
        """

    @abstractmethod
    def give_up_dead(self, seq: int, note: str) -> bool:
        """Make a dead event an ignored one, with ``note`` before its reason; False where it did not end dead."""

    @abstractmethod
    def try_now(self, seq: int) -> None:
        """Make an event that waits or is held pending."""

    @abstractmethod
    def clear_newest(self, resource: str) -> int:
        """Forget which snapshot was applied last to a resource, named as in ``first``; of how many handlers."""

    @abstractmethod
    def pause(self, paused: bool) -> None:
        """Keep in mind, over restarts, whether delivery is paused."""

    def _replay(self, event_id: str, whole: bool) -> str:
        results = [self._replay_one(seq, whole) for seq in self.latest(event_id)]
        return _sum_up(results)

    def _replay_one(self, seq: int, whole: bool) -> str:
        event = self.find(seq)
        if event is not None:
            return "open already: it is going to be tried" if event.state == PENDING else self._try(event)
        try:
            new = self.copy(seq, whole)
        except ConnectorError as unreadable:
            return f"not replayed: {unreadable}"
        if new is None:
            return "its payload is no longer kept"
        self.change.last_seq = new
        self.change.open_events += 1
        self.change.counts["replayed"] += 1
        return "replayed"

    def _discard(self, event_id: str) -> str:
        return _sum_up([self._discard_one(seq) for seq in self.latest(event_id)])

    def _discard_one(self, seq: int) -> str:
        event = self.find(seq)
        if event is not None:
            self._end(event, "ignored", "discarded by an operator")
            return "discarded"
        return "discarded" if self.give_up_dead(seq, "discarded by an operator; was dead") else "ended well already"

    def _release(self, resource: str) -> str:
        event = self._blocking(resource)
        return event if isinstance(event, str) else self._try(event)

    def _skip(self, resource: str) -> str:
        event = self._blocking(resource)
        if isinstance(event, str):
            return event
        self._end(event, "dead", f"skipped by an operator: {self.reason(event.seq)}")
        return "skipped"

    def _blocking(self, resource: str) -> OpenEvent | str:
        """The event that blocks a resource; why none does, as a sentence."""
        event = self.first(resource)
        if event is None:
            return NOTHING_OPEN
        if event.state == PENDING:
            return f"not blocked by an event of its own: {_WAITS_OR_RUNS[event.blockers > 0]}"
        return event

    def _clear_newest(self, resource: str) -> str:
        count = self.clear_newest(resource)
        return f"cleared for {count} handler{'s' if count > 1 else ''}" if count else NOTHING_APPLIED

    def _pause(self, paused: bool) -> str:
        self.pause(paused)
        self.change.holds[PAUSED] = paused
        return "paused" if paused else "resumed"

    def _try(self, event: OpenEvent) -> str:
        self.try_now(event.seq)
        self.change.unblocked.add(event.seq)
        return "released"

    def _end(self, event: OpenEvent, state: str, reason: str) -> None:
        self.change.unblocked.update(self.end(event, state, reason))
        self.change.unblocked.discard(event.seq)
        self.change.gone.add(event.seq)
        self.change.open_events -= 1
        self.change.open_bytes -= event.bytes
        self.change.counts[state] += 1


_WAITS_OR_RUNS: Final = {
    False: "its next event is going to be tried",
    True: "its next event waits behind an event of another resource",
}


def _sum_up(results: Sequence[str]) -> str:
    """One sentence on the events that have an id: most ids are had by one."""
    if not results:
        return NOT_KNOWN
    if len(set(results)) == 1:
        return results[0] if len(results) == 1 else f"{results[0]} ({len(results)} events)"
    return "; ".join(results)
