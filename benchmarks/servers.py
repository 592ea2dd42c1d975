"""The servers under test: real processes, each alone on one core, with what they use read from /proc."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.load import TOKEN

ROOT: Final = Path(__file__).parent.parent
ACCEPTED: Final = b'"action":"event.accepted"'
PROCESSED: Final = b'"action":"event.processed"'
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 15.0
_STOP_SECONDS: Final = 60.0


class Kind(NamedTuple):
    """A server to measure: its name in the table, and the settings of a connector (None: the bare server)."""

    name: str
    settings: Mapping[str, str] | None


class Server:
    """A running server. Its log goes to a file, as it would to a container's log driver."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self.port = port
        self.log = log
        self._read = 0
        self._seen = dict.fromkeys((ACCEPTED, PROCESSED), 0)
        self._last = dict.fromkeys((ACCEPTED, PROCESSED), 0.0)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def cpu(self) -> float:
        """Seconds of processor time used so far, all threads, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss(self) -> float:
        """Resident memory in MB (10⁶ bytes)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def read_log(self) -> None:
        """Count what is new in the log."""
        with self.log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = whole.splitlines()
        for action in self._seen:
            found = [line for line in lines if action in line]
            if found:
                self._seen[action] += len(found)
                self._last[action] = datetime.fromisoformat(json.loads(found[-1])["timestamp"]).timestamp()

    def wait_processed(self, accepted: int, timeout: float) -> float:
        """Wait for the log to say that all that was accepted is processed, at least ``accepted`` events.

        A client that ends may leave a few events accepted whose answers it did not count. Returns the seconds between
        the last acceptance and the last processing, by the log's timestamps. Raises TimeoutError after ``timeout``
        seconds.
        """
        deadline = time.monotonic() + timeout
        self.read_log()
        while self._seen[PROCESSED] < max(accepted, self._seen[ACCEPTED]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._seen} of {accepted} accepted events within {timeout:g} s")
            time.sleep(0.05)
            self.read_log()
        return max(0.0, self._last[PROCESSED] - self._last[ACCEPTED])

    def alive(self) -> bool:
        """Whether the process runs and takes connections."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the server ended with {self._process.returncode}; see its log: {self.log.read_text()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def running(kind: Kind, core: int, folder: Path) -> Iterator[Server]:
    """Start a server on ``core``, in a new folder within ``folder``; stop it and remove its folder after.

    Raises RuntimeError where it does not start, or keeps events in memory although another journal was asked for.
    """
    port = _free_port()
    own = Path(tempfile.mkdtemp(prefix=f"{kind.name}-", dir=folder))
    log = own / "server.log"
    module = [str(ROOT / "run.py")] if kind.settings is not None else ["-m", "benchmarks.bare"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PORT": str(port), "API_TOKEN": TOKEN}
    environment |= {"HOST": "127.0.0.1", **(kind.settings or {})}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *module],
            env=environment,
            cwd=own,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    server = Server(process, port, log)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.alive():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{kind.name} took more than {_START_SECONDS:g} s to start")
            time.sleep(0.02)
        durable = kind.settings is not None and kind.settings["JOURNAL_URL"] != "memory://"
        if durable and b"journal.not_durable" in log.read_bytes():
            raise RuntimeError(f"{kind.name} says that it keeps events in memory only")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(own)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
