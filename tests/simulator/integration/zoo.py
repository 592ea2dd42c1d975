"""Small connectors to hold the simulator against: one is honest, the others each have one vice.

Run as a program: API_TOKEN, HOST, PORT and TARGET_URL come from the environment, ZOO_JOURNAL names a file of its own,
the argument says which kind. The honest one keeps each event in the file before it answers, orders by environment,
account and card, and tells the target again after a kill what it had not noted as told.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

VICES = {
    "honest": "none",
    "drops": "tells nobody of one event in 250",
    "forgets": "keeps its events in memory only",
    "forgets-on-stop": "keeps its events in memory only, and stops at once",
    "writes-late": "keeps an event 50 ms after it has answered",
    "swaps": "holds an event back until the account's next one",
    "overlaps": "tells of two events of an account at the same time",
    "card-blind": "orders by account, and lets two accounts handle one card at the same time",
    "repeats": "tells twice",
    "repeats-late": "tells again half a second later",
    "resends-old": "tells of the account's event before again, after the newer one",
    "old-body": "sends the account's state of before under the new id",
    "alters": "sends another IMSI",
    "strips": "leaves pb_data out",
    "empties": "sends an empty object",
    "mixes": "sends another account's body",
    "takes-garbage": "answers 202 to what is no event",
    "errs-on-garbage": "answers 500 to what is no event",
    "takes-any-token": "looks at no token",
    "leaks": "quotes its last event in an error",
    "stops": "tells nobody any more after 300 events",
    "stalls": "does nothing for 0.5 s in every second, though each answer is quick",
    "dies": "ends by itself",
    "gives-up": "tries once",
    "patient": "none, but it waits for a minute after a refusal",
    "no-order": "keeps nothing, and answers when it has told the target",
    "wants-another-token": "knows another token",
}
KIND = sys.argv[1] if len(sys.argv) > 1 else "honest"
ATTEMPTS = 1 if KIND == "gives-up" else 1_000_000


class Journal:
    """A file of lines: `+` and a body for an event that was accepted, `-` and its id when the target was told."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file = self._path.open("ab", buffering=0)

    def open_events(self) -> list[bytes]:
        """The bodies of the events that were not noted as told, in the order of acceptance."""
        bodies: dict[str, bytes] = {}
        told = set()
        for line in self._path.read_bytes().splitlines():
            if line.startswith(b"+"):
                bodies.setdefault(json.loads(line[1:])["event_id"], line[1:])
            else:
                told.add(line[1:].decode())
        self.known = set(bodies)
        return [body for event_id, body in bodies.items() if event_id not in told]

    def keep(self, body: bytes) -> None:
        """Keep an event."""
        self._file.write(b"+" + body + b"\n")

    def settle(self, event_id: str) -> None:
        """Note that the target was told."""
        self._file.write(b"-" + event_id.encode() + b"\n")


def resources(document: dict[str, Any]) -> list[str]:
    """What an event touches: accounts, cards, customers and numbers, each with its environment."""
    variables, data = document["data"]["variables"], document["pb_data"]
    kind = document["data"]["event_type"].partition("/")[0]
    found = [f"{name}{variables[name]}" for name in ("i_account",) if name in variables]
    if kind == "SIM" and KIND != "card-blind":
        cards = [data[name]["imsi"] for name in ("sim_info", "prev_sim_info") if data.get(name)]
        found += [f"card{imsi}" for imsi in cards]
    if kind in {"Customer", "DID"}:
        found.append(f"{kind}{variables['i_customer']}")
    return sorted(f"{variables['i_env']}:{name}" for name in found or ["none"])


class Connector:
    """Takes events and tells the target of them, one after the other where they touch the same, unless it cheats."""

    def __init__(self, session: ClientSession, journal: Journal) -> None:
        self._session = session
        self._journal = journal
        self._queues: defaultdict[str, list[int]] = defaultdict(list)
        self._moved = asyncio.Condition()
        self._number = 0
        self._held: dict[str, bytes] = {}
        self._last: dict[str, bytes] = {}
        self._last_of_all = b"{}"
        self._told = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def resume(self) -> None:
        """Go on where the last process ended."""
        for body in self._journal.open_events():
            self._hand_over(body)

    async def drain(self, _: web.Application) -> None:
        """Finish what is under way; all connections are closed by now, so nothing new comes."""
        patience = 30.0 if KIND == "honest" else 1.0
        if self._tasks and KIND != "forgets-on-stop":
            await asyncio.wait(self._tasks, timeout=patience)

    @property
    def last(self) -> str:
        """The body of the last event."""
        return self._last_of_all.decode()

    async def tell_at_once(self, body: bytes) -> None:
        """Tell the target; the answer to NSPS waits for it. Raises as `take` does."""
        document = json.loads(body)
        resources(document)
        await self._tell(document["event_id"], body)

    def take(self, body: bytes) -> None:
        """Take an event, each only once. Raises ValueError, KeyError or TypeError for what is none."""
        document = json.loads(body)
        event_id = document["event_id"]
        resources(document)
        if event_id in self._journal.known:
            return
        self._journal.known.add(event_id)
        if KIND == "dies" and len(self._journal.known) == 50:
            os._exit(7)
        if KIND == "writes-late":
            asyncio.get_running_loop().call_later(0.05, self._keep_and_hand_over, body)
            return
        if KIND not in {"forgets", "forgets-on-stop"}:
            self._journal.keep(body)
        self._last_of_all = body
        if KIND == "drops" and len(self._journal.known) % 250 == 0:
            return
        self._hand_over(body)

    def _keep_and_hand_over(self, body: bytes) -> None:
        self._journal.keep(body)
        self._hand_over(body)

    def _hand_over(self, body: bytes) -> None:
        touched = resources(json.loads(body))
        if KIND == "swaps":
            held = self._held.pop(touched[0], None)
            if held is None and self._number % 10 == 0:
                self._held[touched[0]] = body
                self._number += 1
                return
            self._start(body, touched)
            if held is not None:
                self._start(held, touched)
            return
        self._start(body, touched)

    def _start(self, body: bytes, touched: list[str]) -> None:
        number = self._number = self._number + 1
        if KIND == "overlaps":
            touched = []
        for name in touched:
            self._queues[name].append(number)
        task = asyncio.create_task(self._forward(number, body, touched))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, number: int, body: bytes, touched: list[str]) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: all(self._queues[name][0] == number for name in touched))
        event_id = json.loads(body)["event_id"]
        self._told += 1
        if KIND == "stops" and self._told > 300:
            await asyncio.sleep(3600)
        if KIND == "card-blind":
            await asyncio.sleep(random.random() * 0.3)  # as a slow network to the target would
        if KIND == "forgets":
            await asyncio.sleep(0.1)
        before = self._last.get(touched[0]) if touched else None
        await self._tell(event_id, self._spoilt(body, before))
        if KIND == "repeats" and number % 50 == 0:
            await self._tell(event_id, body)
        if KIND == "repeats-late" and number % 50 == 0:
            again = asyncio.create_task(self._later(event_id, body))
            self._tasks.add(again)
        if KIND == "resends-old" and before is not None and number % 20 == 0:
            await self._tell(json.loads(before)["event_id"], before)
        if touched:
            self._last[touched[0]] = body
        self._journal.settle(event_id)
        async with self._moved:
            for name in touched:
                self._queues[name].pop(0)
            self._moved.notify_all()

    async def _later(self, event_id: str, body: bytes) -> None:
        await asyncio.sleep(0.5)
        await self._tell(event_id, body)

    def _spoilt(self, body: bytes, before: bytes | None) -> bytes:
        """What is sent in place of a body."""
        document = json.loads(body)
        match KIND:
            case "old-body" if before is not None:
                document["pb_data"] = json.loads(before)["pb_data"]
            case "alters" if document["pb_data"].get("sim_info"):
                document["pb_data"]["sim_info"]["imsi"] = "001019999999999"
            case "strips":
                del document["pb_data"]
            case "empties":
                return b"{}"
            case "mixes" if self._last:
                return random.choice(list(self._last.values()))
            case _:
                return body
        return json.dumps(document).encode()

    async def _tell(self, event_id: str, body: bytes) -> None:
        headers = {"Idempotency-Key": event_id, "Content-Type": "application/json"}
        for _ in range(ATTEMPTS):
            try:
                url = os.environ["TARGET_URL"]
                async with self._session.post(url, data=body, headers=headers) as answer:
                    if answer.status == 200:
                        return
            except (ClientError, TimeoutError):
                pass
            await asyncio.sleep(60 if KIND == "patient" else 0.02)


async def application() -> web.Application:
    """Make the connector."""
    wanted = f"Bearer {os.environ['API_TOKEN']}" + ("-of-another" if KIND == "wants-another-token" else "")
    connector = Connector(ClientSession(timeout=ClientTimeout(total=30)), Journal(os.environ["ZOO_JOURNAL"]))

    async def process_event(request: web.Request) -> web.Response:
        if KIND != "takes-any-token" and request.headers.get("Authorization") != wanted:
            return web.json_response({"message": "no"}, status=401)
        if KIND == "stalls" and asyncio.get_running_loop().time() % 1 < 0.5:
            await asyncio.sleep(0.5)
        try:
            if KIND == "no-order":
                await connector.tell_at_once(await request.read())
            else:
                connector.take(await request.read())
        except (ValueError, KeyError, TypeError):
            said = connector.last if KIND == "leaks" else "no event"
            status = {"takes-garbage": 202, "errs-on-garbage": 500}.get(KIND, 422)
            return web.json_response({"message": said}, status=status)
        return web.json_response({"message": "Event accepted for processing"}, status=202)

    async def resume(_: web.Application) -> None:
        connector.resume()

    app = web.Application(client_max_size=2 << 20)
    app.router.add_post("/process-event", process_event)
    app.on_startup.append(resume)
    app.on_cleanup.append(connector.drain)
    return app


if __name__ == "__main__":
    if KIND not in VICES:
        sys.exit(f"no such kind: {KIND}")
    web.run_app(application(), host=os.environ["HOST"], port=int(os.environ["PORT"]), print=None, access_log=None)
