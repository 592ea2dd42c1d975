"""The real application on a real socket, in the process of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from connector.app import Connector
from connector.settings import Settings
from connector.web.server import HttpServer
from tests.wire import TOKEN


class Served(NamedTuple):
    """A connector that listens on ``port``."""

    connector: Connector
    port: int


def settings(**overrides: str) -> Settings:
    """Settings for a test: nothing on disk, a known token."""
    environment = {
        "API_TOKEN": TOKEN,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "JOURNAL_URL": "memory://",
        "DRAIN_TIMEOUT": "2s",
        "BODY_TIMEOUT": "5s",
        "HANDLERS": "tests.handlers",
    }
    return Settings.load(environment | overrides)


@asynccontextmanager
async def serving(**overrides: str) -> AsyncIterator[Served]:
    """A running connector with these settings."""
    connector = Connector(settings(**overrides))
    server = HttpServer(connector.app, connector.settings)
    try:
        yield Served(connector, await server.start())
    finally:
        await server.stop()
