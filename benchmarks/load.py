"""What is sent, and what a client tells about its run."""

import json
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

TOKEN: Final = "benchmark"
EXAMPLE: Final = Path(__file__).parent.parent / "examples" / "events" / "sim-updated.json"
EVENT_FILE: Final = "BENCH_EVENT"
"""Variable that names another example: the clients are processes of their own."""

SUBSCRIBERS: Final = 50_000
"""Different values of i_account; each has the same number of digits, so that every request is as long."""

_FIRST: Final = 10_000


class Answers(msgspec.Struct, frozen=True):
    """A client's account of its run.

    ``seconds``     from the first request to the last answer
    ``accepted``    answers that were 202
    ``refused``     answers that were anything else
    ``p50``, ``p95``, ``p99``  latency in milliseconds; in an open loop from the moment a request was due
    ``cpu``         share of its core that the client used, 0 to 1; near 1 the client was the limit
    """

    seconds: float
    accepted: int
    refused: int
    p50: float
    p95: float
    p99: float
    cpu: float


class Template(NamedTuple):
    """The example event in three pieces; an event id goes between the first two, an i_account into the third."""

    head: bytes
    middle: tuple[bytes, ...]

    def body(self, event_id: bytes, i_account: bytes) -> bytes:
        """One event."""
        return self.head + event_id + i_account.join(self.middle)


def template() -> Template:
    """The example event of about 1.6 KB, without spaces."""
    event = json.loads(Path(os.environ.get(EVENT_FILE, EXAMPLE)).read_bytes())
    event["event_id"] = "@event_id@"
    _own_card(event)
    text = json.dumps(event, separators=(",", ":")).encode()
    head, rest = text.split(b"@event_id@")
    return Template(head, tuple(rest.split(str(event["pb_data"]["account_info"]["i_account"]).encode())))


def _own_card(event: dict[str, Any]) -> None:
    """Give each subscriber cards of his own: events that share a card are run one after the other."""
    account = str(event["pb_data"]["account_info"]["i_account"])
    for place, card in enumerate(("sim_info", "prev_sim_info")):
        if event["pb_data"].get(card):
            event["pb_data"][card]["imsi"] = f"00101{place:05}{account}"


def event_id(run: int, number: int) -> bytes:
    """The id of event ``number`` of run ``run``, in the form of a UUID."""
    return b"%08x-0000-4000-8000-%012x" % (run & 0xFFFFFFFF, number)


def i_account(number: int, subscribers: int = SUBSCRIBERS) -> bytes:
    """The subscriber of event ``number``: five digits."""
    return b"%d" % (_FIRST + number % subscribers)
