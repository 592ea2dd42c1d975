"""RESPONSE=outcome: whatever meets whatever in whatever order, one side retries, and only one."""

import asyncio
from typing import cast

import pytest

from connector.delivery.waiting import Answers
from connector.errors import ConnectorError, Unavailable
from connector.events.event import Event
from connector.journal import Entry, Journal, Kept
from connector.outcome import Outcome
from connector.web.accept import Accept
from connector.web.bodies import Bodies
from connector.web.responses import HandlerFailed
from tests import events
from tests.delivering import SCHEMA

BUSY = Outcome("waiting", "busy", due=1.0)
DONE = Outcome("done")
PATIENCE = 5.0


class Held:
    """A journal whose answers the test gives."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[asyncio.Future[Kept]] = asyncio.Queue()

    async def keep(self, _: Event) -> Kept:
        """Wait for what the test says."""
        said: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait(said)
        return await said


class Requests:
    """Requests that bring one and the same event."""

    def __init__(self, timeout: float = PATIENCE) -> None:
        self.answers = Answers(timeout, durable=True)
        self.journal = Held()
        self._accept = Accept(
            SCHEMA,
            cast("Journal", self.journal),
            Bodies(1 << 20, PATIENCE, 1 << 26),
            clock=lambda: 1.0,
            answers=self.answers,
        )
        body = events.encode(events.of_subscriber(1, "one"))
        self.event = SCHEMA.parse(body, "request", "unique", 1.0)

    async def come(self) -> "tuple[asyncio.Task[ConnectorError | None], asyncio.Future[Kept]]":
        """Another request, and the journal's answer to it, which is to be set."""
        request = asyncio.create_task(self._refusal())
        async with asyncio.timeout(PATIENCE):
            return request, await self.journal.asked.get()

    def kept(self, outcome: Outcome) -> None:
        """The outcome of the event's attempt stands in the journal."""
        self.answers.kept(Entry(self.event, 1), outcome, True)

    async def _refusal(self) -> ConnectorError | None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._accept._keep_and_wait(self.event, self.answers)
        except ConnectorError as error:
            return error
        return None


async def test_event_sent_again_while_its_attempt_ends_is_not_given_up_by_both_sides() -> None:
    requests = Requests()
    again, appended = await requests.come()
    outcome = requests.answers.ended(requests.event, BUSY)
    appended.set_result(Kept.DUPLICATE)
    await asyncio.sleep(0)
    requests.kept(outcome)
    assert outcome.state == "dead"
    assert isinstance(await again, HandlerFailed)


async def test_event_sent_again_whose_first_series_ends_meanwhile_is_not_retried_by_both_sides() -> None:
    requests = Requests()
    first, appended = await requests.come()
    appended.set_result(Kept.NEW)
    again, appended_again = await requests.come()
    requests.kept(requests.answers.ended(requests.event, BUSY))
    assert isinstance(await first, HandlerFailed)
    appended_again.set_result(Kept.NEW)  # the first series is dead, so it is a new one
    await asyncio.sleep(0)
    requests.kept(requests.answers.ended(requests.event, DONE))
    assert await again is None


async def test_who_came_after_an_attempt_that_is_repeated_here_is_not_told_that_it_failed() -> None:
    requests = Requests()
    outcome = requests.answers.ended(requests.event, BUSY)
    future = requests.answers.expect(requests.event.key)
    requests.kept(outcome)
    assert not future.done()
    requests.kept(requests.answers.ended(requests.event, DONE))
    assert future.result() == DONE


@pytest.mark.parametrize("refused", [False, True])
async def test_who_joined_a_request_that_does_not_wait_is_not_left_alone(refused: bool) -> None:
    requests = Requests()
    first, appended = await requests.come()
    joined, appended_too = await requests.come()
    appended_too.set_result(Kept.DUPLICATE)
    await asyncio.sleep(0)
    if refused:
        appended.set_exception(Unavailable())
        assert isinstance(await first, Unavailable)
    else:
        appended.set_result(Kept.DUPLICATE)
        assert await first is None
    assert await joined is None
    assert not requests.answers.is_expected(requests.event.key)
