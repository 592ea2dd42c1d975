"""What ran when the process died: an event that ends the process must not do it forever, nor cost its neighbours.

Before each attempt the event's number is written into a file that is mapped into memory, and taken out after it. That
costs a store in memory; what the kernel holds of a file outlives the process (not the machine: then nothing is blamed).
At the next start whatever is still noted ran when the process died, and is counted::

    died once     runs as always
    died twice    runs alone, after all others (or after ``LONGEST_WAIT``)
    three times   dead: "the process died 3 times while this ran"

An attempt that ends, however, clears its event. A stop clears all, also handlers that do not end.
"""

import mmap
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

from connector import log

SUSPECT: Final = 2
GUILTY: Final = 3
"""Deaths of the process after which an event runs alone, and after which it is dead."""

LONGEST_WAIT: Final = 60.0
"""Seconds that an event that is to run last waits for the others."""

_COUNTED: Final = 1024
_HEADER: Final = struct.Struct("<8sII")
_SEQ: Final = struct.Struct("<Q")
_DEATHS: Final = struct.Struct("<QQ")
_MAGIC: Final = b"nspsrun1"

_log = log.get_logger()


class Crashes:
    """The file of what runs, beside the journal; without a ``path`` nothing is remembered. ``slots``: workers."""

    def __init__(self, path: Path | None, slots: int) -> None:
        self._path = path
        self._slots = slots
        self._map: mmap.mmap | None = None
        self._deaths: dict[int, int] = {}

    def open(self) -> None:
        """Count what ran when the process died. A file that cannot be used is said, and nothing is remembered then."""
        if self._path is None:
            return
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o600)
            try:
                self._deaths = _counted(os.pread(fd, 1 << 20, 0))
                content = self._content()
                os.ftruncate(fd, 0)
                os.pwrite(fd, content, 0)
                self._map = mmap.mmap(fd, len(content))
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            _log.warning(
                f"What runs cannot be noted in {self._path}: an event that ends the process would not be found",
                action="crashes.unavailable",
                reason=str(error),
            )
            return
        if self._deaths:
            _log.warning(
                f"The process died while events ran: {len(self._deaths)}",
                action="server.died",
                events={str(seq): times for seq, times in list(self._deaths.items())[:20]},
            )

    def close(self) -> None:
        """Nothing runs any more."""
        if self._map is not None:
            for slot in range(self._slots):
                _SEQ.pack_into(self._map, _HEADER.size + slot * _SEQ.size, 0)
            self._map.close()
            self._map = None

    def deaths(self, seq: int) -> int:
        """How often the process has died while this event ran."""
        return self._deaths.get(seq, 0) if self._deaths else 0

    def begin(self, slot: int, seq: int) -> None:
        """An attempt of this event begins."""
        if self._map is not None:
            _SEQ.pack_into(self._map, _HEADER.size + slot * _SEQ.size, seq)

    def end(self, slot: int, seq: int) -> None:
        """It has ended."""
        if self._map is not None:
            _SEQ.pack_into(self._map, _HEADER.size + slot * _SEQ.size, 0)
            if self._deaths and self._deaths.pop(seq, None) is not None:
                self._map[:] = self._content(self._map)

    def _content(self, running: bytes | mmap.mmap = b"") -> bytes:
        """The file as it is to be; the slots as in ``running``, or empty."""
        begin = _HEADER.size
        slots = bytes(running[begin : begin + self._slots * _SEQ.size]) or bytes(self._slots * _SEQ.size)
        table = b"".join(_DEATHS.pack(seq, times) for seq, times in list(self._deaths.items())[:_COUNTED])
        return _HEADER.pack(_MAGIC, self._slots, 0) + slots + table.ljust(_COUNTED * _DEATHS.size, b"\0")


def _counted(content: bytes) -> dict[int, int]:
    """The deaths by event that a file of an earlier run tells of; none where it is no such file."""
    deaths: dict[int, int] = {}
    with suppress(struct.error):
        magic, slots, _ = _HEADER.unpack_from(content)
        if magic != _MAGIC:
            return deaths
        table = _HEADER.size + slots * _SEQ.size
        for number in range(_COUNTED):
            seq, times = _DEATHS.unpack_from(content, table + number * _DEATHS.size)
            if seq:
                deaths[seq] = times
        for slot in range(slots):
            (seq,) = _SEQ.unpack_from(content, _HEADER.size + slot * _SEQ.size)
            if seq:
                deaths[seq] = deaths.get(seq, 0) + 1
    return deaths


def reason(times: int) -> str:
    """Why an event is dead that ended the process so often."""
    return f"the process died {times} times while this ran"
