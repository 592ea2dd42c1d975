"""The handlers: ``HANDLERS=examples.hlr_hss.handlers``, with TARGET_URL and TARGET_TOKEN of the HLR/HSS.

A SIM/Replaced is about two cards, so it has two handlers. Both, and that of SIM/Updated, write the state of a card, so
they share what is the newest of it: whichever event of a card is the newest decides, in whatever order they come.
"""

import os
from typing import Any

from connector import Event, on
from connector.external import Kind, TargetRetry, target
from examples.hlr_hss.provisioning import Profiles

PROFILES = Profiles.load(os.environ)

CARD = "hlr-card"
"""What the handlers write: the state of a card in the HLR/HSS."""


@on(
    "SIM/Replaced",
    name="hlr.release",
    resource="previous_card",
    latest_only=CARD,
    skip_unless=["pb_data.prev_sim_info.imsi"],
)
async def release(event: Event) -> str:
    """Bar the old card and take its number, since the HLR/HSS knows a number once only; first of the two."""
    released = PROFILES.released(event)
    if released is None:
        return "No other card was replaced"
    await provision(event, released, step="release")
    return "Released the old card"


@on(
    "SIM/Created",
    "SIM/Updated",
    "SIM/Replaced",
    name="hlr.update",
    resource="card",
    latest_only=CARD,
    skip_unless=["pb_data.sim_info.imsi"],
)
async def update(event: Event) -> str:
    """Provision the card as it is now; without an account it is barred."""
    subscriber = PROFILES.subscriber(event)
    await provision(event, subscriber)
    return f"Provisioned: {subscriber['subscriber_status']}"


async def provision(event: Event, subscriber: dict[str, Any], step: str = "") -> None:
    """Tell the HLR/HSS. It may say no with a 200; why is in its ``error``."""
    answer = await target().post("/prov", json=subscriber, event=event, step=step)
    said = answer.json()
    if not isinstance(said, dict) or said.get("result") is not True:
        error = said.get("error") if isinstance(said, dict) else None
        raise TargetRetry(f"the HLR/HSS refused: {str(error)[:200]}", Kind.FAILED, answer)
