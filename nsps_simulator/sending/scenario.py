"""What a run is: everything that two runs must share to be the same run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsps_simulator.sending.profile import Plan, shares
from nsps_simulator.wire.chaos import CALM, Chaos
from nsps_simulator.wire.endpoint import TRUST_THE_SYSTEM, Endpoint, Tls
from nsps_simulator.wire.events import Events
from nsps_simulator.wire.population import LIFE, Population
from nsps_simulator.wire.retry import GUIDE, Gaps

RANDOM = "random"
SUBSCRIBER = "subscriber"


@dataclass(frozen=True)
class Scenario:
    """A run, seen from NSPS.

    endpoints: where the connector's replicas listen. spread: RANDOM picks one for each attempt, SUBSCRIBER
    always the same one for a subscriber. timeout: seconds NSPS waits for an answer. patience: seconds after
    the plan's end in which retries go on. connections: how many may be open at once to each replica, for each
    generator process. closed: connections of a closed loop, 0 for the open one; it ends after
    closed_seconds. processes: how many generators share the plan. gaps: the retry schedule. only: the one
    subscriber whose events are sent, None for all. precise: events leave on the microsecond and not on
    the millisecond, for which the generator keeps its core busy.
    """

    seed: int
    endpoints: tuple[Endpoint, ...]
    plan: Plan
    subscribers: int = 100_000
    episode: int = 4
    cohort: int = 256
    flavour: str = LIFE
    perl: float = 0.0
    time_scale: float = 60.0
    gaps: Gaps = GUIDE
    chaos: Chaos = CALM
    connections: int = 500
    timeout: float = 30.0
    patience: float = 60.0
    closed: int = 0
    closed_seconds: float = 0.0
    processes: int = 1
    spread: str = RANDOM
    only: int | None = None
    precise: bool = False
    tls: Tls = TRUST_THE_SYSTEM

    def population(self) -> Population:
        """Make the subscribers. Raises ValueError when a number is out of its range."""
        return Population(self.seed, self.subscribers, episode=self.episode, cohort=self.cohort, flavour=self.flavour)

    def events(self) -> Events:
        """Make the events."""
        return Events(self.seed, self.population(), perl=self.perl)

    def mine(self, number: int) -> Sequence[int]:
        """Give the events that generator `number` sends."""
        share = shares(self.plan.events, self.processes)[number]
        if self.only is None:
            return share
        population = self.population()
        return [index for index in share if population.locate(index)[0] == self.only]

    @property
    def load_seconds(self) -> float:
        """How long new events leave."""
        return self.closed_seconds if self.closed else self.plan.seconds

    @property
    def longest(self) -> float:
        """The seconds after which the generators give up."""
        return self.load_seconds + self.patience
