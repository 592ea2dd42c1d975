"""The newest state wins, whatever is killed: snapshots of subscribers come in any order while the connector dies."""

import asyncio
import json
import random
import signal
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import aiohttp

from tests.journal_support.running import client, handled, post, start
from tests.process import Server

SUBSCRIBERS = 24
SNAPSHOTS = 30
KILLS = 5
SETTINGS = {"LATEST": "1", "FLAKY": "30", "RETRY_BASE": "10ms"}


def snapshot(subscriber: int, version: int) -> bytes:
    """The state of a subscriber at second ``version``; its id ends with the version."""
    document = {
        "event_id": f"{subscriber}-{version}",
        "data": {"event_type": "SIM/Updated"},
        "pb_data": {"account_info": {"i_account": subscriber, "bill_status": "open"}},
        "updated_at": f"2026-01-01T00:00:{version:02d}+00:00",
    }
    return json.dumps(document).encode()


class Killed:
    """A connector that is killed as soon as so many events more are accepted, and started anew."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._there = asyncio.Event()
        self.connector: Server
        self.accepted = 0

    async def start(self) -> None:
        """Start it; those that send go on."""
        self.connector = await start(self._journal, SETTINGS)
        self._there.set()

    async def kill_and_start(self, after: int) -> None:
        """Kill it when ``after`` events are accepted."""
        while self.accepted < after:  # noqa: ASYNC110 - it is another task that counts
            await asyncio.sleep(0.001)
        self._there.clear()
        await self.connector.kill()
        await self.start()

    async def send(self, session: aiohttp.ClientSession, subscriber: int, versions: Iterable[int]) -> None:
        """Send snapshots of a subscriber one after the other, each until it is accepted."""
        for version in versions:
            while not await self._try(session, snapshot(subscriber, version)):  # noqa: ASYNC110 - as NSPS does
                await asyncio.sleep(0.01)
            self.accepted += 1

    async def _try(self, session: aiohttp.ClientSession, body: bytes) -> bool:
        await self._there.wait()
        try:
            return await post(session, self.connector, body) == 202
        except aiohttp.ClientError:
            return False


async def test_external_state_ends_at_the_newest_and_never_goes_back_over_kills(tmp_path: Path) -> None:
    chance = random.Random(4)
    (tmp_path / "files").mkdir()
    killed = Killed(tmp_path / "files" / "journal.db")
    newest = {f"{number}-{SNAPSHOTS - 1}" for number in range(SUBSCRIBERS)}
    await killed.start()
    try:
        async with client() as session:
            orders = [chance.sample(range(SNAPSHOTS), SNAPSHOTS) for _ in range(SUBSCRIBERS)]
            sending = [asyncio.create_task(killed.send(session, number, order)) for number, order in enumerate(orders)]
            for kill in range(1, KILLS + 1):
                await killed.kill_and_start(kill * SUBSCRIBERS * SNAPSHOTS // (KILLS + 1))
            await asyncio.gather(*sending)
        await killed.connector.until(lambda: newest <= {line.event_id for line in handled(tmp_path / "handled")})
        killed.connector.send(signal.SIGTERM)
        assert await killed.connector.ended() == 0
    finally:
        await killed.connector.kill()
    applied: dict[str, list[int]] = defaultdict(list)
    for line in handled(tmp_path / "handled"):
        applied[line.lane].append(int(line.event_id.partition("-")[2]))
    assert len(applied) == SUBSCRIBERS
    for lane, versions in applied.items():
        assert versions == sorted(versions), lane
        assert versions[-1] == SNAPSHOTS - 1
    assert sum(map(len, applied.values())) < SUBSCRIBERS * SNAPSHOTS
