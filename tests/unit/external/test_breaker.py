"""The breaker, by hand: the timer fires when the test says so."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.external.breaker import CANDIDATES, PROBES, Breaker, Permit, Rules, Subject
from connector.external.response import Kind, TargetUnavailable
from tests.conftest import Lines


class Timer:
    """A timer that was set."""

    def __init__(self, wait: float, call: Callable[[], None]) -> None:
        self.wait = wait
        self.fire = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Bench:
    """A breaker with its surroundings in the test's hands. Chance is in the middle: no jitter."""

    def __init__(self, concurrency: int = 8, chance: float = 0.5, **rules: float) -> None:
        self.held: list[str] = []
        self.releases = 0
        self.let_in: int | None = 0
        self.timers: list[Timer] = []
        self.breaker = Breaker(
            Rules(**({"failures": 3, "share": 50, "calls": 10, "cool_down": 1, "longest": 10} | rules)),  # type: ignore[arg-type]
            concurrency,
            later=self.later,
            chance=lambda: chance,
            opened=lambda reason, _: self.held.append(reason),
            released=self.release,
            closed=self.held.clear,
        )

    def release(self, most: int | None) -> None:
        self.releases += 1
        self.let_in = most

    def later(self, wait: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(wait, call))
        return self.timers[-1]

    def state(self) -> str:
        return self.breaker.state

    async def call(
        self, failure: str | None = None, subject: Subject | None = None, *, everybody: bool = False
    ) -> None:
        permit = await self.breaker.enter(0.01, subject, in_place=False)
        self.breaker.leave(permit, answered=failure is None, failure=failure, everybody=everybody)

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


async def test_failures_in_a_row_open_it() -> None:
    bench = Bench()
    await bench.call("refused")
    await bench.call("refused")
    assert (bench.state(), bench.held) == ("closed", [])
    await bench.call("refused")
    assert bench.state() == "open"
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
    waiting = asyncio.create_task(bench.breaker.enter(60, in_place=False))
    for _ in range(2):
        await asyncio.sleep(0)
    bench.breaker.leave(permits[0], answered=False, failure="refused")
    for _ in range(2):
        permit = await waiting
        waiting = asyncio.create_task(bench.breaker.enter(60, in_place=False))
        await asyncio.sleep(0)
        bench.breaker.leave(permit, answered=False, failure="refused")
    with pytest.raises(TargetUnavailable):
        await waiting
    with pytest.raises(TargetUnavailable):
        await bench.breaker.enter(60, in_place=False)


async def test_half_open_lets_one_call_through_at_a_time() -> None:
    bench = Bench()
    await bench.half_open()
    probe = await bench.breaker.enter(0.01)
    with pytest.raises(TargetUnavailable):
        await bench.breaker.enter(60, in_place=False)
    bench.breaker.leave(probe, answered=True)
    await bench.breaker.enter(0.01)


async def test_a_probe_that_fails_opens_it_again_for_longer_and_spares_the_others() -> None:
    bench = Bench()
    await bench.half_open()
    probe = await bench.breaker.enter(0.01)
    others = [asyncio.create_task(bench.breaker.enter(60, in_place=False)) for _ in range(5)]
    await asyncio.sleep(0)
    bench.breaker.leave(probe, answered=False, failure="refused")
    assert all(isinstance(end, TargetUnavailable) for end in await asyncio.gather(*others, return_exceptions=True))
    assert bench.state() == "open"
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
    assert bench.let_in == CANDIDATES
    await bench.call()
    assert bench.state() == "closed"
    assert bench.let_in is None


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


A, B, C = (Subject(name, "SIM/Updated") for name in "abc")
OTHER = Subject("o", "SIM/Replaced")


async def test_the_failures_of_one_subscriber_do_not_open_it() -> None:
    bench = Bench()
    for _ in range(50):
        await bench.call("error", A)
    assert bench.state() == "closed"


async def test_the_failures_of_one_subscriber_among_others_do_not_reach_the_share() -> None:
    bench = Bench(failures=0, share=50, calls=10)
    for number in range(40):
        await bench.call("error" if number % 2 else None, A if number % 2 else Subject(f"good-{number}"))
    assert bench.state() == "closed"


async def test_failures_of_different_subscribers_open_it_for_their_type_of_event_alone() -> None:
    bench = Bench()
    for subject in (A, B, C):
        await bench.call("error", subject)
    assert (bench.state(), bench.breaker.scope) == ("open", "SIM/Updated")
    with pytest.raises(TargetUnavailable):
        await bench.call(None, Subject("d", "SIM/Updated"))
    await bench.call(None, OTHER)
    assert bench.breaker.holds("SIM/Updated")
    assert not bench.breaker.holds("SIM/Replaced")


async def test_failures_of_a_second_type_while_one_is_held_open_it_for_all() -> None:
    bench = Bench()
    for subject in (A, B, C):
        await bench.call("error", subject)
    for number in range(3):
        await bench.call("error", Subject(f"other-{number}", "SIM/Replaced"))
    assert (bench.state(), bench.breaker.scope) == ("open", None)
    assert bench.breaker.holds("Any/Other")


async def test_failures_of_several_types_open_it_for_all() -> None:
    bench = Bench()
    for subject in (A, B, OTHER):
        await bench.call("error", subject)
    assert (bench.state(), bench.breaker.scope) == ("open", None)


async def test_a_type_that_fails_while_others_succeed_does_not_open_it_by_its_share() -> None:
    bench = Bench(failures=0, share=50, calls=10)
    for number in range(20):
        kind = "SIM/Updated" if number % 2 else "SIM/Replaced"
        await bench.call("error" if number % 2 else None, Subject(f"s-{number}", kind))
    assert bench.state() == "closed"


async def test_where_no_connection_can_be_made_one_subscriber_is_enough() -> None:
    bench = Bench()
    for _ in range(3):
        await bench.call("cannot be reached", A, everybody=True)
    assert (bench.state(), bench.breaker.scope) == ("open", None)


async def test_another_subscriber_is_the_probe_if_there_is_one() -> None:
    bench = Bench()
    for subject in (A, B, C):
        await bench.call("error", subject)
    bench.timers[-1].fire()
    releases = bench.releases
    with pytest.raises(TargetUnavailable):
        await bench.call(None, A)
    await bench.call(None, Subject("d", "SIM/Updated"))
    grace = bench.timers[-1]
    grace.fire()
    assert bench.releases > releases
    await bench.call(None, A)


async def test_a_call_that_cannot_go_away_waits_in_place_for_the_probe() -> None:
    bench = Bench()
    await bench.open()
    waiting = asyncio.create_task(bench.breaker.enter(60))
    await asyncio.sleep(0)
    bench.timers[-1].fire()
    bench.breaker.leave(await waiting, answered=True)
    with pytest.raises(TargetUnavailable):
        async with asyncio.timeout(5):
            await (await closed_again(bench)).enter(0.001)


async def closed_again(bench: Bench) -> Breaker:
    permit = await bench.breaker.enter(60)
    bench.breaker.leave(permit, answered=False, failure="refused")
    assert bench.state() == "open"
    return bench.breaker


@pytest.mark.parametrize(("after", "wait"), [(0.0, 1.0), (0.5, 1.0), (20.0, 22.0), (1e9, 600.0)])
async def test_a_retry_after_holds_the_target_and_never_for_less_than_the_cool_down(after: float, wait: float) -> None:
    bench = Bench()
    permit = await bench.breaker.enter(0.01, A)
    assert bench.breaker.hold(permit, after, "the target answered 429", Kind.RATE_LIMITED)
    bench.breaker.leave(permit, answered=True)
    assert bench.state() == "open"
    assert bench.timers[-1].wait == pytest.approx(wait)
    with pytest.raises(TargetUnavailable) as unavailable:
        await bench.call(None, B)
    assert unavailable.value.kind is Kind.RATE_LIMITED


async def test_a_retry_after_of_nought_for_ever_makes_the_waits_longer() -> None:
    bench = Bench()
    for _ in range(6):
        permit = await bench.breaker.enter(0.01, in_place=False)
        bench.breaker.hold(permit, 0, "the target answered 503", Kind.DOWN)
        bench.breaker.leave(permit, answered=True)
        bench.timers[-1].fire()
    assert [timer.wait for timer in bench.timers] == [1, 2, 4, 8, 10, 10]


async def test_a_retry_after_that_follows_one_subscriber_holds_nobody() -> None:
    bench = Bench()

    async def limited() -> bool:
        permit = await bench.breaker.enter(0.01, A, in_place=False)
        held = bench.breaker.hold(permit, 5, "the target answered 429", Kind.RATE_LIMITED)
        bench.breaker.leave(permit, answered=True)
        return held

    assert await limited()
    bench.timers[-1].fire()
    for _ in range(PROBES):
        await bench.call(None, B)
    assert bench.state() == "closed"
    assert not await limited()
    assert bench.state() == "closed"
    await bench.call(None, A)
    assert await limited()


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
            assert bool(bench.held) == (bench.state() != "closed")
            assert len(bench.timers) - fired == (bench.state() == "open")

    asyncio.run(play())
