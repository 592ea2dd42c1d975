"""Subscribers: who is who, and what happens to them."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsps_simulator.wire.population import BILL_RUN, LIFE, LIMIT, SCRIPTS, STEPS, Moment, Population


@given(
    seed=st.integers(0, 1 << 32), subscribers=st.integers(1, 60), episode=st.integers(1, 5), cohort=st.integers(1, 70)
)
def test_a_life_never_skips_or_repeats_a_step(seed: int, subscribers: int, episode: int, cohort: int) -> None:
    population = Population(seed, subscribers, episode=episode, cohort=cohort)
    steps = [0] * subscribers
    for index in range(subscribers * episode * 3):
        subscriber, step = population.locate(index)
        assert step == steps[subscriber]
        steps[subscriber] += 1


def test_nobody_is_left_out_of_a_round() -> None:
    population = Population(7, 1000, episode=2, cohort=50)
    assert {population.locate(index)[0] for index in range(2000)} == set(range(1000))


def test_ten_million_subscribers_need_no_memory() -> None:
    tracemalloc.start()
    population = Population(1, LIMIT)
    population.locate(123_456_789)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("flavour", [LIFE, BILL_RUN])
def test_nobody_is_blocked_twice_or_unblocked_while_open(flavour: str) -> None:
    population = Population(3, 10 * SCRIPTS, flavour=flavour)
    begins, ends = (
        {"Account/Blocked", "Account/Status/Suspended"},
        {"Account/Unblocked", "Account/Status/SuspensionRemoved"},
    )
    for subscriber in range(10 * SCRIPTS):
        blocked = False
        for step in range(3 * STEPS):
            moment = population.moment(subscriber, step)
            assert (moment.event_type in begins) == (moment.blocked and not blocked)
            assert (moment.event_type in ends) == (blocked and not moment.blocked)
            assert moment.bill_status == ("suspended" if moment.blocked else "open")
            blocked = moment.blocked


def test_counts_go_on_where_the_script_begins_again() -> None:
    population = Population(3, 50)
    for subscriber in range(50):
        before = Moment("", cards=0)
        for step in range(5 * STEPS):
            now = population.moment(subscriber, step)
            assert now.cards - before.cards == (now.event_type == "SIM/Created")
            assert now.products - before.products == (now.event_type == "Account/Product/Changed")
            assert now.renewals - before.renewals == (now.event_type == "Account/ProductAddon/Changed")
            before = now


def test_lives_hold_everything_that_happens_to_subscribers() -> None:
    population = Population(1, 1000)
    kinds = {population.moment(subscriber, step).event_type for subscriber in range(300) for step in range(STEPS)}
    assert {kind.partition("/")[0] for kind in kinds} == {"SIM", "Account", "Customer", "DID"}
    assert {"SIM/Created", "SIM/Replaced", "SIM/Updated", "SIM/Deleted"} <= kinds


@pytest.mark.parametrize("subscribers", [0, -1, LIMIT + 1])
def test_an_impossible_population_is_refused(subscribers: int) -> None:
    with pytest.raises(ValueError, match="subscribers must be"):
        Population(1, subscribers)
