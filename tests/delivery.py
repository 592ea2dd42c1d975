"""A sender that delivers bodies over several connections and notes each answer, as NSPS does."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.events import Sample
from tests.wire import Answer, Wire, connect, post

BACK_OFF = 0.02
"""Seconds before a body is sent again that there was no room for."""


class Delivered(NamedTuple):
    """A body, the ``x-request-id`` it went with, and its last answer (None: the connection was closed instead)."""

    unique_id: str
    sample: Sample
    answer: Answer | None
    refusals: int

    @property
    def accepted(self) -> bool:
        """Whether the sender was told 202."""
        return self.answer is not None and self.answer.status == 202

    @property
    def wrong(self) -> bool:
        """Whether the answer is another one than the protocol says."""
        return self.answer is None or self.answer.status != self.sample.status or not well_formed(self.answer)


def well_formed(answer: Answer) -> bool:
    """Whether an answer is the one 202 there is, or an ErrorResponse."""
    body = answer.json()
    if answer.status == 202:
        return bool(body == {"message": "Event accepted for processing"})
    return {"message", "error", "type"} <= set(body) <= {"message", "error", "type", "details"}


async def deliver(port: int, samples: Iterable[Sample], *, connections: int = 8) -> list[Delivered]:
    """Send all ``samples``; 429 is followed by another try. Ends where the server takes no connection."""
    numbered = enumerate(samples)
    found: list[Delivered] = []
    await asyncio.gather(*(_send_all(port, numbered, found) for _ in range(connections)))
    return found


async def _send_all(port: int, numbered: Iterator[tuple[int, Sample]], found: list[Delivered]) -> None:
    number_and_sample = next(numbered, None)
    while number_and_sample:
        try:
            async with connect(port) as wire:
                while number_and_sample:
                    delivered = await _send(wire, *number_and_sample)
                    found.append(delivered)
                    number_and_sample = next(numbered, None)
                    if delivered.answer is None or delivered.answer.headers.get("Connection") == "close":
                        break
        except ConnectionRefusedError:
            return


async def _send(wire: Wire, number: int, sample: Sample) -> Delivered:
    unique_id, refusals = f"request-{number}", 0
    while True:
        await wire.send(post(sample.body, f"x-request-id: {unique_id}"))
        try:
            answer = await wire.answer()
        except (asyncio.IncompleteReadError, ConnectionError) as fault:
            if getattr(fault, "partial", b""):
                raise AssertionError("an answer was cut off") from fault
            return Delivered(unique_id, sample, None, refusals)
        if answer.status != 429:
            return Delivered(unique_id, sample, answer, refusals)
        refusals += 1
        await asyncio.sleep(BACK_OFF)
