"""The first moments of the process, before anything else is imported: signals to stop, and the children of process 1.

1. Until the event loop has handlers of its own, SIGTERM and SIGINT end the process with 0. As process 1 of a container
   it would not notice them otherwise, and would be killed at the end of the grace period.
2. Process 1 is the parent of every process whose own parent has ended, and has to wait for each of them. If the
   connector did that, it would take the exit codes of children that asyncio and ``subprocess`` wait for. So process 1
   runs the connector as its child, passes signals on and waits for whatever ends, as tini and dumb-init do.
"""

import contextlib
import gc
import os
import signal

PASSED_ON = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
"""Signals that process 1 passes on to the connector."""

GC_THRESHOLD = 100_000
"""Allocations between garbage collections: imports and events make no cycles, and each pass costs."""


def begin() -> None:
    """Get ready to run the connector; it returns in the process that does so, and never in process 1."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    collect_rarely()
    if os.getpid() == 1:
        _be_parent()


def collect_rarely() -> None:
    """Let the garbage collector look for cycles less often."""
    gc.set_threshold(GC_THRESHOLD, 20, 20)


def _be_parent() -> None:
    """Return in a child; in this process never."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD})
    try:
        connector = os.fork()
    except OSError:  # no further process is allowed: then nobody waits for orphans
        connector = 0
    if connector == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return
    while True:
        number = signal.sigwait(PASSED_ON | {signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(connector, number)  # it is waited for here alone, so its number is still its own
        elif (code := _wait_for_children(connector)) is not None:
            os._exit(code)


def _wait_for_children(connector: int) -> int | None:
    """Wait for each child that has ended; the exit code of the connector if it is one of them."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == connector:
                code = os.waitstatus_to_exitcode(ended[1])
    return code if code is None or code >= 0 else 128 - code
