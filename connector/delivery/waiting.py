"""RESPONSE=outcome: requests that wait for what becomes of their event.

::

    (nothing) ──expect──▶ waiting ──the attempt has ended──▶ ended ──its outcome is kept──▶ told
                             └──OUTCOME_TIMEOUT, stop──▶ (nothing): 202, and the retrying is the connector's

With a journal that is not durable nothing is promised before the outcome: at OUTCOME_TIMEOUT and at a stop the answer
is an error, so that NSPS sends the event again. While the event goes on here, what NSPS sends joins the wait again.

Who retries: an error answer makes NSPS send the event again, so an attempt whose request still waits is the last one
here: a retry becomes ``dead`` ("left to NSPS"), and what NSPS sends later is a new series of attempts. Once the request
has got its 202 the connector retries by itself. Both cannot happen, since

1. whether a request waits is asked once, when the attempt has ended, and from then on its time cannot run out;
2. the answer is given only when the outcome is kept: until then, the same event sent again joins the wait;
3. a request is told only of an attempt that ended while it waited, or of one that was the last: never of one that is
   repeated here, nor of an earlier series than its own.
"""

import asyncio
from typing import Final

from connector.events.event import Event
from connector.journal import Entry
from connector.outcome import Outcome

LEFT_TO_NSPS: Final = "left to NSPS, which sends it again"

_UNDECIDED: Final = Outcome("waiting", "The event is not handled yet, and is in memory only; send it again")
_NOT_KNOWN: Final = Outcome("waiting", "It is not known what is kept of the event; send it again")


class Answers:
    """The requests that wait, by the key of their event's identity.

    ``timeout`` in seconds; ``durable``: whether the journal is.
    """

    def __init__(self, timeout: float, *, durable: bool) -> None:
        self._timeout = timeout
        self._durable = durable
        self._undecided: set[bytes] = set()  # that go on although their requests had to be told so
        self._waiting: dict[bytes, asyncio.Future[Outcome | None]] = {}
        self._ended: set[bytes] = set()

    def is_expected(self, key: bytes) -> bool:
        """Whether a request waits for this event."""
        return key in self._waiting

    def expect(self, key: bytes) -> "asyncio.Future[Outcome | None]":
        """The outcome to come; the same for all requests that bring this event meanwhile."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        return future

    def is_ending(self, key: bytes) -> bool:
        """Whether an outcome is to come: the attempt has ended and is not kept yet, or the event goes on in memory."""
        return key in self._ended or key in self._undecided

    def withdraw(self, key: bytes) -> None:
        """Nobody is to wait for this event any more: whoever does gets a 202, and the retrying is the connector's."""
        future = self._waiting.pop(key, None)
        if future is not None:
            future.set_result(None)

    async def wait(self, key: bytes, future: "asyncio.Future[Outcome | None]") -> Outcome | None:
        """The kept outcome; None where the attempt has not ended in time and the event is safe."""
        await asyncio.wait({future}, timeout=self._timeout)
        if not future.done():
            if key not in self._ended:
                self._let_go(key)
            await asyncio.wait({future})
        return future.result()

    def let_go(self) -> None:
        """The connector stops: who waits for an attempt that has not ended is answered."""
        for key in self._waiting.keys() - self._ended:
            self._let_go(key)

    def give_up(self) -> None:
        """Nothing more is going to be kept: who still waits is told to send the event again."""
        for future in self._waiting.values():
            future.set_result(_NOT_KNOWN)
        self._waiting.clear()

    def _let_go(self, key: bytes) -> None:
        if self._durable:
            self.withdraw(key)
        elif (future := self._waiting.pop(key, None)) is not None:
            self._undecided.add(key)
            future.set_result(_UNDECIDED)

    def ended(self, event: Event, outcome: Outcome) -> Outcome:
        """The outcome that is to be kept of an attempt that has ended with ``outcome``."""
        if event.key not in self._waiting:
            return outcome
        self._ended.add(event.key)
        if outcome.final:
            return outcome
        return Outcome(
            "dead", f"{LEFT_TO_NSPS}: {outcome.reason}", ms=outcome.ms, kind=outcome.kind, asked=outcome.asked
        )

    def kept(self, entry: Entry, outcome: Outcome, _: bool) -> None:
        """An outcome is kept: tell who waits for it. Who came after an attempt that is repeated here waits on."""
        event = entry.event
        if outcome.final:
            self._undecided.discard(event.key)
        if event.key not in self._ended and not outcome.final:
            return
        self._ended.discard(event.key)
        future = self._waiting.pop(event.key, None)
        if future is not None:
            future.set_result(outcome)
