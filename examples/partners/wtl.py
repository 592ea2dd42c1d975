"""PortaOne's published HLR/HSS connector, moved over: the same calls for the same events, with its own settings.

``TARGETS=wtl`` with ``WTL_URL``, ``WTL_AUTH=bearer`` and ``WTL_TOKEN`` (there: WTL_API_URL, WTL_API_TOKEN).
"""

import os
import re

from connector import DeadLetter, Event, Ignored, on
from connector.external import TargetResponse, Verdict, on_response, target

OURS = re.compile(os.environ.get("WTL_IMSI_REGEXP", ""))
PROFILES = {name: os.environ.get(f"WTL_DEFAULT_{name.upper()}", "default") for name in ("cs_profile", "eps_profile")}
PROFILE = re.compile(r"[a-zA-Z][-_.a-zA-Z0-9]*")


@on_response("wtl")
def error_inside(response: TargetResponse) -> Verdict | None:
    """An answer is well that says so, or says nothing at all."""
    answer: dict[str, object] = response.json() or {}
    well = answer["result"] if answer.get("result") is not None else answer.get("error") is None
    return None if well else Verdict("retry", str(answer.get("error") or "no reason given"))


@on("SIM/Updated", name="wtl.update", latest_only=True, skip_unless=["pb_data.sim_info.imsi"])
async def update(event: Event) -> str:
    """Bar or serve the card as the account is now; a card without an account is barred."""
    account, imsi = event.pb_data.account_info, event.pb_data.sim_info.imsi or ""
    if not OURS.search(imsi):
        raise Ignored("the IMSI does not match WTL_IMSI_REGEXP")
    is_open = account.bill_status == "open"
    number, realm, _ = (account.id or "").partition("@msisdn")
    found = {name: event.pb_data.attribute(name) or default for name, default in PROFILES.items()}
    if (
        not re.fullmatch("[0-9]{15}", imsi)
        or (is_open and not realm)
        or not all(map(PROFILE.fullmatch, found.values()))
    ):
        raise DeadLetter("an IMSI of 15 digits, an id that ends with @msisdn and names of profiles are needed")
    status = "serviceGranted" if is_open and not account.blocked else "operatorDeterminedBarring"
    subscriber = {"imsi": imsi, "subscriber_status": status, "msisdn": [number] if is_open else [], **found}
    await target("wtl").post("/prov", json=subscriber | {"action": "update"}, event=event)
    return status
