"""What the authors of handlers test with."""

import asyncio
import types
from collections.abc import Callable
from typing import Any

import pytest

from connector import DeadLetter, Event, Ignored, Retry, on
from connector.errors import ConnectorError
from connector.external import from_thread, target
from connector.outcome import Outcome, RetryPolicy
from connector.testing import StandIn, Trial, event_of, example, no_answer, reply, run, started, using


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


@on("SIM/Updated", name="calls")
async def calls(event: Event) -> None:
    """Call the target once."""
    await target().post("/prov", json={}, event=event)


@on("SIM/Updated", name="calls_in_thread")
def calls_in_thread(event: Event) -> str:
    """Call the target from a thread."""
    return from_thread(target().get("/name", event=event)).text()


@on("SIM/Updated", name="calls_in_executor")
async def calls_in_executor(event: Event) -> str:
    """Call the target from a thread of an executor, which has no context of this attempt."""
    return await asyncio.get_running_loop().run_in_executor(None, calls_in_thread, event)


def test_a_retry_after_spends_no_attempt_and_nothing_is_called_before_its_time() -> None:
    busy = StandIn(reply(429, headers={"Retry-After": "500"}), 200)
    with using(busy):
        assert asyncio.run(run(calls, example())).state == "waiting"
        busy.elapse(499)
        assert asyncio.run(run(calls, example())).state == "waiting"
        assert len(busy.calls) == 1
        busy.elapse(500)
        assert asyncio.run(run(calls, example())).state == "done"


def test_an_outage_in_a_trial_is_waited_for_without_sleeping() -> None:
    down = StandIn(*[no_answer()] * 5, 200, BREAKER_FAILURES="2", BREAKER_COOL_DOWN="1h", BREAKER_COOL_DOWN_MAX="1h")
    trial = Trial(calls)
    with using(down):
        assert asyncio.run(trial.deliver(example())).state == "done"
    assert len(down.calls) == len(trial.attempts) == 6


def test_a_given_back_event_of_several_handlers_goes_on_with_the_one_that_was_held() -> None:
    done: list[str] = []
    busy = StandIn(reply(429, headers={"Retry-After": "60"}), 200)
    with using(busy):
        outcome = asyncio.run(Trial(flaky({}, done, "first"), calls).deliver(example()))
    assert (outcome.state, done, len(busy.calls)) == ("done", [f"first {example().event_id}"], 2)


def test_a_rate_of_the_target_makes_no_test_wait() -> None:
    slow, trial = StandIn(TARGET_RATE="1", TARGET_BURST="1", TARGET_CONCURRENCY="1"), Trial(calls)
    with using(slow):
        for number in range(30):
            assert asyncio.run(trial.deliver(example(changes={"event_id": str(number)}))).state == "done"


def test_a_token_expires_when_the_time_of_its_target_has_passed() -> None:
    oauth = {"TARGET_TOKEN_URL": "http://login.example/token", "TARGET_CLIENT_ID": "a", "TARGET_CLIENT_SECRET": "b"}
    there = StandIn(TARGET_AUTH="oauth2", **oauth).answer(
        reply(json={"access_token": "1", "token_type": "Bearer", "expires_in": 60}),
        reply(json={"access_token": "2", "token_type": "Bearer", "expires_in": 60}),
        path="/token",
    )
    with using(there):
        for _ in range(2):
            asyncio.run(run(calls, example()))
            there.elapse(61)
    assert [call.headers["Authorization"] for call in there.calls if call.path == "/prov"] == ["Bearer 1", "Bearer 2"]


@pytest.mark.parametrize("handler", [calls_in_thread, calls_in_executor])
def test_a_thread_of_a_handler_calls_its_stand_in(handler: Callable[[Event], Any]) -> None:
    with using(StandIn(reply(text="hlr-1"))):
        assert asyncio.run(run(handler, example())).reason == "hlr-1"
        assert asyncio.run(Trial(handler).deliver(example())).reason == "hlr-1"
