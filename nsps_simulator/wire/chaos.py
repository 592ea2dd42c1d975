"""What goes wrong on the way to the connector, and for which events: drawn from the seed, so that it can
be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from nsps_simulator.wire.draw import branch, draw


class Trouble(IntEnum):
    """What an attempt suffers."""

    NONE = 0
    CUT = 1  # the connection is cut before the answer was read
    SLOW = 2  # the body trickles in
    TOKEN = 3  # the token is wrong: 401 is due
    GARBAGE = 4  # no event at all: a 4xx, or a closed connection, is due


GARBAGE_BURST = 8  # one of each kind


@dataclass(frozen=True)
class Chaos:
    """The share (0 to 1) of events whose first attempt suffers each trouble; garbage comes beside the
    event, in bursts.

    Raises ValueError when a share is out of its range or they add up to more than 1.
    """

    cut: float = 0.0
    slow: float = 0.0
    token: float = 0.0
    garbage: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.cut, self.slow, self.token, self.garbage)
        if not all(0 <= share <= 1 for share in shares) or sum(shares) > 1:
            raise ValueError("the shares of chaos must each be 0 to 1, and 1 at the most together")

    @property
    def any(self) -> bool:
        """Whether anything goes wrong at all."""
        return self.cut + self.slow + self.token + self.garbage > 0


CALM = Chaos()
MIXED = Chaos(cut=0.01, slow=0.002, token=0.002, garbage=0.0005)
SURE_WITHIN = 600  # events: each trouble that was asked for happens at least once among so many


class Fate:
    """Draws the trouble of each of `events` events; one event for each trouble that was asked for is sure to
    have it, however small its share.
    """

    def __init__(self, seed: int, chaos: Chaos, events: int) -> None:
        self._seed = branch(seed, "chaos")
        whole = 1 << 64
        self._bounds = []
        self._sure: dict[int, Trouble] = {}
        span = min(events, SURE_WITHIN)
        bound = 0.0
        for place, (share, trouble) in enumerate(
            (
                (chaos.token, Trouble.TOKEN),
                (chaos.garbage, Trouble.GARBAGE),
                (chaos.cut, Trouble.CUT),
                (chaos.slow, Trouble.SLOW),
            )
        ):
            bound += share
            self._bounds.append((int(bound * whole), trouble))
            if share:
                self._sure.setdefault(place * span // 5, trouble)

    def of(self, index: int) -> Trouble:
        """Say what the first attempt of an event suffers; GARBAGE means that garbage comes along with it."""
        if (sure := self._sure.get(index)) is not None:
            return sure
        luck = draw(self._seed, index)
        for bound, trouble in self._bounds:
            if luck < bound:
                return trouble
        return Trouble.NONE


GARBAGE = (
    b"POST %b HTTP/1.1\r\n%bContent-Length: 9\r\n\r\nnot JSON!",
    b"POST %b HTTP/1.1\r\n%bContent-Length: 0\r\n\r\n",
    b'POST %b HTTP/1.1\r\n%bContent-Length: 27\r\n\r\n{"data":{"event_type":null}',
    b'POST %b HTTP/1.1\r\n%bContent-Length: 26\r\n\r\n[{"event_type":"SIM/Up"}] ',
    b"POST %b/no/such/path HTTP/1.1\r\n%bContent-Length: 2\r\n\r\n{}",
    b"DELETE %b HTTP/1.1\r\n%bContent-Length: 0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03%b%b\r\n\r\n",
    b'POST %b HTTP/1.1\r\n%bContent-Length: 31\r\n\r\n{"event_id":7,"data":{"a":"\xff"}}',
)


def garbage(number: int, path: bytes, headers: bytes) -> bytes:
    """Render a request that is no event; `headers` end with a line break each.

    It is due a 4xx, or a closed connection. A 2xx accepts what is no event, and a 500 says that the connector
    has an error of its own.
    """
    return GARBAGE[number % len(GARBAGE)] % (path, headers)
