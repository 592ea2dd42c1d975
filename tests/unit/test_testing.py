"""What the authors of handlers test with."""

import asyncio
import types
from collections.abc import Callable
from typing import Any

import pytest

from connector import DeadLetter, Event, Ignored, Retry, on
from connector.errors import ConnectorError
from connector.outcome import Outcome, RetryPolicy
from connector.testing import Trial, event_of, example, run, started


@on("SIM/Updated", require=["pb_data.sim_info.imsi"], max_attempts=3)
async def handler(event: Event) -> str:
    """End as the bill status says."""
    match event.pb_data.account_info.bill_status:
        case "terminated":
            raise Ignored("gone")
        case "inactive":
            raise DeadLetter("never")
        case "suspended":
            raise Retry("later", after=5)
        case None:
            raise ValueError("no status")
    return "written"


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("open", "done", "written"),
        ("terminated", "ignored", "gone"),
        ("inactive", "dead", "never"),
        ("suspended", "waiting", "later"),
        (..., "waiting", "ValueError: no status"),
    ],
)
async def test_outcome_is_what_the_connector_would_make_of_it(status: object, state: str, reason: str) -> None:
    outcome = await run(handler, example(changes={"pb_data.account_info.bill_status": status}))
    assert (outcome.state, outcome.reason.partition(" (tests/unit/test_testing.py:")[0]) == (state, reason)


async def test_last_attempt_ends_as_dead_and_the_wait_before_it_is_known() -> None:
    changes = {"pb_data.account_info.bill_status": "suspended"}
    assert (await run(handler, example(changes=changes, attempt=3))).state == "dead"
    outcome = await run(handler, example(changes=changes, attempt=2), policy=RetryPolicy(longest=2.0))
    event = example()
    assert outcome.due is not None
    assert outcome.due <= event.accepted_at + 2.0


async def test_event_that_would_never_reach_the_handler_is_an_error_of_the_test() -> None:
    with pytest.raises(ValueError, match="imsi"):
        await run(handler, example(changes={"pb_data.sim_info.imsi": ""}))
    with pytest.raises(ValueError, match="not Other/Type"):
        await run(handler, example("Other/Type"))
    with pytest.raises(ValueError, match="no handler"):
        await run(len, example())  # type: ignore[arg-type]


def test_changes_set_and_take_away_fields_and_leave_the_next_example_alone() -> None:
    changed = example("SIM/Replaced", {"pb_data.new.deep": 1, "pb_data.sim_info": ..., "event_id": "mine"})
    assert (changed.event_id, changed.event_type) == ("mine", "SIM/Replaced")
    assert changed.document()["pb_data"]["new"] == {"deep": 1}
    assert changed.pb_data.sim_info.imsi is None
    assert example().pb_data.sim_info.imsi
    assert "new" not in example().document()["pb_data"]


def test_body_that_would_be_refused_is_no_event() -> None:
    with pytest.raises(ConnectorError):
        event_of(b"{}")


async def forgets(_: Event) -> str:
    handler(example())  # type: ignore[unused-coroutine]
    return "done"


async def test_slip_and_error_are_told_with_their_line() -> None:
    outcome = await run(on("SIM/Updated")(forgets), example())
    assert (outcome.state, "was never awaited" in outcome.reason) == ("waiting", True)
    bad = await run(handler, example(changes={"pb_data.account_info.bill_status": ...}))
    assert bad.reason.startswith("ValueError: no status (tests/unit/test_testing.py:")


def flaky(failures: dict[str, int], done: list[str], name: str, **options: Any) -> Callable[[Event], Any]:
    """A handler that fails so often first."""

    @on("SIM/Updated", name=name, **options)
    async def write(event: Event) -> str:
        if event.attempt <= failures.get(name, 0):
            raise Retry("busy", after=3600)
        done.append(f"{name} {event.event_id}")
        return name

    return write


def test_trial_makes_all_attempts_without_sleeping_and_in_several_event_loops() -> None:
    done: list[str] = []
    trial = Trial(flaky({"a": 2}, done, "a"), flaky({"b": 1}, done, "b", max_attempts=1))
    assert asyncio.run(trial.deliver(example())).state == "dead"
    assert [outcome.state for outcome in trial.attempts] == ["waiting", "waiting", "dead"]
    assert asyncio.run(trial.deliver(example(changes={"event_id": "other"}), most=1)).state == "waiting"
    assert [each.partition(" ")[0] for each in done] == ["a"]


async def test_trial_lets_the_newest_state_win() -> None:
    done: list[str] = []
    trial = Trial(flaky({}, done, "a", latest_only=True))
    times = {"new": "2026-01-02T00:00:00Z", "old": "2026-01-01T00:00:00Z"}
    new, old = (example(changes={"event_id": name, "updated_at": time}) for name, time in times.items())
    assert (await trial.deliver(new)).state == "done"
    assert await trial.deliver(old) == Outcome("superseded", "new")
    assert done == ["a new"]


async def test_module_is_set_up_and_cleaned_up_around_its_tests() -> None:
    module = types.ModuleType("partner")
    exec(
        "from connector import on_start\nstate = []\n"
        "@on_start\nasync def pool():\n    state.append('open')\n    yield\n    state.append('closed')\n",
        vars(module),
    )
    async with started(module):
        assert vars(module)["state"] == ["open"]
    assert vars(module)["state"] == ["open", "closed"]
