"""The connector as a child process: started, killed without warning, started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nsps_simulator.judging.ledger import Kill

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
        self._killing = False
        self.kills: list[Kill] = []
        self.exit_code: int | None = None

    async def start(self) -> float:
        """Start it and wait until it takes connections; give the time when it did.

        Raises ChildFailed when it ends, or takes no connection in time.
        """
        with self._log.open("ab") as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
                )
            except OSError as fault:
                raise ChildFailed(f"cannot start {self._command[0]}: {fault.strerror}") from fault
        try:
            async with asyncio.timeout(READY_WITHIN):
                while not await self._takes_connections():
                    if self._process.returncode is not None:
                        raise ChildFailed(f"the connector ended with code {self._process.returncode}; see {self._log}")
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            raise ChildFailed(f"the connector took no connection within {READY_WITHIN:g} s; see {self._log}") from None
        return time.monotonic()

    async def kill_at(self, moments: Sequence[float], pause: float) -> None:
        """SIGKILL it at each moment (monotonic clock) and start it again after `pause` seconds.

        Raises ChildFailed when it does not come back.
        """
        for moment in sorted(moments):
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            self._killing, began = True, time.monotonic()
            await self._kill()
            ended = time.monotonic()
            self.kills.append(Kill(began, ended, None))
            await asyncio.sleep(pause)
            self.kills[-1] = Kill(began, ended, await self.start())
            self._killing = False

    async def stop(self) -> None:
        """SIGTERM it, wait, and note its exit code; SIGKILL when it does not stop in time."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_WITHIN)
            except TimeoutError:
                await self._kill()
        self.exit_code = process.returncode
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # whatever it left behind

    @property
    def fault(self) -> str | None:
        """Say so when the connector ended by itself; None while it runs, or was killed on purpose."""
        process = self._process
        if process is None or process.returncode is None or self._killing:
            return None
        return f"the connector ended by itself with code {process.returncode}; see {self._log}"

    async def _kill(self) -> None:
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _takes_connections(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(*self._address, family=socket.AF_UNSPEC)
        except OSError:
            return False
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return True
