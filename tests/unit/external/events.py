"""Events and settings for the tests of the external system; all names and numbers are invented."""

import json
from typing import Any

from connector.events.event import Event
from connector.settings import Settings

URL = "http://127.0.0.1:9/api"


def settings(**overrides: str) -> Settings:
    """Settings with a target that nobody listens at, unless ``overrides`` say otherwise."""
    return Settings.load({"TARGET_URL": URL, "API_TOKEN": "token-of-tests"} | overrides)


def event(event_id: str = "event-1", event_type: str = "SIM/Updated", **pb_data: Any) -> Event:
    """An accepted event with this ``pb_data``."""
    body = {"event_id": event_id, "data": {"event_type": event_type}, "pb_data": pb_data}
    return Event(event_id, event_type, (f"lane-{event_id}",), "trace-1", "unique-1", 0.0, json.dumps(body).encode())
