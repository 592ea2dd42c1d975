"""A connector over a journal file whose handlers write down what they handle, for tests that end it in every way."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp

from tests.process import Server
from tests.wire import TOKEN

TIMEOUT = 30.0


class Handled(NamedTuple):
    """A line of the file that the tests' handlers write."""

    process: int
    lane: str
    event_id: str


def handled(path: Path) -> list[Handled]:
    """What was handled up to now, in order; a line that is still being written is not there yet."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text().rpartition("\n")
    lines = (line.split(" ") for line in whole.splitlines())
    return [Handled(int(process), lane, event_id) for process, lane, event_id in lines]


def on_journal(journal: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The settings of a connector with this journal; its handlers write to ``handled`` beside the journal's folder."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    ours = {
        "JOURNAL_URL": f"sqlite:///{journal}",
        "MIN_FREE_DISK": "0",
        "HANDLERS": "tests.journal_support.handling",
        "HANDLED": str(journal.parent.parent / "handled"),
    }
    return ours | dict(extra or {})


class CountingServer(Server):
    """Lines about single events are counted and not kept: there are more than memory should hold."""

    keeps_lines_of_events = False


async def start(journal: Path, extra: Mapping[str, str] | None = None) -> Server:
    """Start one; it listens."""
    return await CountingServer.start(journal.parent, **on_journal(journal, extra))


@asynccontextmanager
async def running(journal: Path, extra: Mapping[str, str] | None = None) -> AsyncIterator[Server]:
    """A connector that listens; killed at the end if it is still there."""
    connector = await start(journal, extra)
    try:
        yield connector
    finally:
        await connector.kill()


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A session with the token."""
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {TOKEN}"}, timeout=aiohttp.ClientTimeout(TIMEOUT)
    ) as session:
        yield session


async def post(session: aiohttp.ClientSession, connector: Server, body: bytes) -> int:
    """Post an event; the status of the answer."""
    async with session.post(f"{connector.url}/process-event", data=body) as answer:
        await answer.read()
        return answer.status


async def ready(session: aiohttp.ClientSession, connector: Server) -> int:
    """The status of ``/ready``."""
    async with session.get(f"{connector.url}/ready") as answer:
        return answer.status
