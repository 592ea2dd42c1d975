"""The default handler: takes every event and says so in the log."""

from connector.events.event import Event
from connector.handlers import on


@on("*")
async def log(event: Event) -> str:
    """Log the event's type and the account's bill status."""
    return f"Received event: {event.event_type} | bill status: {event.pb_data.account_info.bill_status}"
