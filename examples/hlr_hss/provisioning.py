"""What the HLR/HSS is told about a SIM, as values made from an event. Pure: no I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from connector import DeadLetter, Event
from connector.events.body import AccountInfo, CardInfo

GRANTED = "serviceGranted"
BARRED = "operatorDeterminedBarring"

IMSI = re.compile(r"[0-9]{6,15}")
"""An IMSI: at most 15 digits, of which five or six name the network (ITU-T E.212)."""


@dataclass(frozen=True)
class Profiles:
    """What an operator sets: which IMSIs are its own, and the profiles where the access policy names none."""

    own_imsi: re.Pattern[str] | None
    cs_profile: str
    eps_profile: str

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> "Profiles":
        """The settings HLR_IMSI_PATTERN, HLR_CS_PROFILE and HLR_EPS_PROFILE. Raises ValueError."""
        pattern = environment.get("HLR_IMSI_PATTERN", "")
        try:
            own_imsi = re.compile(pattern) if pattern else None
        except re.error as error:
            raise ValueError(f"HLR_IMSI_PATTERN is no regular expression: {error}") from None
        return cls(
            own_imsi, environment.get("HLR_CS_PROFILE") or "default", environment.get("HLR_EPS_PROFILE") or "default"
        )

    def imsi(self, card: CardInfo) -> str:
        """The card's IMSI. Raises DeadLetter where it is none, or none of this operator's."""
        imsi = card.imsi or ""
        if not IMSI.fullmatch(imsi):
            raise DeadLetter("the IMSI does not have 6 to 15 digits")
        if self.own_imsi is not None and not self.own_imsi.fullmatch(imsi):
            raise DeadLetter("the IMSI does not match HLR_IMSI_PATTERN")
        return imsi

    def subscriber(self, event: Event) -> dict[str, Any]:
        """The subscriber as the event's snapshot has it. Raises DeadLetter where the IMSI is wrong."""
        account = event.pb_data.account_info
        return {
            "imsi": self.imsi(event.pb_data.sim_info),
            "subscriber_status": GRANTED if account.in_service else BARRED,
            "msisdn": msisdns(account),
            "cs_profile": attribute(event, "cs_profile") or self.cs_profile,
            "eps_profile": attribute(event, "eps_profile") or self.eps_profile,
        }

    def released(self, event: Event) -> dict[str, Any] | None:
        """The old SIM, barred and without a number; None where there is none. Raises DeadLetter as above."""
        old = event.pb_data.prev_sim_info
        if not old.imsi or old.imsi == event.pb_data.sim_info.imsi:
            return None
        return {"imsi": self.imsi(old), "subscriber_status": BARRED, "msisdn": []}


def is_open(account: AccountInfo) -> bool:
    """Whether the account may use services as far as billing goes, blocked or not."""
    return structs.replace(account, blocked=False).in_service


def msisdns(account: AccountInfo) -> list[str]:
    """The account's number, one at most, and none unless the account is open."""
    number, _, realm = (account.id or "").partition("@")
    return [number] if is_open(account) and realm == "msisdn" and number else []


def attribute(event: Event, name: str) -> str | None:
    """The value of an attribute of the access policy, whatever its group."""
    attributes = event.pb_data.access_policy_info.attributes or []
    return next((each.value for each in attributes if each.name == name and each.value), None)
