"""Handlers whose outcome a test decides while a request waits for it."""

import asyncio

from connector import DeadLetter, Event, Ignored, Retry, on

handled: list[str] = []
faults: dict[str, Exception] = {}
gate = asyncio.Event()
begun = asyncio.Event()


class Failed(Retry):
    """The external system failed in some way."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the target is {kind}", after=0.01)
        self.kind = kind


class Refused(DeadLetter):
    """The external system will never take the event."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the target says {kind}")
        self.kind = kind


@on("*")
async def decide(event: Event) -> None:
    """End as ``faults`` says for this event; an event of type ``Test/Slow`` waits for ``gate`` first."""
    handled.append(event.event_id)
    if event.event_type == "Test/Slow":
        begun.set()
        await gate.wait()
    if event.event_type == "Test/Ignored":
        raise Ignored
    if fault := faults.get(event.event_id):
        raise fault
