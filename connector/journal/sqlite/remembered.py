"""The ids that were seen, kept far longer than the events: ten million of them at the price of one.

Ids are random, so a single index of ten million would dirty another page of the disk with every event. Here they go
into generations of ``GENERATION`` ids. Only the newest one gets new ids. An older one is *sealed*: a
Bloom filter of it is in memory, and the disk is asked only where the filter says "perhaps" (one id in 400). Ids are
forgotten by the generation, in small steps.

Invariants:

0. A key stands for an identity (``Event.key``), whose first half stands for the ``event_id`` alone. Generations of
   before (``by_event_id``) have keys of the ``event_id`` (``key_before``) and get no new ones.
1. An id is in the newest generation that it was noted in; that one counts.
2. A generation without a filter (the newest, and one that is still to be sealed) is always asked.
3. A generation is dropped only when the last id noted in it is older than ``KEEP_IDS``.
"""

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from connector.events.identity import id_prefix
from connector.journal.sqlite.rows import insert_many, select_in
from connector.journal.sqlite.stored import whole

GENERATION: Final = 1_000_000
"""Ids in a generation: some 40 MB on disk, 2 MiB of filter in memory."""

FILTER_BYTES: Final = 1 << 21
"""16 bits an id and four probes: a false "perhaps" for 0.24 % of the ids that are not in the generation."""

SEAL_STEP: Final = 5_000
"""Ids put into a filter at a time: a few milliseconds."""

RECORD_SECONDS: Final = 60.0
"""How far the written time of the newest generation lags behind at most: not every transaction writes it."""

DROP_STEP: Final = 5_000
"""Ids taken out at a time before an old generation's table is dropped: a few milliseconds, a full table's are 200."""

KEY_BYTES: Final = 16

_PROBES = Struct(">IIII").unpack
_MASK: Final = FILTER_BYTES * 8 - 1

SCHEMA: Final = """
CREATE TABLE generations (
    number INTEGER PRIMARY KEY, last_at REAL NOT NULL, last_seq INTEGER NOT NULL, filter BLOB
);
"""


def key_before(event_id: str) -> bytes:
    """The key of an id in the generations of before, which knew no identities."""
    return hashlib.blake2b(event_id.encode(), digest_size=KEY_BYTES).digest()


class RememberedIds:
    """The generations in an SQLite database. All methods run within the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._filters: dict[int, bytes] = {}
        self._unsealed: list[int] = []
        self._ids = 0
        self._sealing: tuple[int, bytearray, bytes] | None = None
        self._recorded_at = 0.0
        self._by_event_id: set[int] = set()
        self.last_seq = 0
        rows = connection.execute(
            "SELECT number, last_seq, filter, by_event_id FROM generations ORDER BY number"
        ).fetchall()
        for number, last_seq, bloom, by_event_id in rows:
            if by_event_id:
                self._by_event_id.add(number)
            self.last_seq = max(self.last_seq, whole(last_seq))
            if not isinstance(bloom, bytes) or len(bloom) != FILTER_BYTES:  # none yet, or no filter any more
                self._unsealed.append(number)
            else:
                self._filters[number] = bloom
        if self._unsealed:
            self._ids, last_seq = connection.execute(
                f"SELECT count(*), coalesce(max(seq), 0) FROM ids_{self._unsealed[-1]}"
            ).fetchone()
            self.last_seq = max(self.last_seq, whole(last_seq))
        if not self._unsealed or self._unsealed[-1] in self._by_event_id:
            self._begin(max([*self._filters, *self._unsealed], default=0) + 1)

    @property
    def has_before(self) -> bool:
        """Whether there are generations whose keys stand for an ``event_id``."""
        return bool(self._by_event_id)

    def find_before(self, event_ids: Sequence[str]) -> dict[str, int]:
        """The sequence numbers noted last for these ids in the generations of before."""
        keys = {key_before(event_id): event_id for event_id in event_ids}
        found: dict[bytes, int] = {}
        for number in sorted(self._by_event_id):
            found.update(self._look_up(number, list(keys)))
        return {keys[key]: seq for key, seq in found.items()}

    def bearing(self, event_id: str) -> list[int]:
        """The newest series of every identity that has this ``event_id``."""
        return bearing(self._db, event_id)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The sequence numbers noted last for those of ``keys`` that are remembered."""
        found: dict[bytes, int] = {}
        if self._filters:
            probes = [(key, _bits(key)) for key in keys]
            for number, bloom in self._filters.items():
                perhaps = [
                    key
                    for key, ((a, bit_a), (b, bit_b), (c, bit_c), (d, bit_d)) in probes
                    if bloom[a] & bit_a and bloom[b] & bit_b and bloom[c] & bit_c and bloom[d] & bit_d
                ]
                if perhaps:
                    found.update(self._look_up(number, perhaps))
        for number in self._unsealed:
            found.update(self._look_up(number, keys))
        return found

    def note(self, seqs: Mapping[bytes, int], now: float) -> None:
        """Remember these keys with their sequence numbers as of ``now`` (seconds since the epoch)."""
        if self._ids >= GENERATION:
            self._begin(self._unsealed[-1] + 1)
        number = self._unsealed[-1]
        rows = sorted(seqs.items())
        insert_many(self._db, f"INSERT OR REPLACE INTO ids_{number} VALUES", 2, rows)
        self._ids += len(rows)
        if now - self._recorded_at >= RECORD_SECONDS:
            self._recorded_at = now
            self._db.execute("UPDATE generations SET last_at = ? WHERE number = ?", (now, number))

    def record(self, last_seq: int) -> None:
        """Remember the highest sequence number in use; it is not to be used again when its event is pruned."""
        self._db.execute("UPDATE generations SET last_seq = ? WHERE number = ?", (last_seq, self._unsealed[-1]))

    def forget(self, seqs: Mapping[bytes, int]) -> None:
        """Forget those of these keys that were noted last with these sequence numbers."""
        found = self.find(list(seqs)) if seqs else {}
        for key in [key for key, seq in seqs.items() if found.get(key) == seq]:
            for number in [*self._filters, *self._unsealed]:
                self._db.execute(f"DELETE FROM ids_{number} WHERE id = ?", (key,))

    def upkeep(self, before: float) -> bool:
        """Seal a little, and drop a little of what was last noted ``before`` that time; whether there is more to do."""
        over = self._db.execute(
            "SELECT number FROM generations WHERE last_at < ? AND filter IS NOT NULL ORDER BY number LIMIT 1",
            (before - RECORD_SECONDS,),
        ).fetchone()
        if over:
            self._drop(over[0])
        if len(self._unsealed) > 1:
            self._seal(self._unsealed[0])
            return True
        return over is not None

    def _drop(self, number: int) -> None:
        few = f"SELECT id FROM ids_{number} ORDER BY id LIMIT {DROP_STEP}"
        if self._db.execute(f"DELETE FROM ids_{number} WHERE id IN ({few})").rowcount < DROP_STEP:
            self._db.execute(f"DROP TABLE ids_{number}")
            self._db.execute("DELETE FROM generations WHERE number = ?", (number,))
            del self._filters[number]
            self._by_event_id.discard(number)

    def _begin(self, number: int) -> None:
        self._db.execute(f"CREATE TABLE ids_{number} (id BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID")
        self._db.execute("INSERT INTO generations (number, last_at, last_seq) VALUES (?, 0, 0)", (number,))
        self._unsealed.append(number)
        self._ids = 0
        self._recorded_at = 0.0

    def _seal(self, number: int) -> None:
        if self._sealing is None or self._sealing[0] != number:
            self._sealing = (number, bytearray(FILTER_BYTES), b"")
        _, bloom, after = self._sealing
        keys = self._db.execute(
            f"SELECT id FROM ids_{number} WHERE id > ? ORDER BY id LIMIT ?",
            (after, SEAL_STEP),
        ).fetchall()
        for (key,) in keys:
            for place, bit in _bits(key):
                bloom[place] |= bit
        if len(keys) == SEAL_STEP:
            self._sealing = (number, bloom, keys[-1][0])
            return
        self._db.execute("UPDATE generations SET filter = ? WHERE number = ?", (bloom, number))
        self._filters[number] = bytes(bloom)
        self._unsealed.remove(number)
        self._sealing = None

    def _look_up(self, number: int, keys: Sequence[bytes]) -> dict[bytes, int]:
        found = select_in(self._db, f"SELECT id, seq FROM ids_{number} WHERE id IN", keys)
        return {key: seq for key, seq in found if isinstance(seq, int)}


def bearing(db: sqlite3.Connection, event_id: str) -> list[int]:
    """As ``RememberedIds.bearing``, in the order of acceptance; on any connection."""
    found: dict[bytes, int] = {}
    first = id_prefix(event_id)
    last = first + b"\xff" * (KEY_BYTES - len(first))
    for number, by_event_id in db.execute("SELECT number, by_event_id FROM generations ORDER BY number").fetchall():
        span = (key_before(event_id),) * 2 if by_event_id else (first, last)
        found.update(db.execute(f"SELECT id, seq FROM ids_{number} WHERE id BETWEEN ? AND ?", span).fetchall())
    if not found:  # an id that was generated for an event that is known by its i_event alone
        newest = db.execute("SELECT max(seq) FROM events WHERE event_id = ?", (event_id,)).fetchone()
        return [seq for (seq,) in [newest] if seq is not None]
    return sorted({seq for seq in found.values() if isinstance(seq, int)})


Bit = tuple[int, int]


def _bits(key: bytes) -> tuple[Bit, Bit, Bit, Bit]:
    """The bytes of a filter that a key is looked for in, and the bit in each."""
    a, b, c, d = (((probe & _MASK) >> 3, 1 << (probe & 7)) for probe in _PROBES(key))
    return a, b, c, d
