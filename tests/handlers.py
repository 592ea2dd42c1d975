"""Handlers for tests, by event type: ``Test/Hold`` never ends, the others end as their names say."""

import asyncio

from connector import DeadLetter, Event, Ignored, Retry, on


@on("Test/Hold")
async def hold(_: Event) -> None:
    """Run until cancelled."""
    await asyncio.Event().wait()


@on("Test/Ignored")
async def ignore(_: Event) -> None:
    """End as ignored."""
    raise Ignored("made to be ignored")


@on("Test/Dead")
async def give_up(_: Event) -> None:
    """End as dead."""
    raise DeadLetter("made to be dead")


@on("Test/Retry")
async def retry(_: Event) -> None:
    """Never succeed, come again much later."""
    raise Retry("made to wait", after=300)


@on("Test/Cancelled")
async def cancelled(_: Event) -> None:
    """Wait for a task that somebody cancels."""
    task = asyncio.ensure_future(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


@on("Test/Unprintable")
async def unprintable(_: Event) -> None:
    """Fail with an exception that has no text."""
    raise UnprintableError


class UnprintableError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@on("Test/Blocking")
def block(event: Event) -> str:
    """End well, in a thread."""
    return f"blocking {event.event_id}"


@on("*")
async def log(event: Event) -> str:
    """End well."""
    return f"Received event: {event.event_type} | bill status: {event.pb_data.account_info.bill_status}"
