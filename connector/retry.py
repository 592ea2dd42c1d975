"""When to try again, and when to give up. Pure: time and chance come from outside.

The n-th failed attempt is followed by a wait of ``base * 2 ** (n - 1)`` seconds, never more than ``longest``, each
spread by ±20 % so that subscribers that failed together do not come back together.
"""

from math import isnan
from typing import Final

import msgspec

JITTER: Final = 0.2


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
