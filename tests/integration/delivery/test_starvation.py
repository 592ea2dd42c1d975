"""Promise 3: no amount of waiting subscribers starves the others."""

import asyncio
from pathlib import Path

import pytest

from connector import Event, Retry, on
from connector.outcome import RetryPolicy
from tests.delivering import delivering

HOURS = RetryPolicy(base=3600.0, longest=3600.0, max_attempts=99, max_age=1e9)
AGAIN_AND_AGAIN = RetryPolicy(base=0.01, longest=0.01, max_attempts=10**6, max_age=1e9)


@pytest.mark.parametrize("policy", [HOURS, AGAIN_AND_AGAIN], ids=["rare", "constant retries"])
async def test_healthy_events_behind_deep_backlogs_that_fail_are_handled_before_any_of_those(
    tmp_path: Path, policy: RetryPolicy
) -> None:
    ended: list[int] = []

    @on("SIM/Updated")
    async def fails(_: Event) -> None:
        raise Retry("busy")

    @on("Healthy/Event")
    async def works(event: Event) -> None:
        ended.append(int(event.event_id))

    async with delivering(tmp_path, fails, works, queue_size=200, policy=policy) as delivery:
        await asyncio.gather(*(delivery.accept(f"bad {n}", n % 10) for n in range(3000)))
        await asyncio.gather(*(delivery.accept(f"{n}", 1000 + n % 50, "Healthy/Event") for n in range(200)))
        await delivery.until(lambda: len(ended) == 200)
        states = delivery.states()
        assert sorted(ended) == list(range(200))
        assert {state for name, state in states.items() if name.startswith("bad")} <= {"waiting", "pending"}
        await delivery.journal.flush()
        assert delivery.journal.size == 3000


async def test_memory_stays_bounded_when_all_waiting_subscribers_come_due_at_once(tmp_path: Path) -> None:
    failed: set[str] = set()

    @on("SIM/Updated")
    async def fails_once(event: Event) -> None:
        if event.attempt == 1:
            failed.add(event.event_id)
            raise Retry("busy")

    async with delivering(tmp_path, fails_once, queue_size=100, policy=HOURS) as delivery:
        await asyncio.gather(*(delivery.accept(f"{n}", n % 200) for n in range(2000)))
        await delivery.until(lambda: len(failed) == 200 and [*delivery.states().values()].count("waiting") == 200)
        await delivery.command("pause")
        await delivery.later(3601.0)
        await delivery.until(lambda: delivery.journal.in_memory >= 100)
        for _ in range(50):
            await delivery.later(1.0)
            await delivery.journal.flush()
        assert delivery.journal.in_memory <= 100
        await delivery.command("resume")
        await delivery.until(lambda: len(failed) == 400)


async def test_events_that_come_steadily_do_not_starve_those_that_are_due(tmp_path: Path) -> None:
    """Memory is full of new events all the time; the retry still comes."""
    again: list[str] = []
    number = 0

    @on("SIM/Updated")
    async def once(event: Event) -> None:
        if event.attempt == 1:
            raise Retry("busy")
        again.append(event.event_id)

    @on("Healthy/Event")
    async def more(_: Event) -> None:
        nonlocal number
        number += 1
        await delivery.accept(f"{number}", 10 + number % 50, "Healthy/Event")

    async with delivering(tmp_path, once, more, queue_size=10, policy=HOURS) as delivery:
        await delivery.accept("due")
        await delivery.become(due="waiting")
        await asyncio.gather(*(delivery.accept(f"start {n}", 10 + n, "Healthy/Event") for n in range(30)))
        await delivery.later(3601.0)
        await delivery.until(lambda: again == ["due"])
