"""What became of an attempt, and when the next one is due. Pure: time and chance come from outside.

The n-th failed attempt is followed by a wait of ``base * 2 ** (n - 1)`` seconds (the backoff), never more than
``longest``, each spread by ±20 % so that subscribers that failed together do not come back together. A handler may ask
for a longer wait or a shorter one, the external system for a longer one alone: attempts are spent by time only.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from math import isnan
from typing import ClassVar, Final, Literal, NamedTuple

import msgspec

from connector.events.snapshot import Snapshot

JITTER: Final = 0.2

State = Literal["done", "ignored", "superseded", "waiting", "dead", "held"]

FINAL: Final = frozenset({"done", "ignored", "superseded", "dead"})

MAX_REASON: Final = 500
"""Characters kept of a reason, note or error."""

MOST_SECONDS: Final = 10**9
"""What is made of a longer wait that a handler asks for; RETRY_MAX is the bound that counts, this one is a float."""

SHORTEST_RETRY: Final = 1.0
"""Seconds: no handler gets a retry sooner than that."""

SOONER_RETRIES: Final = 20
"""Attempts of an event after which a handler may ask for a wait shorter than the backoff; then that is the least."""

LONGEST_LATER: Final = 31 * 86400.0
"""Seconds: the longest time that ``Later`` takes."""

Seconds = float | Decimal | str | timedelta
"""A time as an author may give it: a number of seconds, also as a Decimal or a numeric text, or a timedelta."""


class Retry(Exception):
    """Raised by a handler: try again, after ``after`` seconds if given, else by the usual backoff.

    Raises TypeError or ValueError for a wait that is none: a negative one, one that is no number.
    """

    may_be_sooner: ClassVar[bool] = True
    """Whether ``after`` may be shorter than the backoff: not where the external system has asked for it."""

    def __init__(self, reason: str = "the handler asked for a retry", *, after: Seconds | None = None) -> None:
        super().__init__(reason)
        self.after = None if after is None else _seconds_of(after, "Retry(after=)")


class Later(Exception):
    """Raised by a handler: look at this event again after the given time. It spends no attempt.

    RETRY_MAX does not bound it, ``LONGEST_LATER`` does. Events that touch the same resources wait behind it meanwhile.
    Raises TypeError or ValueError for a time that is none.
    """

    def __init__(
        self,
        reason: str = "the handler asked to be called later",
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: Seconds = 0,
    ) -> None:
        super().__init__(reason)
        parts = {"days": (days, 86400), "hours": (hours, 3600), "minutes": (minutes, 60), "seconds": (seconds, 1)}
        self.after = sum(_seconds_of(value, f"Later({name}=)") * unit for name, (value, unit) in parts.items())
        if not SHORTEST_RETRY <= self.after <= LONGEST_LATER:
            raise ValueError(f"Later() takes a time from 1 second to {LONGEST_LATER / 86400:g} days: {self.after:g} s")


class DeadLetter(Exception):  # it ends the event, which is no error of the program
    """Raised by a handler: this event can never succeed; set it aside for an operator."""

    def __init__(self, reason: str = "the handler gave the event up") -> None:
        super().__init__(reason)


class Ignored(Exception):  # it ends the event well
    """Raised by a handler: there is nothing to do for this event."""

    def __init__(self, reason: str = "nothing to do") -> None:
        super().__init__(reason)


class Postponed(Exception):
    """Raised where an external system cannot be called now: the event is given back, and no attempt is spent.

    ``waits_for``  the name of that system; the event is run again once it is released
    """

    waits_for: str | None = None


class RetryPolicy(msgspec.Struct, frozen=True):
    """``base`` and ``longest`` wait and ``max_age`` in seconds; ``max_attempts`` counts the first one too.

    ``max_attempts`` of 0 is no bound: attempts go on until ``max_age``.
    """

    base: float = 1.0
    longest: float = 600.0
    max_attempts: int = 0
    max_age: float = 7 * 86400.0

    def delay(self, attempt: int, chance: float, asked: float | None = None, *, may_be_sooner: bool = True) -> float:
        """Seconds to wait after failed attempt number ``attempt``.

        ``chance`` is from 0 to 1 and places the backoff within its jitter. ``asked`` is what the handler or the
        external system asked for: never more than ``longest``, nor less than the backoff unless it ``may_be_sooner``;
        then not less than ``SHORTEST_RETRY``, and only up to attempt ``SOONER_RETRIES``.
        """
        wait = self.base * 2.0 ** min(attempt - 1, 60)
        backoff = min(wait * (1 - JITTER + 2 * JITTER * chance), self.longest)
        if asked is None or isnan(asked):
            return backoff
        least = SHORTEST_RETRY if may_be_sooner and attempt <= SOONER_RETRIES else backoff
        return min(max(asked, least), self.longest)

    def gives_up(self, attempt: int, age: float, max_attempts: int | None = None) -> str | None:
        """Why there is no further attempt after number ``attempt``, or None. ``age`` is since acceptance."""
        most = self.max_attempts if max_attempts is None else max_attempts
        if most and attempt >= most:
            return f"gave up after {attempt} attempt{'s' if attempt > 1 else ''}"
        if age >= self.max_age:
            return f"gave up at an age of {age:.0f} s"
        return None


class Mark(NamedTuple):
    """What a ``latest_only`` handler writes: the name of it, and of which resource."""

    name: str
    resource: str


class Step(msgspec.Struct, frozen=True):
    """What a handler of a type with several has done for an event up to now.

    ``state``     done, ignored, superseded or dead: the handler has ended; waiting: it is tried again
    ``attempts``  so often it was run; ``ms`` is of the last time
    """

    handler: str
    state: State
    attempts: int = 1
    reason: str = ""
    ms: int = 0

    @property
    def well(self) -> bool:
        """Whether the handler has nothing left to do."""
        return self.state in ("done", "ignored", "superseded")


class Outcome(msgspec.Struct, frozen=True):
    """The end of an attempt.

    ``state``   done, ignored, superseded, dead: final. waiting: run again at ``due``. held: dead, and its lane with
                it until an operator decides.
    ``reason``  the handler's note, why it did not go well, or the id of the event that superseded this one; at most
                ``MAX_REASON`` characters
    ``due``     when the next attempt is due, in seconds since the epoch (waiting only)
    ``ms``      how long the attempt took, in milliseconds
    ``applied`` what is known to be applied now, by ``latest_only`` handlers
    ``kind``    how the external system failed, where that is known: see ``connector.external.failures.Kind``
    ``asked``   seconds that the handler or the external system asked to be left alone, where it did
    ``steps``   what the handlers of a type with several have done, in this attempt
    """

    state: State
    reason: str = ""
    due: float | None = None
    ms: int = 0
    applied: tuple[tuple[Mark, Snapshot], ...] = ()
    kind: str = ""
    asked: float | None = None
    steps: tuple[Step, ...] = ()

    @property
    def final(self) -> bool:
        """Whether the event has ended with this attempt."""
        return self.state in FINAL


def done(note: object, ms: int, applied: tuple[tuple[Mark, Snapshot], ...] = ()) -> Outcome:
    """The outcome of a handler that returned; what it returned is the note if it is a text."""
    return Outcome("done", _kept(note) if isinstance(note, str) else "", None, ms, applied)


def together(steps: Sequence[Step], *, ms: int, kind: str = "", hold_dead: bool = False) -> Outcome:
    """The outcome of an event whose handlers have all ended: dead if any is, done if any is, else what most tells."""
    states = {step.state for step in steps}
    state: State = next(each for each in ("dead", "done", "superseded", "ignored") if each in states)
    told = [step for step in steps if step.state == state and step.reason]
    reason = "; ".join(f"{step.handler}: {step.reason}" if len(steps) > 1 else step.reason for step in told)
    return Outcome("held" if state == "dead" and hold_dead else state, _kept(reason), ms=ms, kind=kind)


def decide(
    error: BaseException,
    *,
    attempt: int,
    age: float,
    now: float,
    chance: float,
    ms: int,
    policy: RetryPolicy,
    max_attempts: int | None = None,
    hold_dead: bool = False,
    place: str = "",
) -> Outcome:
    """The outcome of attempt number ``attempt`` that did not end well.

    ``error``  what the handler raised, TimeoutError where it was cut off; a group of errors of one kind is one of them
    ``place``  the line of the author's code that was at work
    ``age``    seconds since acceptance, ``now`` seconds since the epoch, ``chance`` from 0 to 1 for the jitter
    ``hold_dead``  whether a dead head holds its lane
    """
    error = decisive(error)
    kind = _kind(error)
    sooner = True
    match error:
        case Ignored():
            return Outcome("ignored", _text(error), ms=ms)
        case DeadLetter():
            return Outcome("held" if hold_dead else "dead", _text(error), ms=ms, kind=kind)
        case Later():
            return Outcome("waiting", _text(error), due=now + error.after, ms=ms)
        case Retry():
            reason, asked = _text(error), _asked(getattr(error, "after", None))  # an own kind of Retry may lack it
            sooner = error.may_be_sooner
        case _:
            reason, asked = described(error, place), None
    if why := policy.gives_up(attempt, age, max_attempts):
        return Outcome("held" if hold_dead else "dead", f"{why}: {reason}"[:MAX_REASON], ms=ms, kind=kind, asked=asked)
    due = now + policy.delay(attempt, chance, asked, may_be_sooner=sooner)
    return Outcome("waiting", reason[:MAX_REASON], due=due, ms=ms, kind=kind, asked=asked)


def decisive(error: BaseException) -> BaseException:
    """What a handler's error comes down to: of a group in which all are of one kind that says how to go on, the first.

    So that a ``DeadLetter`` raised in an asyncio.TaskGroup is a dead letter, and not an error to be tried again.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = list(_leaves(error))
    for kind in (Ignored, DeadLetter, Later, Postponed, Retry):
        if all(isinstance(leaf, kind) for leaf in leaves):
            return leaves[0]
    return leaves[0] if len(leaves) == 1 else error


def described(error: BaseException, place: str = "") -> str:
    """An error as a reason: its type, its text and the line of the author's code, at most ``MAX_REASON`` characters."""
    where = f" ({place})" if place else ""
    return f"{type(error).__name__}: {_text(error)}".removesuffix(": ")[: MAX_REASON - len(where)] + where


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _kind(error: BaseException) -> str:
    try:
        return str(getattr(error, "kind", ""))
    except BaseException:  # noqa: BLE001 - somebody else's exception, which means something else by it
        return ""


def _text(error: BaseException) -> str:
    try:
        return _kept(str(error))
    except BaseException:  # noqa: BLE001 - somebody else's exception, whose text may raise anything, SystemExit too
        return ""


def _asked(asked: object) -> float | None:
    """The wait of an author's own kind of ``Retry``, if it is a number of seconds at all."""
    if isinstance(asked, (int, float)) and asked == asked:
        return float(min(max(asked, 0), MOST_SECONDS))
    return None


def _seconds_of(value: object, what: str) -> float:
    """The seconds that an author has given, at most ``MOST_SECONDS``. Raises TypeError or ValueError, naming it."""
    if isinstance(value, timedelta):
        seconds: float = value.total_seconds()
    elif isinstance(value, (int, float, Decimal, str)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            seconds = MOST_SECONDS if value > 0 else -1.0  # type: ignore[operator]
        except ValueError:
            raise ValueError(f"{what} takes seconds as a number or a numeric text, not {value!r:.50}") from None
    else:
        raise TypeError(f"{what} takes seconds as a number, a numeric text or a timedelta, not {value!r:.50}")
    if not seconds >= 0:
        raise ValueError(f"{what} takes no negative time and no NaN: {value!r:.50}")
    return min(seconds, MOST_SECONDS)


def _kept(text: str) -> str:
    """What is kept of a text. A lone surrogate, as in the name of a file that is no UTF-8, can be written nowhere."""
    kept = text[:MAX_REASON]
    return kept if kept.isascii() else kept.encode(errors="replace").decode()
