"""A connector as a child process: started, killed without warning, stopped, started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import psutil

from nsps_simulator.running.orphans import die_with_parent

READY_WITHIN = 60.0  # seconds for a start
STOP_WITHIN = 60.0  # seconds for an orderly stop
LOOK = 0.02  # seconds between two tries to connect


class ChildFailed(Exception):  # it is the child that failed; the name says so
    """The connector did not start, or ended by itself."""


class Child:
    """One connector that may be killed and started again.

    command: program and arguments, run without a shell. environment: variables beyond the inherited ones.
    host, port: where it will listen. log: the file that takes what it prints.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], host: str, port: int, log: Path) -> None:
        self._command = list(command)
        self._environment = {**os.environ, **environment}
        self._address = (host, port)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._expected = False  # whether its end is ours
        self._past_cpu = 0.0
        self.exit_code: int | None = None

    async def start(self) -> float:
        """Start it and wait until it takes connections; give the time when it did.

        Raises ChildFailed when it ends, or takes no connection in time.
        """
        with self._log.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=partial(die_with_parent, os.getpid()),
                )
            except OSError as error:
                raise ChildFailed(f"cannot start {self._command[0]}: {error.strerror}") from error
        try:
            async with asyncio.timeout(READY_WITHIN):
                while not await self._takes_connections():
                    if self._process.returncode is not None:
                        raise ChildFailed(f"the connector ended with code {self._process.returncode}; see {self._log}")
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            raise ChildFailed(f"the connector took no connection within {READY_WITHIN:g} s; see {self._log}") from None
        self._expected = False
        return time.monotonic()

    async def kill(self) -> None:
        """SIGKILL it and all that it started; returns when it is gone."""
        self._expected = True
        process = self._process
        if process is not None:
            self._remember_cpu()
            self._signal_group(signal.SIGKILL)
            await process.wait()

    async def terminate(self) -> None:
        """SIGTERM it, and wait until it is gone. Raises ChildFailed when it does not stop in time."""
        self._expected = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._remember_cpu()
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_WITHIN)
        except TimeoutError:
            raise ChildFailed(f"the connector did not stop within {STOP_WITHIN:g} s of SIGTERM") from None

    def suspend(self) -> None:
        """SIGSTOP: it keeps its connections, and does nothing."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal_group(signal.SIGCONT)

    async def stop(self) -> None:
        """End it: SIGTERM, wait, and note its exit code; SIGKILL when it does not stop in time."""
        process = self._process
        if process is None:
            return
        self.resume()
        try:
            await self.terminate()
        except ChildFailed:
            await self.kill()
        self.exit_code = process.returncode
        self._signal_group(signal.SIGKILL)  # whatever it left behind

    @property
    def died(self) -> str | None:
        """Say so when the connector ended by itself; None while it runs, or was ended on purpose."""
        process = self._process
        if process is None or process.returncode is None or self._expected:
            return None
        return f"the connector ended by itself with code {process.returncode}; see {self._log}"

    def usage(self) -> tuple[float, int]:
        """Give (seconds of processor time so far, bytes of memory now), its own children included."""
        process = self._process
        if process is None or process.returncode is not None:
            return self._past_cpu, 0
        cpu, memory = self._past_cpu, 0
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(process.pid)
            for one in (first, *first.children(recursive=True)):
                times = one.cpu_times()
                cpu += times.user + times.system
                memory += one.memory_info().rss
        return cpu, memory

    def _remember_cpu(self) -> None:
        self._past_cpu = self.usage()[0]

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def _takes_connections(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(*self._address, family=socket.AF_UNSPEC)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True
