"""The HLR/HSS connector in every order of arrival and with any attempt failing: the newest event of a card decides."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector import Event, Retry
from connector.external import Kind, TargetRetry
from examples.hlr_hss import handlers
from examples.hlr_hss.provisioning import BARRED, GRANTED
from tests.delivering import delivering
from tests.journal_support.faulty_disk import IN_MEMORY


class Card(NamedTuple):
    """A card in the HLR/HSS."""

    status: str
    msisdn: list[str]


class Sent(NamedTuple):
    """An event: its type, when, of which account, whether blocked, its card and the one before."""

    event_type: str
    second: int
    account: int
    card: str | None
    previous: str | None = None
    blocked: bool = False


def imsi(card: str) -> str:
    return f"00101{int(card):010d}"


def fields(sent: Sent) -> dict[str, Any]:
    """What the event says beside its id."""
    account = {
        "i_account": sent.account,
        "id": f"9990000{sent.account:04d}@msisdn",
        "bill_status": "open",
        "blocked": sent.blocked,
    }
    return {
        "updated_at": f"1970-01-01T00:00:{sent.second:02d}Z",
        "pb_data": {
            "account_info": account,
            "sim_info": None if sent.card is None else {"imsi": imsi(sent.card), "i_account": sent.account},
            "prev_sim_info": None if sent.previous is None else {"imsi": imsi(sent.previous)},
        },
    }


class Hlr:
    """An HLR/HSS that knows a number once only; the calls in ``failing`` (event id and card) fail once."""

    def __init__(self, failing: set[tuple[str, str]]) -> None:
        self.cards: dict[str, Card] = {}
        self._failing = failing

    async def provision(self, event: Event, subscriber: Mapping[str, Any], step: str = "") -> None:
        """Take the place of the call over HTTP."""
        await asyncio.sleep(0)
        call = (event.event_id, subscriber["imsi"])
        if call in self._failing:
            self._failing.remove(call)
            raise Retry("not now")
        for card, other in self.cards.items():
            if card != subscriber["imsi"] and set(other.msisdn) & set(subscriber["msisdn"]):
                raise TargetRetry("the number belongs to another card", Kind.FAILED)
        self.cards[subscriber["imsi"]] = Card(subscriber["subscriber_status"], subscriber["msisdn"])


async def deliver(events: Sequence[Sent], order: Sequence[int], failing: set[tuple[str, str]]) -> dict[str, Card]:
    """The cards of the HLR/HSS after the events came in this order."""
    hlr = Hlr(failing)
    with TemporaryDirectory(dir=IN_MEMORY) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(handlers, "provision", hlr.provision)
        async with delivering(Path(folder), handlers.release, handlers.update) as delivery:
            for place in order:
                sent = events[place]
                await delivery.accept(f"{place}", sent.account, sent.event_type, **fields(sent))
            await delivery.until(lambda: delivery.journal.size == 0)
            assert {series.state for series in delivery.find()} <= {"done", "superseded", "ignored"}
    return hlr.cards


def granted(account: int) -> Card:
    return Card(GRANTED, [f"9990000{account:04d}"])


OUT = Card(BARRED, [])

MOVED = (
    Sent("SIM/Updated", 1, 20, "20"),
    Sent("SIM/Replaced", 30, 20, "98", "20"),
    Sent("SIM/Replaced", 31, 21, "20"),
)
"""A card goes from account 20, which gets another one, to account 21."""

BLOCKED_SINCE = (
    Sent("SIM/Replaced", 10, 2, "2", "3"),
    Sent("SIM/Updated", 20, 2, "2", blocked=True),
)
"""An account gets a card, and is blocked afterwards."""

REMOVED = (
    Sent("SIM/Updated", 1, 5, "5"),
    Sent("SIM/Replaced", 10, 5, None, "5"),
    Sent("SIM/Replaced", 20, 6, "5"),
    Sent("SIM/Replaced", 30, 6, None, "5"),
)
"""A card is removed from its account, given to another one, and removed again."""

RECYCLED = (
    Sent("SIM/Updated", 1, 7, "7"),
    Sent("SIM/Replaced", 10, 7, "8", "7"),
    Sent("SIM/Replaced", 20, 7, "7", "8"),
)
"""A number goes to another card, and back."""

STORIES = {
    "moved": (MOVED, {"20": granted(21), "98": granted(20)}),
    "blocked since": (BLOCKED_SINCE, {"2": Card(BARRED, ["99900000002"]), "3": OUT}),
    "removed": (REMOVED, {"5": OUT}),
    "recycled": (RECYCLED, {"7": granted(7), "8": OUT}),
}


@pytest.mark.parametrize("story", STORIES)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_each_card_ends_as_its_newest_event_says(story: str, data: st.DataObject) -> None:
    events, expected = STORIES[story]
    order = data.draw(st.permutations(range(len(events))))
    calls = [
        (f"{place}", imsi(card))
        for place, sent in enumerate(events)
        for card in (sent.card, sent.previous)
        if card is not None
    ]
    failing = set(data.draw(st.lists(st.sampled_from(calls), max_size=3)))
    assert asyncio.run(deliver(events, order, failing)) == {imsi(card): state for card, state in expected.items()}


async def test_event_without_an_imsi_is_ignored_and_a_card_without_an_account_is_barred(tmp_path: Path) -> None:
    hlr = Hlr(set())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handlers, "provision", hlr.provision)
        async with delivering(tmp_path, handlers.release, handlers.update) as delivery:
            await delivery.accept("without imsi", pb_data={"account_info": {"bill_status": "open"}, "sim_info": None})
            await delivery.accept("no account", event_type="SIM/Created", pb_data={"sim_info": {"imsi": imsi("9")}})
            await delivery.become(**{"without imsi": "ignored", "no account": "done"})
            assert delivery.find()[0].reason == "pb_data.sim_info.imsi is missing"
    assert hlr.cards == {imsi("9"): OUT}
