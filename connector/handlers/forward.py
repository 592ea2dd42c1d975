"""The forwarder: posts events to TARGET_URL, with no code to write.

``HANDLERS=connector.handlers.forward`` takes what no other handler takes. FORWARD_TYPES chooses event types (all, if
unset); FORWARD_MAPPING names a file that says what the body is made of (the event as it came, if unset).
"""

from connector.events.event import Event
from connector.external import target
from connector.external.mapping import MappingFile
from connector.handlers import on
from connector.outcome import Ignored
from connector.settings import Settings


@on("*")
async def forward(event: Event) -> str:
    """Post one event; done when the target has answered well."""
    client = target()
    if not chosen(event, client.settings):
        raise Ignored(f"FORWARD_TYPES leaves {event.event_type} out")
    response = await client.post(data=body(event, client.mapping), event=event)
    return f"Forwarded {event.event_type}: the target answered {response.status}"


def chosen(event: Event, settings: Settings) -> bool:
    """Whether events of this type are forwarded."""
    return not settings.forward_types or event.event_type in settings.forward_types


def body(event: Event, mapping: MappingFile | None) -> bytes:
    """What is posted."""
    return event.raw if mapping is None else mapping.body(event)
