"""Notices in a chat room, by an incoming webhook: ``CHAT_URL`` is its address, ``CHAT_RATE=1`` its limit."""

from connector import Event, on
from connector.external import target

SAYS = {
    "Account/Blocked": "is blocked",
    "Account/Unblocked": "is in service again",
    "SIM/Replaced": "has another SIM card",
}


@on(*SAYS, name="chat.notice", skip_unless=["pb_data.account_info.i_account"])
async def notice(event: Event) -> str:
    """Say in the room what happened, by the account's number alone."""
    text = f"Account {event.pb_data.account_info.i_account} {SAYS[event.event_type]}"
    await target("chat").post(json={"text": text}, event=event)
    return "Said in the chat"
