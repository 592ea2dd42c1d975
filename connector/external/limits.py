"""How many calls at a time, and how many a second. Both are shared by all workers.

The rate limit is our own: aiolimiter, the well-kept library for it, counts by the event loop's clock only and lets a
newcomer pass those who wait. Reserving the next free moment (the generic cell rate algorithm) is shorter and fair.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

_NEVER: Final = float("-inf")


class ConcurrencyLimit:
    """At most ``limit`` permits at a time; who waits is served in order. The limit may change at any time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._in_use = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def limit(self) -> int:
        """How many permits may be out."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._serve()

    @property
    def in_use(self) -> int:
        """How many permits are out; more than ``limit`` after it was lowered."""
        return self._in_use

    @property
    def waiting(self) -> int:
        """How many wait for a permit."""
        return len(self._waiting)

    def take(self) -> bool:
        """A permit, to be given back with ``release``; False where there is none at once."""
        if self._in_use >= self._limit or self._waiting:
            return False
        self._in_use += 1
        return True

    async def acquire(self, longest: float) -> bool:
        """A permit, to be given back with ``release``; False when there was none in ``longest`` seconds."""
        if self.take():
            return True
        if longest <= 0:
            return False
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(longest, self._turn_away, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled() and turn.result():
                self.release()
            raise
        finally:
            timer.cancel()

    def release(self) -> None:
        """Give a permit back."""
        self._in_use -= 1
        self._serve()

    def turn_all_away(self) -> None:
        """Who waits now is told that there is no permit."""
        for turn in list(self._waiting):
            self._turn_away(turn)

    def _serve(self) -> None:
        while self._in_use < self._limit and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_use += 1
                turn.set_result(True)

    def _turn_away(self, turn: asyncio.Future[bool]) -> None:
        if turn in self._waiting:
            self._waiting.remove(turn)
        if not turn.done():
            turn.set_result(False)


class RateLimit:
    """At most ``rate`` turns a second, and ``burst`` at once after a rest.

    ``rate``   0 for no limit
    ``clock``  seconds, steady; ``sleep`` waits that many of them
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._rest = (max(burst, 1) - 1) * self._interval
        self._clock = clock
        self._sleep = sleep
        self._next = _NEVER
        self._spaced = 0.0
        self._spaced_until = _NEVER

    @property
    def is_on(self) -> bool:
        """Whether there is a limit now."""
        return self._interval > 0 or (self._spaced_until > _NEVER and self._clock() < self._spaced_until)

    @property
    def interval(self) -> float:
        """Seconds between two turns; 0 without a limit."""
        return max(self._interval, self._spaced) if self._clock() < self._spaced_until else self._interval

    @property
    def wait(self) -> float:
        """Seconds until the next turn."""
        return max(self._next - self._clock(), 0.0)

    async def turn(self, longest: float) -> bool:
        """Wait for a turn; False, at once and without it, when there will be none in ``longest`` seconds."""
        now = self._clock()
        spaced = now < self._spaced_until
        self._next = max(self._next, now if spaced else now - self._rest)
        wait = self._next - now
        if wait > longest:
            return False
        self._next += max(self._interval, self._spaced * random.uniform(0.5, 1.5)) if spaced else self._interval  # noqa: S311
        if wait > 0:
            await self._sleep(wait)
        return True

    def space(self, interval: float, seconds: float) -> None:
        """For so many seconds, turns are at least so far apart, at random: those who waited come back one by one."""
        self._spaced, self._spaced_until = interval, self._clock() + seconds
