"""The load client: the generator of the simulator (``nsps_simulator``), with the events of the benchmarks.

``python -m benchmarks.client PORT SECONDS CONNECTIONS [RATE]`` prints ``Answers`` as JSON. Without a rate each
connection sends its next event when the last one is answered. With a rate events fall due at random moments (Poisson,
always the same ones) whether or not the server keeps up, and latency counts from when an event was due.
"""

import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from benchmarks.load import SUBSCRIBERS, TOKEN, Answers, event_id, i_account, template
from nsps_simulator.records import ATTEMPT, Writer, attempts
from nsps_simulator.sending.profile import POISSON, Plan, steady
from nsps_simulator.sending.scenario import Scenario
from nsps_simulator.sending.sender import Sender
from nsps_simulator.wire.endpoint import endpoint
from nsps_simulator.wire.events import Events
from nsps_simulator.wire.population import Population

_PATIENCE: Final = 10.0
"""Seconds that the last answers may take."""

_FASTEST: Final = 60_000
"""Events a second that no server here takes: how many a closed loop has ready."""


class _Bodies(Events):
    """Event ``number`` of a run, as ``benchmarks.load`` makes it."""

    def __init__(self, run: int, subscribers: int) -> None:
        super().__init__(run, Population(run, 1))
        self._run = run
        self._subscribers = subscribers
        self._body = template().body

    def request(self, index: int, attempt: int) -> tuple[bytes, bytes, bytes]:
        """Body, trace id and request id."""
        body = self._body(event_id(self._run, index), i_account(index, self._subscribers))
        return body, b"4bf92f3577b34da6a3ce929d0e0e4736", b"0b6f4a52-7c1d-4d0f-8e55-3f6c1a2b9d77"


@dataclass(frozen=True)
class _Load(Scenario):
    """A run of the generator with these bodies; ``subscribers`` are theirs."""

    def events(self) -> Events:
        return _Bodies(self.seed, self.subscribers)


class Client:
    """Sends events for ``seconds`` and counts the answers."""

    def __init__(
        self, port: int, seconds: float, connections: int, rate: float | None, subscribers: int = SUBSCRIBERS
    ) -> None:
        plan = (
            Plan(steady(_FASTEST, 1), int(_FASTEST * seconds))
            if rate is None
            else Plan(steady(rate, seconds), None, POISSON, 1)
        )
        self._load = _Load(
            seed=random.SystemRandom().getrandbits(32),
            endpoints=(endpoint(f"http://127.0.0.1:{port}", TOKEN),),
            plan=plan,
            subscribers=subscribers,
            gaps=(),
            connections=connections,
            patience=_PATIENCE,
            closed=connections if rate is None else 0,
            closed_seconds=seconds,
            precise=True,
        )

    async def run(self) -> Answers:
        """Open the connections, send, wait for the last answer. Raises ConnectionError where one got no answer."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "attempts"
            writer = Writer(path, ATTEMPT)
            sender = Sender(self._load, range(self._load.plan.events), writer)
            started = time.monotonic() + 0.1
            await sender.run(started)
            writer.close()
            ends = list(attempts([path]))
        if lost := sum(each.status < 100 for each in ends):
            raise ConnectionError(f"{lost} of {len(ends)} events got no answer")
        accepted = sum(each.status == 202 for each in ends)
        ranked = sorted(each.ended - each.due for each in ends)
        p50, p95, p99 = (round(ranked[int(share * (len(ranked) - 1))] * 1000, 3) for share in (0.5, 0.95, 0.99))
        effort = sender.effort
        seconds = max(each.ended for each in ends) - started
        return Answers(seconds, accepted, len(ends) - accepted, p50, p95, p99, effort.cpu / effort.wall)


def main() -> None:
    """Run the client that the command line asks for."""
    port, seconds, connections, *rate = sys.argv[1:]
    client = Client(int(port), float(seconds), int(connections), float(rate[0]) if rate else None)
    print(msgspec.json.encode(uvloop.run(client.run())).decode())


if __name__ == "__main__":
    main()
