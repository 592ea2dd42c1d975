"""What a run is: everything that two runs must share to be the same run."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from nsps_simulator.sending.profile import Plan
from nsps_simulator.wire.chaos import CALM, Chaos
from nsps_simulator.wire.population import LIFE, Population

PATH = "/process-event"  # of NSPS, when the URL names none


@dataclass(frozen=True)
class Endpoint:
    """Where the connector listens, and the token it wants; the token is never shown."""

    host: str
    port: int
    path: str
    tls: bool
    token: str = field(repr=False)

    @property
    def host_header(self) -> bytes:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode()

    @property
    def url(self) -> str:
        """The address in full."""
        return f"{'https' if self.tls else 'http'}://{self.host_header.decode()}{self.path}"


def endpoint(url: str, token: str) -> Endpoint:
    """Read a URL such as http://127.0.0.1:3000; without any path, not even a slash, it is NSPS's usual one.

    Raises ValueError that says what is wrong with it.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// address")
    if parts.username or parts.password:
        raise ValueError("the URL must not hold a user or a password; use --token")
    if not token.isascii() or not token.isprintable():
        raise ValueError("the token must be printable ASCII")
    path = parts.path or PATH
    if parts.query:
        path += f"?{parts.query}"
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError(f"the path {path!r} must be printable ASCII, percent-encoded")
    tls = parts.scheme == "https"
    return Endpoint(parts.hostname, parts.port or (443 if tls else 80), path, tls, token)


@dataclass(frozen=True)
class Scenario:
    """A run, seen from NSPS.

    timeout: seconds NSPS waits for an answer. patience: seconds after the plan's end in which retries go
    on. connections: how many may be open at once, for each generator process. closed: connections of a
    closed loop, 0 for the open one; it ends after closed_seconds. processes: how many generators share
    the plan.
    """

    seed: int
    endpoint: Endpoint
    plan: Plan
    subscribers: int = 100_000
    episode: int = 4
    cohort: int = 256
    flavour: str = LIFE
    time_scale: float = 60.0
    chaos: Chaos = CALM
    connections: int = 500
    timeout: float = 30.0
    patience: float = 60.0
    closed: int = 0
    closed_seconds: float = 0.0
    processes: int = 1

    def population(self) -> Population:
        """Make the subscribers. Raises ValueError when a number is out of its range."""
        return Population(self.seed, self.subscribers, episode=self.episode, cohort=self.cohort, flavour=self.flavour)

    @property
    def longest(self) -> float:
        """The seconds after which the generators give up."""
        return (self.closed_seconds if self.closed else self.plan.seconds) + self.patience
