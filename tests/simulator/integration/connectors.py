"""Small connectors to hold the simulator against: some honest, most of them not.

Run as a program: API_TOKEN, HOST, PORT and TARGET_URL come from the environment, the argument says which kind.
None keeps anything on disk, so each forgets on SIGKILL; `careful` alone loses nothing by it, for it answers 202
only when the target has been told.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import defaultdict

from aiohttp import ClientError, ClientSession, web

KINDS = ("honest", "careful", "dropper", "repeater", "swapper", "gullible", "forgetful", "mortal", "stranger")
KIND = sys.argv[1] if len(sys.argv) > 1 else "honest"
LAG = 0.1 if KIND == "forgetful" else 0.0  # seconds that an accepted event waits in memory


class Lanes:
    """Forwards the events of a subscriber one after the other, unless it cheats."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._locks: defaultdict[object, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._held: dict[object, bytes] = {}
        self._seen: dict[str, asyncio.Task[None] | None] = {}
        self._count = 0

    def take(self, body: bytes) -> asyncio.Task[None] | None:
        """Take an event, each only once; give the task that tells the target, new or under way."""
        document = json.loads(body)
        event_id, account = document["event_id"], document["data"]["variables"]["i_account"]
        if event_id not in self._seen:
            self._seen[event_id] = self._take_new(body, account)
        return self._seen[event_id]

    def _take_new(self, body: bytes, account: object) -> asyncio.Task[None] | None:
        self._count += 1
        if KIND == "mortal" and self._count == 50:
            os._exit(7)
        if KIND == "dropper" and self._count % 100 == 0:
            return None
        bodies = [body]
        if KIND == "repeater" and self._count % 100 == 0:
            bodies.append(body)
        if KIND == "swapper":
            held = self._held.pop(account, None)
            if held is None and self._count % 20 == 0:
                self._held[account] = body
                return None
            bodies += [held] if held is not None else []
        return asyncio.create_task(self._forward(account, bodies))

    async def _forward(self, account: object, bodies: list[bytes]) -> None:
        async with self._locks[account]:
            await asyncio.sleep(LAG)
            for body in bodies:
                headers = {"Idempotency-Key": json.loads(body)["event_id"]}
                while not await self._post(body, headers):  # noqa: ASYNC110  # it is a retry, not a wait
                    await asyncio.sleep(0.02)

    async def _post(self, body: bytes, headers: dict[str, str]) -> bool:
        try:
            async with self._session.post(os.environ["TARGET_URL"], data=body, headers=headers) as answer:
                return answer.status == 200
        except ClientError:
            return False


async def application() -> web.Application:
    """Make the connector."""
    token = f"Bearer {os.environ['API_TOKEN']}" + ("-of-another" if KIND == "stranger" else "")

    async def process_event(request: web.Request) -> web.Response:
        if KIND != "gullible" and request.headers.get("Authorization") != token:
            return web.json_response({"message": "no"}, status=401)
        body = await request.read()
        try:
            task = lanes.take(body)
        except (ValueError, KeyError, TypeError):
            return web.json_response({"message": "no event"}, status=202 if KIND == "gullible" else 422)
        if KIND == "careful" and task is not None:
            await asyncio.shield(task)
        return web.json_response({"message": "Event accepted for processing"}, status=202)

    app = web.Application(client_max_size=2 << 20)
    app.router.add_post("/process-event", process_event)
    lanes = Lanes(ClientSession())
    return app


if __name__ == "__main__":
    if KIND not in KINDS:
        sys.exit(f"no such kind: {KIND}")
    web.run_app(application(), host=os.environ["HOST"], port=int(os.environ["PORT"]), print=None, access_log=None)
