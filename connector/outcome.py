"""What became of an attempt, and when the next one is due. Pure: time and chance come from outside.

The n-th failed attempt is followed by a wait of ``base * 2 ** (n - 1)`` seconds, never more than ``longest``, each
spread by ±20 % so that subscribers that failed together do not come back together.
"""

from math import isnan
from typing import Final, Literal

import msgspec

from connector.events.snapshot import Snapshot

JITTER: Final = 0.2

State = Literal["done", "ignored", "superseded", "waiting", "dead", "held"]

FINAL: Final = frozenset({"done", "ignored", "superseded", "dead"})

MAX_REASON: Final = 500
"""Characters kept of a reason, note or error."""

MOST_SECONDS: Final = 10**9
"""What is made of a longer wait that a handler asks for; RETRY_MAX is the bound that counts, this one is a float."""


class Retry(Exception):
    """Raised by a handler: try again, after ``after`` seconds if given, else by the usual backoff."""

    def __init__(self, reason: str = "the handler asked for a retry", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class DeadLetter(Exception):  # it ends the event, which is no error of the program
    """Raised by a handler: this event can never succeed; set it aside for an operator."""

    def __init__(self, reason: str = "the handler gave the event up") -> None:
        super().__init__(reason)


class Ignored(Exception):  # it ends the event well
    """Raised by a handler: there is nothing to do for this event."""

    def __init__(self, reason: str = "nothing to do") -> None:
        super().__init__(reason)


class Postponed(Exception):
    """Raised where the external system is known to be away: the event goes back, and no attempt is spent."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """``base`` and ``longest`` wait and ``max_age`` in seconds; ``max_attempts`` counts the first one too."""

    base: float = 1.0
    longest: float = 600.0
    max_attempts: int = 50
    max_age: float = 7 * 86400.0

    def delay(self, attempt: int, chance: float, asked: float | None = None) -> float:
        """Seconds to wait after failed attempt number ``attempt``.

        ``chance`` is from 0 to 1 and places the wait within the jitter. ``asked`` is what the handler or the
        external system asked for; it is kept to within 0 and ``longest`` and gets no jitter below itself.
        """
        if asked is not None and not isnan(asked):
            return min(max(asked, 0.0), self.longest)
        wait = self.base * 2.0 ** min(attempt - 1, 60)
        return min(wait * (1 - JITTER + 2 * JITTER * chance), self.longest)

    def gives_up(self, attempt: int, age: float, max_attempts: int | None = None) -> str | None:
        """Why there is no further attempt after number ``attempt``, or None. ``age`` is since acceptance."""
        most = self.max_attempts if max_attempts is None else max_attempts
        if attempt >= most:
            return f"gave up after {attempt} attempt{'s' if attempt > 1 else ''}"
        if age >= self.max_age:
            return f"gave up at an age of {age:.0f} s"
        return None


class Outcome(msgspec.Struct, frozen=True):
    """The end of an attempt.

    ``state``   done, ignored, superseded, dead: final. waiting: run again at ``due``. held: dead, and its lane with
                it until an operator decides.
    ``reason``  the handler's note, why it did not go well, or the id of the event that superseded this one; at most
                ``MAX_REASON`` characters
    ``due``     when the next attempt is due, in seconds since the epoch (waiting only)
    ``ms``      how long the attempt took, in milliseconds
    ``handler``, ``applied``  what is the newest snapshot applied by which handler now (``latest_only`` handlers)
    ``kind``    how the external system failed, where that is known: see ``connector.external.failures.Kind``
    ``asked``   seconds that the handler or the external system asked to be left alone, where it did
    """

    state: State
    reason: str = ""
    due: float | None = None
    ms: int = 0
    handler: str = ""
    applied: Snapshot | None = None
    kind: str = ""
    asked: float | None = None

    @property
    def final(self) -> bool:
        """Whether the event has ended with this attempt."""
        return self.state in FINAL


def done(note: object, ms: int, handler: str = "", applied: Snapshot | None = None) -> Outcome:
    """The outcome of a handler that returned; what it returned is the note if it is a text."""
    return Outcome("done", _kept(note) if isinstance(note, str) else "", None, ms, handler, applied)


def decide(
    fault: BaseException,
    *,
    attempt: int,
    age: float,
    now: float,
    chance: float,
    ms: int,
    policy: RetryPolicy,
    max_attempts: int | None = None,
    hold_dead: bool = False,
) -> Outcome:
    """The outcome of attempt number ``attempt`` that did not end well.

    ``fault``  what the handler raised, TimeoutError where it was cut off
    ``age``    seconds since acceptance, ``now`` seconds since the epoch, ``chance`` from 0 to 1 for the jitter
    ``hold_dead``  whether a dead head holds its lane
    """
    kind = _kind(fault)
    match fault:
        case Ignored():
            return Outcome("ignored", _text(fault), ms=ms)
        case DeadLetter():
            return Outcome("held" if hold_dead else "dead", _text(fault), ms=ms, kind=kind)
        case Retry():
            reason, asked = _text(fault), _seconds(getattr(fault, "after", None))  # an own kind of Retry may lack it
        case _:
            reason, asked = f"{type(fault).__name__}: {_text(fault)}".removesuffix(": "), None
    if why := policy.gives_up(attempt, age, max_attempts):
        return Outcome("held" if hold_dead else "dead", f"{why}: {reason}"[:MAX_REASON], ms=ms, kind=kind, asked=asked)
    due = now + policy.delay(attempt, chance, asked)
    return Outcome("waiting", reason[:MAX_REASON], due=due, ms=ms, kind=kind, asked=asked)


def _kind(fault: BaseException) -> str:
    try:
        return str(getattr(fault, "kind", ""))
    except Exception:  # noqa: BLE001 - somebody else's exception, which means something else by it
        return ""


def _text(fault: BaseException) -> str:
    try:
        return _kept(str(fault))
    except Exception:  # noqa: BLE001 - somebody else's exception, whose text raises in turn
        return ""


def _seconds(asked: object) -> float | None:
    """What a handler asked for, if it is a number of seconds at all."""
    if isinstance(asked, (int, float)) and asked == asked:
        return float(min(max(asked, 0), MOST_SECONDS))
    return None


def _kept(text: str) -> str:
    """What is kept of a text. A lone surrogate, as in the name of a file that is no UTF-8, can be written nowhere."""
    kept = text[:MAX_REASON]
    return kept if kept.isascii() else kept.encode(errors="replace").decode()
