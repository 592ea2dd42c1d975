"""A journal whose file is taken away while the connector runs: what is written into it then is lost with it."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import events
from tests.process import running
from tests.wire import ask, post


def deleted(journal: Path) -> None:
    journal.unlink()


def moved(journal: Path) -> None:
    journal.rename(journal.with_name("elsewhere.db"))


def replaced(journal: Path) -> None:
    copy = journal.with_name("copy.db")
    copy.write_bytes(journal.read_bytes())
    copy.replace(journal)


@pytest.mark.parametrize("take_away", [deleted, moved, replaced])
async def test_nothing_is_answered_202_once_the_journal_file_was_taken_away(
    tmp_path: Path, take_away: Callable[[Path], None]
) -> None:
    async with running(tmp_path, JOURNAL_URL=f"sqlite:///{tmp_path}/journal.db") as server:
        assert (await ask(server.port, post(events.encode(events.minimal())))).status == 202
        take_away(tmp_path / "journal.db")
        with contextlib.suppress(OSError, EOFError):  # the process may have found it by itself, and ended
            assert (await ask(server.port, post(events.encode(events.minimal())))).status == 503
        assert await server.ended() == 1
    assert any("deleted, moved or replaced" in str(line.get("reason")) for line in server.lines)
