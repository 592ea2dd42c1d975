"""The breaker, by hand: the timer fires when the test says so."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.external.breaker import HOLD, PROBES, Breaker, Permit, Rules
from connector.external.failures import TargetAway, TargetBusy
from tests.conftest import Lines


class Timer:
    """A timer that was set."""

    def __init__(self, wait: float, call: Callable[[], None]) -> None:
        self.wait = wait
        self.fire = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Gate:
    """A gate that remembers."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    def hold(self, reason: str) -> None:
        self.held.add(reason)

    def release(self, reason: str) -> None:
        self.held.discard(reason)


class Bench:
    """A breaker with its surroundings in the test's hands. Chance is in the middle: no jitter."""

    def __init__(self, concurrency: int = 8, chance: float = 0.5, **rules: float) -> None:
        self.gate = Gate()
        self.timers: list[Timer] = []
        self.breaker = Breaker(
            Rules(**({"failures": 3, "share": 50, "calls": 10, "cool_down": 1, "longest": 10} | rules)),  # type: ignore[arg-type]
            concurrency,
            self.gate,
            later=self.later,
            chance=lambda: chance,
        )

    def later(self, wait: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(wait, call))
        return self.timers[-1]

    def state(self) -> str:
        return self.breaker.state

    async def call(self, failure: str | None = None) -> None:
        permit = await self.breaker.enter(0.01)
        self.breaker.leave(permit, answered=failure is None, failure=failure)

    async def open(self) -> None:
        for _ in range(3):
            await self.call("refused")
        assert self.state() == "open"

    async def half_open(self) -> None:
        await self.open()
        self.timers[-1].fire()


async def entered(breaker: Breaker, count: int) -> list[Permit]:
    """``count`` permits."""
    return [await breaker.enter(0.01) for _ in range(count)]


async def test_failures_in_a_row_open_it_and_hold_the_gate() -> None:
    bench = Bench()
    await bench.call("refused")
    await bench.call("refused")
    assert (bench.state(), bench.gate.held) == ("closed", set())
    await bench.call("refused")
    assert (bench.state(), bench.gate.held) == ("open", {HOLD})
    assert bench.breaker.reason == "3 failures in a row, at last: refused"


async def test_failures_with_successes_between_do_not_open_it_before_their_share_is_reached() -> None:
    bench = Bench(share=60)
    for _ in range(20):
        await bench.call("busy")
        await bench.call()
    assert bench.state() == "closed"
    await bench.call("busy")
    await bench.call("busy")
    assert bench.state() == "open"
    assert bench.breaker.reason == "6 of 10 calls failed, at last: busy"


async def test_a_share_of_few_calls_says_nothing() -> None:
    bench = Bench(failures=0, calls=10)
    for _ in range(9):
        await bench.call("busy")
    assert bench.state() == "closed"
    await bench.call("busy")
    assert bench.state() == "open"


async def test_a_breaker_that_is_switched_off_never_opens() -> None:
    bench = Bench(failures=0, share=0)
    for _ in range(100):
        await bench.call("refused")
    assert bench.state() == "closed"


async def test_calls_of_which_nothing_was_learnt_neither_open_it_nor_break_a_row() -> None:
    bench = Bench()
    await bench.call("refused")
    await bench.call("refused")
    bench.breaker.leave(await bench.breaker.enter(0.01), answered=False)
    await bench.call("refused")
    assert bench.state() == "open"


async def test_an_open_breaker_lets_no_call_through_and_sends_away_who_waits() -> None:
    bench = Bench(concurrency=3)
    permits = await entered(bench.breaker, 3)
    waiting = asyncio.create_task(bench.breaker.enter(60))
    for _ in range(2):
        await asyncio.sleep(0)
    bench.breaker.leave(permits[0], answered=False, failure="refused")
    for _ in range(2):
        permit = await waiting
        waiting = asyncio.create_task(bench.breaker.enter(60))
        await asyncio.sleep(0)
        bench.breaker.leave(permit, answered=False, failure="refused")
    with pytest.raises(TargetAway):
        await waiting
    with pytest.raises(TargetAway):
        await bench.breaker.enter(60)


async def test_half_open_lets_one_call_through_at_a_time() -> None:
    bench = Bench()
    await bench.half_open()
    assert bench.gate.held == set()
    probe = await bench.breaker.enter(0.01)
    with pytest.raises(TargetBusy):
        await bench.breaker.enter(0.001)
    bench.breaker.leave(probe, answered=True)
    await bench.breaker.enter(0.01)


async def test_a_probe_that_fails_opens_it_again_for_longer_and_spares_the_others() -> None:
    bench = Bench()
    await bench.half_open()
    probe = await bench.breaker.enter(0.01)
    others = [asyncio.create_task(bench.breaker.enter(60)) for _ in range(5)]
    await asyncio.sleep(0)
    bench.breaker.leave(probe, answered=False, failure="refused")
    assert all(isinstance(end, TargetAway) for end in await asyncio.gather(*others, return_exceptions=True))
    assert (bench.state(), bench.gate.held) == ("open", {HOLD})
    assert [timer.wait for timer in bench.timers] == [1, 2]


async def test_the_cool_down_grows_to_its_bound_and_no_further() -> None:
    bench = Bench()
    await bench.open()
    for _ in range(5):
        bench.timers[-1].fire()
        await bench.call("refused")
    assert [timer.wait for timer in bench.timers] == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(("chance", "wait"), [(0.0, 0.8), (1.0, 1.2)])
async def test_the_cool_down_is_spread_so_that_connectors_do_not_probe_together(chance: float, wait: float) -> None:
    bench = Bench(chance=chance)
    await bench.open()
    assert bench.timers[-1].wait == pytest.approx(wait)


async def test_it_closes_after_several_probes_and_not_after_one() -> None:
    bench = Bench()
    await bench.half_open()
    for _ in range(PROBES - 1):
        await bench.call()
    assert bench.state() == "half_open"
    await bench.call()
    assert bench.state() == "closed"


async def test_it_closes_gradually_rather_than_all_at_once() -> None:
    bench = Bench(concurrency=8)
    await bench.half_open()
    for _ in range(PROBES):
        await bench.call()
    allowed = []
    for _ in range(3):
        permits = await entered(bench.breaker, bench.breaker.limit.limit)
        allowed.append(len(permits))
        for permit in permits:
            bench.breaker.leave(permit, answered=True)
    assert [*allowed, bench.breaker.limit.limit] == [2, 4, 8, 8]


async def test_only_full_speed_makes_the_next_cool_down_a_short_one_again() -> None:
    bench = Bench(concurrency=4)
    await bench.half_open()
    for _ in range(PROBES):
        await bench.call()
    await bench.open()
    assert bench.timers[-1].wait == 2
    bench.timers[-1].fire()
    for _ in range(PROBES + 2):
        await bench.call()
    await bench.open()
    assert bench.timers[-1].wait == 1


async def test_calls_from_before_the_opening_neither_close_it_nor_take_up_its_permits() -> None:
    bench = Bench(concurrency=8)
    early = await entered(bench.breaker, 4)
    await bench.open()
    for permit in early[:2]:
        assert not bench.breaker.stands(permit)
        bench.breaker.leave(permit, answered=True)
    assert bench.state() == "open"
    bench.timers[-1].fire()
    bench.breaker.leave(early[2], answered=False, failure="late")
    assert bench.state() == "half_open"
    probe = await bench.breaker.enter(0.01)
    bench.breaker.leave(probe, answered=True)


async def test_a_stop_leaves_no_timer_behind() -> None:
    bench = Bench()
    await bench.open()
    bench.breaker.stop()
    assert bench.timers[-1].cancelled


async def test_every_change_is_logged_with_its_reason(log_lines: Lines) -> None:
    bench = Bench()
    await bench.half_open()
    for _ in range(PROBES):
        await bench.call()
    lines = [(line["action"], line["reason"]) for line in log_lines()]
    assert lines == [
        ("breaker.opened", "3 failures in a row, at last: refused"),
        ("breaker.half_open", "3 failures in a row, at last: refused"),
        ("breaker.closed", "3 probes went well"),
    ]


@given(st.lists(st.sampled_from(["enter", "good", "bad", "cut off", "timer"]), max_size=200), st.integers(1, 5))
def test_whatever_happens_it_never_lets_more_through_than_it_may(steps: list[str], concurrency: int) -> None:
    async def play() -> None:
        bench = Bench(concurrency=concurrency)
        breaker, out = bench.breaker, list[Permit]()
        fired = 0
        for step in steps:
            if step == "timer" and fired < len(bench.timers):
                assert bench.state() == "open"
                bench.timers[-1].fire()
                fired = len(bench.timers)
            elif step == "enter" and breaker.limit.in_use < breaker.limit.limit:
                out.append(await breaker.enter(0))
            elif step in ("good", "bad", "cut off") and out:
                breaker.leave(out.pop(0), answered=step == "good", failure="refused" if step == "bad" else None)
            standing = sum(breaker.stands(permit) for permit in out)
            assert breaker.limit.in_use == standing
            assert standing <= {"open": 0, "half_open": 1, "closed": concurrency}[bench.state()]
            assert breaker.limit.limit <= concurrency
            assert bench.gate.held == ({HOLD} if bench.state() == "open" else set())
            assert len(bench.timers) - fired == (bench.state() == "open")

    asyncio.run(play())
