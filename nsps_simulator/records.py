"""What happened, as fixed-size records in files: one writer each, and anyone may follow along.

A generator writes an Attempt for each request that came to an end, the target a Delivery for each call.
Times are seconds of the machine's monotonic clock, which all processes of a run share. A record costs its
few bytes on disk and nothing in memory, so a run may be as long as the disk is large.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple

NO_EVENT = 0xFFFFFFFF  # the index of a request that carried no event of the run

NOT_SENT = 0  # status: no connection came about
NO_ANSWER = 1  # status: sent, and then the connection or the time ran out

FLUSH_AT = 1 << 16
HELD_LIMIT = 256 << 20  # bytes held in memory while the disk takes none


LEAKED = 1  # flag of an attempt: its answer held data of another event


class Attempt(NamedTuple):
    """One request of NSPS and its end."""

    due: float  # when it was planned
    sent: float
    ended: float  # when the answer, or the news that there will be none, arrived
    event: int  # its index, or NO_EVENT
    status: int  # of HTTP; or NOT_SENT, NO_ANSWER
    attempt: int  # 1, 2, ...; 65535 stands for more
    trouble: int  # chaos.Trouble
    flags: int = 0  # LEAKED
    endpoint: int = 0  # which of the connectors' addresses


class Delivery(NamedTuple):
    """One call of the connector to the external system."""

    arrived: float
    ended: float  # when the answer left, or the connection was lost
    event: int  # its index, or NO_EVENT
    outcome: int  # APPLIED, UNANSWERED, REFUSED
    body: int  # Body: what the comparison with the event's own body said


class Body(IntEnum):
    """What a body was, beside the one that the event should have brought."""

    SAME = 0
    NOT_COMPARED = 1
    EMPTY = 2  # nothing, or nothing in it
    MIXED_UP = 3  # that of another event
    STALE = 4  # an older snapshot of the same subscriber, under the id of this event
    ALTERED = 5  # a field is missing, added or of another value


ATTEMPT = struct.Struct("<dddIHHBBBx")
DELIVERY = struct.Struct("<ddIBBxx")

APPLIED = 0  # done, and answered 200
UNANSWERED = 1  # done, but the answer did not reach the connector, or was none of HTTP
REFUSED = 2  # not done; answered 503


class Writer:
    """Appends records of one kind to a file of its own.

    A disk that is full for a while loses nothing: what could not be written stays in memory, up to HELD_LIMIT
    bytes, and is written later. `error` says why records are held back, or why some are lost for good.
    """

    def __init__(self, path: Path, layout: struct.Struct) -> None:
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._buffer = bytearray()
        self._pack = layout.pack
        self.error: str | None = None
        self.lost = 0  # bytes

    def add(self, *record: float) -> None:
        """Append one record; it reaches the file at the next flush."""
        self._buffer += self._pack(*record)
        if len(self._buffer) >= FLUSH_AT and (self.error is None or len(self._buffer) > HELD_LIMIT):
            self.flush()

    def flush(self) -> None:
        """Let those who follow see everything."""
        while self._buffer:
            try:
                written = self._file.write(self._buffer)
            except OSError as error:
                self.error = f"cannot write {self._file.name}: {error.strerror}"
                if len(self._buffer) > HELD_LIMIT:
                    self.lost += len(self._buffer)
                    self._buffer.clear()
                return
            del self._buffer[:written]  # a disk that fills up takes the first part only
        if not self.lost:
            self.error = None

    def close(self) -> None:
        """Flush and close; records that cannot be written now are lost, and `error` says so."""
        self.flush()
        self.lost += len(self._buffer)
        self._file.close()


class Follower:
    """Reads the records that were added since the last look."""

    def __init__(self, path: Path, layout: struct.Struct) -> None:
        self._path = path
        self._layout = layout
        self._offset = 0

    def new(self) -> Iterator[tuple[float, ...]]:
        """Give the whole records that are new; nothing while there is no file."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while block := file.read(self._layout.size * 8192):
                whole = len(block) - len(block) % self._layout.size
                self._offset += whole
                yield from self._layout.iter_unpack(block[:whole])
                if whole < len(block):
                    return


def attempts(paths: list[Path]) -> Iterator[Attempt]:
    """Read the attempts of a finished run."""
    for path in paths:
        yield from map(Attempt._make, Follower(path, ATTEMPT).new())


def deliveries(path: Path) -> Iterator[Delivery]:
    """Read the deliveries of a finished run."""
    yield from map(Delivery._make, Follower(path, DELIVERY).new())
