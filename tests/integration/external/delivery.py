"""The real application before a real target, and what the target was told."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from connector.app import Connector
from connector.settings import Settings

TOKEN = "token-of-tests"


def numbered(number: int, subscribers: int) -> dict[str, Any]:
    """Event ``number`` of many; its subscriber follows from it."""
    return {
        "event_id": f"event-{number}",
        "data": {"event_type": "SIM/Updated", "variables": {"n": number}},
        "pb_data": {"account_info": {"bill_status": "open", "i_account": number % subscribers + 1}},
    }


class Told:
    """What a target was told, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []

    def note(self, body: bytes) -> None:
        """An event was taken."""
        event = json.loads(body)
        self.events.append((event["pb_data"]["account_info"]["i_account"], event["data"]["variables"]["n"]))

    @property
    def numbers(self) -> set[int]:
        """The events that were taken, each once."""
        return {number for _, number in self.events}

    def out_of_order(self) -> list[tuple[int, list[int]]]:
        """Subscribers whose events were first taken in another order than that of their numbers."""
        first: dict[int, dict[int, None]] = defaultdict(dict)
        for subscriber, number in self.events:
            first[subscriber].setdefault(number)
        return [(subscriber, list(order)) for subscriber, order in first.items() if list(order) != sorted(order)]


class Served:
    """A connector that listens, and a client for it."""

    def __init__(self, connector: Connector, url: str, session: aiohttp.ClientSession) -> None:
        self.connector = connector
        self.url = url
        self._session = session

    async def post(self, event: dict[str, Any], **headers: str) -> int:
        """The status that the connector answers with."""
        headers["Authorization"] = f"Bearer {TOKEN}"
        async with self._session.post(f"{self.url}/process-event", json=event, headers=headers) as response:
            await response.read()
            self.last = response
            return response.status

    async def post_all(self, events: Iterable[dict[str, Any]]) -> None:
        """Post one after the other; each is accepted."""
        for event in events:
            assert await self.post(event) == 202

    async def stop(self) -> None:
        """Stop as a signal would: accept no more, let what runs end."""
        self.connector.stop_accepting()
        await self.connector.drain()

    async def ready(self) -> int:
        """The status of /ready."""
        async with self._session.get(f"{self.url}/ready") as response:
            return response.status


@asynccontextmanager
async def serving(target_url: str, journal_url: str = "memory://", **overrides: str) -> AsyncIterator[Served]:
    """A running connector that forwards to ``target_url``."""
    environment = {
        "API_TOKEN": TOKEN,
        "HANDLERS": "connector.handlers.forward",
        "TARGET_URL": target_url,
        "TARGET_TIMEOUT": "5s",
        "JOURNAL_URL": journal_url,
        "QUEUE_SIZE": "10000",
        "RETRY_BASE": "20ms",
        "DRAIN_TIMEOUT": "2s",
    }
    connector = Connector(Settings.load(environment | overrides))
    runner = web.AppRunner(connector.app, shutdown_timeout=1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            yield Served(connector, f"http://127.0.0.1:{runner.addresses[0][1]}", session)
    finally:
        await asyncio.wait_for(runner.cleanup(), 30)
