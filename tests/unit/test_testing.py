"""What the authors of handlers test with."""

import pytest

from connector import DeadLetter, Event, Ignored, Retry, on
from connector.errors import ConnectorError
from connector.outcome import RetryPolicy
from connector.testing import event_of, example, run


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
    assert (outcome.state, outcome.reason) == (state, reason)


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
