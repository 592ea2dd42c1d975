"""Log lines that anybody can cause, such as refusals: the first ones are written, the rest is counted and summed up."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from typing import Any, Final

from connector import log

_log = log.get_logger()


class Flood:
    """Lines that anybody can cause, sampled by kind.

    A kind has a token bucket: ``BURST`` lines at once, then ``RATE`` a second. What it leaves out is counted, and one
    line (``log.summary``) says how many there were, and from which addresses, at the end of each ``WINDOW``. The first
    line of each address in a window is not left out, up to ``ADDRESSES``: one sender with a mistake is seen beside a
    thousand requests of another.
    """

    BURST: Final = 20
    """Lines of a kind that are written at once."""

    RATE: Final = 1.0
    """Lines of a kind a second after that."""

    WINDOW: Final = 10.0
    """Seconds from the first line that is left out to the summary."""

    ADDRESSES: Final = 32
    """Addresses of a kind and window that are counted each by itself."""

    KINDS: Final = 64
    """Kinds; further ones of an action share one bucket."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def line(
        self, kind: str, message: str, *, action: str, remote: str | None, level: int = logging.WARNING, **fields: Any
    ) -> None:
        """Write a line, or count it; ``kind`` is one of a few texts, ``remote`` the address of who caused it."""
        if not _log.is_enabled_for(level):
            return
        key = (action, kind)
        if key not in self._kinds and len(self._kinds) >= self.KINDS:
            key = (action, "other")
        found = self._kinds.setdefault(key, _Kind(self.BURST))
        now = self._clock()
        if now >= found.until:
            self._sum_up(key, found)
        if found.has_token(now) or found.is_first(remote or "-"):
            _log.log(level, message, action=action, remote=remote, **fields)
        elif found.leave_out(remote or "-") == 1:
            found.since, found.until = log.timestamp(), now + self.WINDOW
            with contextlib.suppress(RuntimeError):  # without an event loop the next line of the kind sums up
                asyncio.get_running_loop().call_later(self.WINDOW, self._sum_up, key, found)

    def sum_up(self) -> None:
        """Say now what was left out: for the end of a process."""
        for key, kind in list(self._kinds.items()):
            self._sum_up(key, kind)

    def _sum_up(self, key: tuple[str, str], kind: "_Kind") -> None:
        (action, name), count = key, kind.left_out
        remotes = kind.forget()
        if count:
            _log.warning(
                f"Further lines like these that were not written: {count}",
                action="log.summary",
                of=action,
                kind=name,
                count=count,
                since=kind.since,
                remotes=dict(sorted(remotes.items(), key=lambda each: -each[1])[:10]),
            )


class _Kind:
    __slots__ = ("left_out", "remotes", "seen_at", "since", "tokens", "until")

    def __init__(self, burst: int) -> None:
        self.tokens = float(burst)
        self.seen_at = 0.0
        self.since = ""
        self.until = math.inf
        self.left_out = 0
        self.remotes: dict[str, int] = {}

    def has_token(self, now: float) -> bool:
        if self.tokens < Flood.BURST:
            self.tokens = min(float(Flood.BURST), self.tokens + (now - self.seen_at) * Flood.RATE)
        self.seen_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def is_first(self, remote: str) -> bool:
        """Whether this address is new in this window, and there is room to count it by itself."""
        if remote in self.remotes or len(self.remotes) >= Flood.ADDRESSES:
            return False
        self.remotes[remote] = 0
        return True

    def leave_out(self, remote: str) -> int:
        """Count a line that is left out; how many there are by now in this window."""
        address = remote if remote in self.remotes else "others"
        self.remotes[address] = self.remotes.get(address, 0) + 1
        self.left_out += 1
        return self.left_out

    def forget(self) -> dict[str, int]:
        """Begin a new window; the lines left out in the last one, by address."""
        remotes, self.remotes = self.remotes, {}
        self.left_out, self.until = 0, math.inf
        return remotes


flood: Final = Flood()
"""For the lines of the whole process."""
