"""A stand-in HLR/HSS, to try the connector on: ``python -m examples.hlr_hss.hlr --token secret``.

It keeps subscribers in memory and can be told how to behave, while it runs::

    curl -X PUT localhost:8081/mood -d '{"mood": "flaky"}'

``fine``     answers at once            ``slow``     answers after ``delay`` seconds
``flaky``    every second call is a 500 ``down``     closes each connection without an answer
``refusing`` says no with a 200         ``unknown``  404          ``limited``  429, to come back in a second
"""

import asyncio
import json
import re
from collections import Counter
from typing import Any

import click
from aiohttp import web

MOODS = ("fine", "slow", "flaky", "down", "refusing", "unknown", "limited")


class Hlr:
    """The subscribers by IMSI, and the mood. ``delay`` is in seconds."""

    def __init__(self, token: str, mood: str = "fine", delay: float = 1.0) -> None:
        self._token = token
        self.mood = mood
        self.delay = delay
        self.subscribers: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.app = web.Application()
        self.app.add_routes(
            [
                web.post("/prov", self.provision),
                web.get("/subscribers/{imsi}", self.show),
                web.put("/mood", self.change_mood),
            ]
        )

    async def provision(self, request: web.Request) -> web.Response:
        """Take one subscriber, as the mood allows. One number belongs to one SIM."""
        self.calls[self.mood] += 1
        if request.headers.get("Authorization") != f"Bearer {self._token}":
            return web.json_response({"result": False, "error": "who are you?"}, status=401)
        if refusal := await self._moody(request):
            return refusal
        subscriber = await request.json()
        if error := self._error_in(subscriber):
            return web.json_response({"result": False, "error": error})
        self.subscribers[subscriber["imsi"]] = subscriber
        return web.json_response({"result": True})

    async def show(self, request: web.Request) -> web.Response:
        """What is known of an IMSI."""
        subscriber = self.subscribers.get(request.match_info["imsi"])
        return web.json_response(subscriber or {"error": "no such IMSI"}, status=200 if subscriber else 404)

    async def change_mood(self, request: web.Request) -> web.Response:
        """Behave so from now on: ``{"mood": ..., "delay": seconds}``."""
        try:
            wish = json.loads(await request.text())
            mood, delay = wish["mood"], float(wish.get("delay", self.delay))
        except (ValueError, TypeError, KeyError, AttributeError):
            mood, delay = "", 0.0
        if mood not in MOODS:
            return web.json_response({"error": f"mood is one of {', '.join(MOODS)}"}, status=422)
        self.mood, self.delay = mood, delay
        return web.json_response({"mood": self.mood, "delay": self.delay})

    async def _moody(self, request: web.Request) -> web.Response | None:
        match self.mood:
            case "slow":
                await asyncio.sleep(self.delay)
            case "flaky" if self.calls["flaky"] % 2:
                return web.json_response({"error": "not now"}, status=500)
            case "down":
                if request.transport is not None:
                    request.transport.abort()
                raise asyncio.CancelledError
            case "refusing":
                return web.json_response({"result": False, "error": "subscriber database is locked"})
            case "unknown":
                return web.json_response({"error": "no such subscriber"}, status=404)
            case "limited":
                return web.json_response({"error": "slow down"}, status=429, headers={"Retry-After": "1"})
        return None

    def _error_in(self, subscriber: Any) -> str | None:
        if not isinstance(subscriber, dict) or not re.fullmatch(r"[0-9]{6,15}", str(subscriber.get("imsi"))):
            return "an IMSI has 6 to 15 digits"
        for number in subscriber.get("msisdn", []):
            for imsi, other in self.subscribers.items():
                if imsi != subscriber["imsi"] and number in other.get("msisdn", []):
                    return "the number belongs to another IMSI"
        return None


@click.command(help="Run a stand-in HLR/HSS on this machine.")
@click.option("--port", default=8081, show_default=True, help="Port to listen on.")
@click.option("--token", required=True, help="The Bearer token to ask for.")
@click.option("--mood", type=click.Choice(MOODS), default="fine", show_default=True)
@click.option("--delay", default=1.0, show_default=True, help="Seconds that a slow answer takes.")
def main(port: int, token: str, mood: str, delay: float) -> None:
    web.run_app(Hlr(token, mood, delay).app, host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
