"""Several handlers for one type: each is run until it has ended, none twice, and none before those ahead of it."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connector import DeadLetter, Event, Ignored, Later, Retry, on
from connector.handlers.thread import MOST_LEFT_BEHIND
from connector.outcome import RetryPolicy
from tests.delivering import Delivery, delivering

SLOW = RetryPolicy(base=10.0, longest=600.0, max_age=1e9)


class System:
    """What handlers did, and how often each one is still to fail, and with what."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.tried: list[str] = []
        self.errors: dict[str, list[BaseException]] = {}

    def handler(self, name: str, **options: Any) -> Callable[[Event], Any]:
        """A handler of this name."""

        @on("SIM/Updated", name=name, **options)
        async def run(event: Event) -> str:
            self.tried.append(f"{name}{event.attempt}")
            if errors := self.errors.get(name):
                raise errors.pop(0)
            self.done.append(name)
            return f"{name} written"

        return run


def hangs_once(begun: list[str]) -> Callable[[Event], Any]:
    """A handler ``b`` whose first attempt does not end; ``begun`` has the ids of its attempts."""

    @on("SIM/Updated", name="b")
    async def run(event: Event) -> None:
        begun.append(event.event_id)
        if len(begun) == 1:
            await asyncio.Event().wait()

    return run


def three(system: System, **options: Any) -> list[Callable[[Event], Any]]:
    """Three handlers of one type."""
    return [system.handler(name, **options) for name in "abc"]


async def test_handlers_run_in_their_order_and_the_event_is_done_with_all_notes(tmp_path: Path) -> None:
    system = System()
    async with delivering(tmp_path, *three(system)) as delivery:
        await delivery.accept("one")
        await delivery.become(one="done")
        assert delivery.find()[0].reason == "a: a written; b: b written; c: c written"
    assert system.done == ["a", "b", "c"]


async def test_retry_goes_on_with_the_handler_that_failed_and_holds_those_behind_it(tmp_path: Path) -> None:
    system = System()
    system.errors["b"] = [Retry("busy"), ValueError("bad")]
    async with delivering(tmp_path, *three(system), policy=SLOW) as delivery:
        await delivery.accept("one")
        await delivery.accept("two")
        await delivery.become(one="waiting", two="pending")
        assert delivery.find()[0].reason == "b: busy"
        assert system.tried == ["a1", "b1"]
        await delivery.later(12)
        await delivery.until(lambda: delivery.find()[0].attempts == 2)
        await delivery.later(24)
        await delivery.become(one="done", two="done")
    assert system.tried == ["a1", "b1", "b2", "b3", "c1", "a1", "b1", "c1"]


async def test_handler_that_had_ended_is_not_repeated_when_a_stop_cuts_off_the_next_one(tmp_path: Path) -> None:
    system = System()
    begun: list[str] = []
    async with delivering(tmp_path, system.handler("a"), hangs_once(begun)) as delivery:
        await delivery.accept("one")
        await delivery.until(lambda: bool(begun))
        await delivery.restart()
        await delivery.become(one="done")
    assert system.done == ["a"]
    assert begun == ["one", "one"]


async def test_what_a_handler_wrote_before_a_stop_cut_off_the_next_one_is_not_undone_by_an_older_event(
    tmp_path: Path,
) -> None:
    system = System()
    begun: list[str] = []
    async with delivering(tmp_path, system.handler("a", latest_only=True), hangs_once(begun)) as delivery:
        await delivery.accept("new", updated_at="1970-01-01T00:00:02+00:00")
        await delivery.until(lambda: bool(begun))
        await delivery.restart()
        await delivery.accept("old", updated_at="1970-01-01T00:00:01+00:00")
        await delivery.become(new="done", old="done")
    assert system.done == ["a"]


async def test_dead_handler_lets_the_next_begin_and_the_event_is_dead(tmp_path: Path) -> None:
    system = System()
    system.errors["a"] = [DeadLetter("never")]
    async with delivering(tmp_path, *three(system)) as delivery:
        await delivery.accept("one")
        await delivery.become(one="dead")
        assert delivery.find()[0].reason == "a: never"
    assert system.done == ["b", "c"]


async def test_dead_handler_holds_the_subscriber_once_all_have_ended_where_that_is_asked_for(tmp_path: Path) -> None:
    system = System()
    system.errors["a"] = [DeadLetter("never")]
    async with delivering(tmp_path, *three(system), hold_dead=True) as delivery:
        await delivery.accept("one")
        await delivery.become(one="held")
    assert system.done == ["b", "c"]


async def test_attempts_count_for_each_handler_by_itself(tmp_path: Path) -> None:
    system = System()
    system.errors |= {"a": [Retry("busy")] * 2, "b": [Retry("busy")] * 2, "c": [Retry("busy")] * 3}
    async with delivering(tmp_path, *three(system, max_attempts=3)) as delivery:
        await delivery.accept("one")
        await delivery.become(one="dead")
        assert delivery.find()[0].reason == "c: gave up after 3 attempts: busy"
    assert system.done == ["a", "b"]


@pytest.mark.parametrize(
    ("errors", "state", "reason"),
    [
        ({"a": [Ignored("no")]}, "done", "b: b written; c: c written"),
        ({name: [Ignored("no")] for name in "abc"}, "ignored", "a: no; b: no; c: no"),
    ],
)
async def test_event_is_done_if_any_handler_did_something(
    tmp_path: Path, errors: dict[str, list[BaseException]], state: str, reason: str
) -> None:
    system = System()
    system.errors |= errors
    async with delivering(tmp_path, *three(system)) as delivery:
        await delivery.accept("one")
        await delivery.become(one=state)
        assert delivery.find()[0].reason == reason


async def test_each_handler_has_its_own_newest_snapshot(tmp_path: Path) -> None:
    """An old event is superseded for the handler that writes the state, and still run by the one that writes a log."""
    system = System()
    handlers = [system.handler("state", latest_only=True), system.handler("log")]
    async with delivering(tmp_path, *handlers) as delivery:
        await delivery.accept("new", updated_at="1970-01-01T00:00:09Z")
        await delivery.become(new="done")
        await delivery.accept("old", updated_at="1970-01-01T00:00:01Z")
        await delivery.become(old="done")
    assert system.done == ["state", "log", "log"]


async def test_handlers_that_write_the_same_thing_share_what_is_newest(tmp_path: Path) -> None:
    seen = []

    @on("SIM/Updated", latest_only="hlr-card")
    async def update(event: Event) -> None:
        seen.append(event.event_id)

    @on("SIM/Replaced", latest_only="hlr-card")
    async def replace(event: Event) -> None:
        seen.append(event.event_id)

    async with delivering(tmp_path, update, replace) as delivery:
        await delivery.accept("new", updated_at="1970-01-01T00:00:09Z")
        await delivery.become(new="done")
        await delivery.accept("old", event_type="SIM/Replaced", updated_at="1970-01-01T00:00:01Z")
        await delivery.become(old="superseded")
    assert seen == ["new"]


async def test_event_without_what_a_handler_needs_is_ignored_with_the_path(tmp_path: Path) -> None:
    system = System()
    handler = system.handler("a", skip_unless=["pb_data.sim_info.imsi"])
    async with delivering(tmp_path, handler) as delivery:
        await delivery.accept("one", pb_data={"account_info": {"i_account": 1, "bill_status": "open"}})
        await delivery.become(one="ignored")
        assert delivery.find()[0].reason == "pb_data.sim_info.imsi is missing"
    assert system.tried == []


@pytest.mark.parametrize("several", [False, True])
async def test_later_spends_no_attempt(tmp_path: Path, several: bool) -> None:
    system = System()
    system.errors["a"] = [Later("tomorrow", hours=24), Retry("busy"), Later("tomorrow", hours=24)]
    handlers = three(system, max_attempts=2) if several else [system.handler("a", max_attempts=2)]
    async with delivering(tmp_path, *handlers, policy=SLOW) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        assert delivery.find()[0].due == delivery.clock.now + 86400
        await _wait_for_attempts(delivery, 2, 86400)
        await _wait_for_attempts(delivery, 3, 12)
        await delivery.later(86400)
        await delivery.become(one="done")
    assert system.tried[:4] == ["a1", "a1", "a2", "a2"]


async def _wait_for_attempts(delivery: Delivery, count: int, seconds: float) -> None:
    await delivery.later(seconds)
    await delivery.until(lambda: delivery.find()[0].attempts == count and delivery.find()[0].state == "waiting")


async def test_event_whose_plain_function_hangs_again_and_again_waits_and_costs_nobody_else(tmp_path: Path) -> None:
    gate = threading.Event()
    begun = []

    @on("SIM/Updated", timeout=0.01)
    def hangs(event: Event) -> None:
        begun.append(event.event_id)
        gate.wait(20)

    @on("Other/Type")
    def healthy(_: Event) -> None: ...

    async with delivering(tmp_path, hangs, healthy) as delivery:
        await delivery.accept("bad")
        await delivery.until(lambda: bool(delivery.workers.troubles))
        await delivery.accept("good", 2, "Other/Type")
        await delivery.become(good="done")
        assert len(begun) == MOST_LEFT_BEHIND
        assert "hangs" in delivery.workers.troubles[0]
        gate.set()
        await delivery.become(bad="done")
        assert delivery.workers.troubles == []


async def test_later_keeps_its_time_over_a_restart(tmp_path: Path) -> None:
    system = System()
    system.errors["a"] = [Later("tomorrow", hours=24)]
    async with delivering(tmp_path, system.handler("a"), policy=SLOW) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        await delivery.later(10)
        await delivery.restart()
        assert delivery.find()[0].due == delivery.clock.now - 10 + 86400
