"""A journal that is stopped at each of its writes and syncs in turn: ``python -m tests.journal_support.stopped DIR``.

To be run on the disk of ``disk.c``. For n = 1, 2, ... a child opens a journal in ``DIR/n/files``, works with it and is
stopped in its n-th call to the disk. What it was promised until then stands in ``DIR/n/promised``: ``+id`` for an event
that is kept, ``?id`` for one that it asks to settle, ``-id`` for one that is settled, ``...`` where its work was not
cut short.
"""

import os
import sys
from itertools import count
from pathlib import Path

from connector.events.event import Event
from connector.journal import Entry
from connector.journal.sqlite import upkeep as tidy
from connector.journal.sqlite import wal
from connector.journal.store import Append, Batch
from connector.outcome import Outcome
from tests.journal_support.engines import Clock, sqlite_store
from tests.journal_support.events import event


def work(path: Path, promised: int) -> None:
    """Everything that writes to the file: a new file, events, outcomes, pruning, checkpoints, the end."""
    clock = Clock()
    wal.LOG_BYTES, wal.MARGIN_BYTES = 0, 16 * 1024  # type: ignore[misc]
    tidy.PRUNE_REST_SECONDS = 0.0  # type: ignore[misc]
    store = sqlite_store(path, clock, keep_done=2)
    store.open()
    waiting: list[Entry] = []
    for turn in range(8):
        clock.now += 1
        new = [event(f"event-{turn}-{place}", lane=f"lane:{place}") for place in range(3)]
        ended = waiting[: 2 if turn % 2 else 4]
        ids = [each.event for each in ended]
        os.write(promised, _lines("?", ids))
        batch = Batch(appends=[Append(each) for each in new], settles=[(each, Outcome("done")) for each in ended])
        store.commit(batch)
        waiting = waiting[len(ended) :] + [each for each in batch.entries if each is not None]
        os.write(promised, _lines("+", new) + _lines("-", ids))
        store.upkeep()
    store.close()
    os.write(promised, b"...\n")


def _lines(mark: str, events: list[Event]) -> bytes:
    return "".join(f"{mark}{each.event_id}\n" for each in events).encode()


def main(folder: Path) -> None:
    """Run one child after the other until one comes to its end."""
    for number in count(1):
        here = folder / str(number)
        files, shadow = here / "files", here / "shadow"
        files.mkdir(parents=True)
        shadow.mkdir()
        if not (child := os.fork()):
            os.environ |= {"DISK_DIR": str(files), "DISK_SHADOW": str(shadow), "DISK_STOP": str(number)}
            work(files / "journal.db", os.open(here / "promised", os.O_WRONLY | os.O_CREAT, 0o644))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if (code := os.waitstatus_to_exitcode(status)) != 137:
            sys.exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
