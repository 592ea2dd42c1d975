"""A plugin of pytest (``-p tests.no_waiting``): a test that opens a connection, listens or sleeps fails."""

import sys
import time

FORBIDDEN = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"}


def _look(event: str, arguments: tuple[object, ...]) -> None:
    if event in FORBIDDEN:
        raise AssertionError(f"{event}{arguments!r} in a test that has no socket")


def _sleep(seconds: object, /) -> None:
    raise AssertionError(f"time.sleep({seconds}) in a test that does not wait")


sys.addaudithook(_look)
time.sleep = _sleep
