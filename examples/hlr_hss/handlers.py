"""The handlers: ``HANDLERS=examples.hlr_hss.handlers``, with TARGET_URL and TARGET_TOKEN of the HLR/HSS."""

import os
from typing import Any

from connector import Event, on
from connector.external import Kind, TargetRetry, target
from examples.hlr_hss.provisioning import Profiles

PROFILES = Profiles.load(os.environ)

NEEDED = ["pb_data.sim_info.imsi"]


@on("SIM/Updated", require=NEEDED, latest_only=True)
async def update(event: Event) -> str:
    """Provision the SIM as it is now; an older snapshot is never applied over a newer one."""
    subscriber = PROFILES.subscriber(event)
    await provision(event, subscriber)
    return f"Provisioned: {subscriber['subscriber_status']}"


@on("SIM/Replaced", require=NEEDED)  # not latest_only: a newer event must not keep the old SIM from being released
async def replace(event: Event) -> str:
    """Release the old SIM, since the HLR/HSS knows a number once only, then provision the new one."""
    subscriber, released = PROFILES.subscriber(event), PROFILES.released(event)
    if released is not None:
        await provision(event, released, step="release")
    await provision(event, subscriber)
    return f"Replaced: {subscriber['subscriber_status']}"


async def provision(event: Event, subscriber: dict[str, Any], step: str = "") -> None:
    """Tell the HLR/HSS. It may say no with a 200; why is in its ``error``."""
    answer = await target().post("/prov", json=subscriber, event=event, step=step)
    said = answer.json()
    if not isinstance(said, dict) or said.get("result") is not True:
        error = said.get("error") if isinstance(said, dict) else None
        raise TargetRetry(f"the HLR/HSS refused: {str(error)[:200]}", Kind.FAILED, answer)
