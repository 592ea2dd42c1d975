"""What a dead event and an operator do to a subscriber's lane."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from connector import DeadLetter, Event, Retry, on
from connector.journal.queries import ReadStats
from connector.journal.sqlite import history
from connector.outcome import RetryPolicy
from tests.delivering import Delivery, delivering

SLOW = RetryPolicy(base=100.0, longest=600.0, max_attempts=50, max_age=1e9)
LANE = "i_account:1"


class External:
    """An external system that refuses some events."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.busy_for: set[str] = set()
        self.applied: list[str] = []


@pytest.fixture
def external() -> External:
    return External()


def handler(external: External) -> Callable[[Event], Awaitable[None]]:
    @on("SIM/Updated")
    async def apply(event: Event) -> None:
        if event.event_id in external.refused:
            raise DeadLetter("never")
        if event.event_id in external.busy_for:
            raise Retry("busy")
        external.applied.append(event.event_id)

    return apply


@pytest.fixture
async def holding(tmp_path: Path, external: External) -> AsyncIterator[Delivery]:
    """ON_DEAD=hold, with a subscriber that is held by ``bad`` with ``next`` behind it."""
    external.refused.add("bad")
    async with delivering(tmp_path, handler(external), policy=SLOW, hold_dead=True) as delivery:
        await delivery.accept("bad")
        await delivery.accept("next")
        await delivery.accept("other", 2)
        await delivery.become(bad="held", next="pending", other="done")
        yield delivery


async def test_events_behind_a_dead_one_go_on_by_default(tmp_path: Path, external: External) -> None:
    external.refused.add("bad")
    async with delivering(tmp_path, handler(external)) as delivery:
        await delivery.accept("bad")
        await delivery.accept("next")
        await delivery.become(bad="dead", next="done")


async def test_held_subscriber_waits_over_a_restart_and_however_long(holding: Delivery) -> None:
    await holding.restart()
    await holding.later(1e8)
    await holding.accept("third")
    await holding.accept("fourth", 2)
    await holding.become(fourth="done")
    await holding.quiet()
    assert holding.states().items() >= {"bad": "held", "next": "pending", "third": "pending"}.items()


async def test_released_event_is_tried_once_more_and_its_subscriber_goes_on(
    holding: Delivery, external: External
) -> None:
    external.refused.clear()
    assert await holding.command("release", LANE) == {LANE: "released"}
    await holding.become(bad="done", next="done")
    assert external.applied == ["other", "bad", "next"]


async def test_released_event_that_fails_again_is_held_again(holding: Delivery) -> None:
    await holding.command("release", LANE)
    await holding.until(lambda: holding.find()[0].attempts == 2)
    assert holding.states() == {"bad": "held", "next": "pending", "other": "done"}


async def test_skipped_event_is_dead_with_its_error_and_its_subscriber_goes_on(holding: Delivery) -> None:
    await holding.restart()
    assert await holding.command("skip", LANE) == {LANE: "skipped"}
    await holding.become(bad="dead", next="done")
    assert holding.find()[0].reason == "skipped by an operator: never"
    assert holding.find()[0].attempts == 1


async def test_discarded_head_lets_its_subscriber_go_on(holding: Delivery) -> None:
    assert await holding.command("discard", "bad") == {"bad": "discarded"}
    await holding.become(bad="ignored", next="done")


async def test_replay_of_a_held_event_releases_it(holding: Delivery, external: External) -> None:
    external.refused.clear()
    assert await holding.command("replay", "bad") == {"bad": "released"}
    await holding.become(bad="done", next="done")


@pytest.mark.parametrize("verb", ["release", "skip", "discard"])
async def test_event_that_waits_for_its_retry_can_be_let_go(tmp_path: Path, external: External, verb: str) -> None:
    external.busy_for.add("busy")
    async with delivering(tmp_path, handler(external), policy=SLOW) as delivery:
        await delivery.accept("busy")
        await delivery.accept("next")
        await delivery.become(busy="waiting")
        external.busy_for.clear()
        await delivery.command(verb, "busy" if verb == "discard" else LANE)  # type: ignore[arg-type]
        await delivery.become(busy={"release": "done", "skip": "dead", "discard": "ignored"}[verb], next="done")


async def test_event_discarded_while_others_wait_behind_it_in_memory_is_not_run(
    tmp_path: Path, external: External
) -> None:
    async with delivering(tmp_path, handler(external)) as delivery:
        await delivery.command("pause")
        for number in range(5):
            await delivery.accept(f"{number}")
        await delivery.command("discard", "0", "3")
        await delivery.command("resume")
        await delivery.quiet()
    assert external.applied == ["1", "2", "4"]


async def test_replay_is_a_series_of_its_own_linked_to_the_old_one(tmp_path: Path, external: External) -> None:
    external.refused.add("bad")
    async with delivering(tmp_path, handler(external)) as delivery:
        await delivery.accept("bad")
        await delivery.become(bad="dead")
        external.refused.clear()
        assert await delivery.command("replay", "bad") == {"bad": "replayed"}
        await delivery.quiet()
        old, new = delivery.find()
        assert (old.state, old.reason, new.state, new.earlier) == ("dead", "never", "done", old.seq)
        assert [each.state for each in delivery.find(latest=True)] == ["done"]
        assert not await delivery.accept("bad")


async def test_pause_outlives_a_restart_and_does_not_stop_accepting(tmp_path: Path, external: External) -> None:
    async with delivering(tmp_path, handler(external)) as delivery:
        assert await delivery.command("pause") == {"delivery": "paused"}
        await delivery.accept("one")
        await delivery.restart()
        await delivery.accept("two")
        await delivery.journal.flush()
        assert delivery.states() == {"one": "pending", "two": "pending"}
        assert delivery.journal.holds
        assert await delivery.command("resume") == {"delivery": "resumed"}
        await delivery.become(one="done", two="done")


@pytest.mark.parametrize("verb", ["replay", "discard"])
async def test_unknown_event_is_said_to_be_unknown(tmp_path: Path, external: External, verb: str) -> None:
    async with delivering(tmp_path, handler(external)) as delivery:
        assert await delivery.command(verb, "nobody") == {"nobody": "not known"}  # type: ignore[arg-type]


async def test_counters_tell_what_operators_ended(tmp_path: Path, external: External) -> None:
    external.refused |= {"bad", "worse"}
    async with delivering(tmp_path, handler(external), hold_dead=True, policy=SLOW) as delivery:
        for number, name in enumerate(("bad", "worse", "well")):
            await delivery.accept(name, number)
        await delivery.become(bad="held", worse="held", well="done")
        await delivery.command("skip", "i_account:0")
        await delivery.command("discard", "worse")
        await delivery.command("replay", "well")
        await delivery.quiet()
        with history.connect(delivery.path) as past:
            assert past.ask(ReadStats()).total.items() >= {
                "accepted": 3, "held": 2, "dead": 1, "ignored": 1, "replayed": 1, "done": 2,
            }.items()  # fmt: skip
