"""Says who blocks the event loop: a thread that looks whether the loop still turns, and shows what it is at if not."""

import asyncio
import sys
import threading
import time
import traceback
from typing import Final

from connector import log
from connector.handlers.places import place

BEAT: Final = 0.25
"""Seconds between two signs of life of the loop, and between two looks of the thread."""

BLOCKED: Final = 1.0
"""Seconds without a sign of life after which the loop counts as blocked."""

MAX_STACK: Final = 8000
"""Characters of a stack in a log line, the last ones."""

_log = log.get_logger()


class Watchdog:
    """Watches the running event loop from ``start`` to ``stop``. One line for each time that it is blocked."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """To be called in the event loop."""
        self._loop, self._of_loop = asyncio.get_running_loop(), threading.get_ident()
        self._beat()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._last = time.monotonic()
        self._timer = self._loop.call_later(BEAT, self._beat)

    def _watch(self) -> None:
        said_of = 0.0
        while not self._ended.wait(BEAT):
            last = self._last
            if time.monotonic() - last < BLOCKED or last == said_of:
                continue
            frame = sys._current_frames().get(self._of_loop)
            if frame is None or self._ended.is_set():
                return
            stack = "".join(traceback.format_stack(frame))[-MAX_STACK:]
            if self._last != last:  # it went on while the stack was read
                continue
            said_of = last
            _log.error(
                f"The event loop is blocked for {time.monotonic() - last:.1f} s: nothing is accepted or answered",
                action="loop.blocked",
                place=place(frame.f_code.co_filename, frame.f_lineno),
                stack=stack,
            )
