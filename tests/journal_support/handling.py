"""Handlers of the tests: they write down, in one file of the environment, every event that is handled.

``HANDLED``  the file: a line ``process lane event_id`` for each call, appended with one system call
``GATE``     a file; while it exists, handlers wait
``FAILING``  a lane whose events fail until the file ``GATE`` is gone
``FLAKY``    of a hundred events so many fail at first, some once and some twice; which ones, their ids decide
``LATEST``   if set, only the newest snapshot of a subscriber is wanted
``PAUSE``    seconds that a call takes
"""

import asyncio
import os
import zlib
from pathlib import Path

from connector import Event, Retry, on

_file = os.open(os.environ["HANDLED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
_gate = Path(os.environ.get("GATE", "no gate"))
_pause = float(os.environ.get("PAUSE", "0"))
_failing = os.environ.get("FAILING")
_flaky = int(os.environ.get("FLAKY", "0"))


def _shut() -> bool:
    return _gate.exists()


@on("*", latest_only="LATEST" in os.environ)
async def write_down(event: Event) -> None:
    """Write the event's id down."""
    mark = zlib.crc32(event.event_id.encode())
    if mark % 100 < _flaky and event.attempt <= 1 + mark // 100 % 2:
        raise Retry("at first", after=0.01)
    if event.lane == _failing and _shut():
        raise Retry("not yet", after=0.05)
    while event.lane != _failing and _shut():  # noqa: ASYNC110 - another process opens it
        await asyncio.sleep(0.01)
    if _pause:
        await asyncio.sleep(_pause)
    os.write(_file, f"{os.getpid()} {event.lane} {event.event_id}\n".encode())
