"""Limits: never more than allowed, nobody forgotten, no permit lost."""

import asyncio
import itertools

import pytest

from connector.external.limits import ConcurrencyLimit, RateLimit


class Clock:
    """A clock that sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_permits_are_out_than_the_limit() -> None:
    limit = ConcurrencyLimit(2)
    most = 0

    async def call() -> None:
        nonlocal most
        assert await limit.acquire(60)
        most = max(most, limit.in_use)
        await asyncio.sleep(0)
        limit.release()

    await asyncio.gather(*(call() for _ in range(20)))
    assert (most, limit.in_use, limit.waiting) == (2, 0, 0)


async def test_who_waits_is_served_in_order() -> None:
    limit = ConcurrencyLimit(1)
    served: list[int] = []

    async def call(number: int) -> None:
        await limit.acquire(60)
        served.append(number)
        await asyncio.sleep(0)
        limit.release()

    await asyncio.gather(*(call(number) for number in range(10)))
    assert served == list(range(10))


async def test_a_caller_that_is_cancelled_while_it_waits_takes_no_permit_with_it() -> None:
    limit = ConcurrencyLimit(1)
    assert await limit.acquire(60)
    waiting = asyncio.create_task(limit.acquire(60))
    await settle()
    waiting.cancel()
    await asyncio.wait([waiting])
    limit.release()
    assert await limit.acquire(60)
    assert limit.in_use == 1


async def test_a_caller_that_is_cancelled_in_the_moment_it_is_served_gives_its_permit_back() -> None:
    limit = ConcurrencyLimit(1)
    assert await limit.acquire(60)
    waiting = asyncio.create_task(limit.acquire(60))
    await settle()
    limit.release()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert limit.in_use == 0


async def test_waiting_for_a_permit_ends() -> None:
    limit = ConcurrencyLimit(0)
    assert not await limit.acquire(0.001)
    assert limit.waiting == 0


async def test_who_waits_can_be_sent_away_at_once() -> None:
    limit = ConcurrencyLimit(0)
    waiting = [asyncio.create_task(limit.acquire(60)) for _ in range(3)]
    await settle()
    limit.turn_all_away()
    assert await asyncio.gather(*waiting) == [False, False, False]


async def test_a_higher_limit_serves_those_who_wait() -> None:
    limit = ConcurrencyLimit(0)
    waiting = [asyncio.create_task(limit.acquire(60)) for _ in range(3)]
    await settle()
    limit.limit = 2
    await settle()
    assert [task.done() for task in waiting] == [True, True, False]
    limit.turn_all_away()
    await asyncio.wait(waiting)


async def test_the_rate_holds_after_the_burst() -> None:
    clock = Clock()
    rate = RateLimit(10, 3, clock, clock.sleep)
    moments = []
    for _ in range(8):
        assert await rate.turn(60)
        moments.append(round(clock.now - 1000, 3))
    assert moments == [0, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5]


async def test_a_rest_does_not_save_up_more_than_the_burst() -> None:
    clock = Clock()
    rate = RateLimit(10, 2, clock, clock.sleep)
    assert await rate.turn(60)
    clock.now += 3600
    start = clock.now
    for _ in range(3):
        assert await rate.turn(60)
    assert clock.now - start == pytest.approx(0.1)


async def test_a_turn_that_is_far_away_is_refused_and_not_taken() -> None:
    clock = Clock()
    rate = RateLimit(0.01, 1, clock, clock.sleep)
    assert await rate.turn(5)
    assert not await rate.turn(5)
    assert (clock.now, rate.wait) == (1000, 100)
    clock.now += 95
    assert await rate.turn(5)
    assert clock.now == 1100


async def test_those_who_waited_for_a_target_come_back_one_by_one() -> None:
    clock = Clock()
    rate = RateLimit(0, 0, clock, clock.sleep)
    for _ in range(1000):
        assert await rate.turn(0)
    assert clock.now == 1000
    rate.space(0.1, 2)
    moments = []
    while clock.now < 1002:
        assert await rate.turn(5)
        moments.append(clock.now)
    assert len(moments) < 60
    assert all(later - earlier >= 0.049 for earlier, later in itertools.pairwise(moments))
    assert await rate.turn(5)
    afterwards = clock.now
    for _ in range(100):
        assert await rate.turn(5)
    assert clock.now == afterwards
