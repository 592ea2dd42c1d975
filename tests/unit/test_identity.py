"""Which bodies are one event, sent twice."""

from typing import Any

import pytest

from connector.events.event import Event
from connector.events.identity import HALF_KEY, id_prefix, plain_id
from connector.events.schema import Schema
from tests import events

NIL = "00000000-0000-0000-0000-000000000000"
NOTHING = [None, "", "  ", "undefined", "null", "NULL", "None", "nil", "NaN", "n/a", NIL]


def event(event_id: Any = "e-1", event_type: str = "SIM/Updated", **variables: Any) -> Event:
    body = events.minimal(event_type, event_id=event_id)
    body["data"]["variables"] = variables
    return Schema(()).parse(events.encode(body), "request", "unique", 1.0)


def test_a_retry_has_the_identity_of_the_event() -> None:
    assert event(i_env=3, i_event="7").identity == event(i_env="3", i_event=7.0).identity
    assert event(i_env=3, i_event="7").identity.key == event(i_env="3", i_event=" 7 ").identity.key


@pytest.mark.parametrize(
    "other",
    [
        event("e-2", i_env=3, i_event=7),
        event("e-1", i_env=1, i_event=7),
        event("e-1", i_env=3, i_event=8),
        event("e-1", i_event=7),
        event("e-1", "SIM/Replaced", i_env=3, i_event=7),
        event(None, i_env=3, i_event=7),
    ],
)
def test_an_event_that_differs_in_one_part_is_another(other: Event) -> None:
    this = event("e-1", i_env=3, i_event=7)
    assert this.identity != other.identity
    assert this.identity.key != other.identity.key
    assert this.idempotency_key("h") != other.idempotency_key("h")


@pytest.mark.parametrize("event_id", NOTHING)
def test_an_id_that_says_nothing_makes_no_two_events_one(event_id: object) -> None:
    one, other = event(event_id), event(event_id)
    assert not one.identity.known
    assert one.event_id != other.event_id
    assert one.idempotency_key("h") != other.idempotency_key("h")
    assert one.idempotency_key("h") == one.idempotency_key("h")


@pytest.mark.parametrize("event_id", NOTHING)
def test_without_an_id_the_number_of_the_event_makes_retries_one(event_id: object) -> None:
    one, other = event(event_id, i_event=7), event(event_id, i_event="7")
    assert one.identity.known
    assert one.identity == other.identity
    assert one.idempotency_key("h") == other.idempotency_key("h")


def test_all_that_bear_an_id_are_a_range_of_keys() -> None:
    prefix = id_prefix("e-1")
    assert len(prefix) == HALF_KEY
    assert {each.identity.key[:HALF_KEY] for each in (event(i_event=1), event(i_event=2), event())} == {prefix}
    assert event("e-2").identity.key[:HALF_KEY] != prefix
    assert len(event().identity.key) == 2 * HALF_KEY


def test_two_handlers_of_an_event_have_two_keys() -> None:
    assert event().idempotency_key("one") != event().idempotency_key("two")


def test_an_identity_is_the_same_after_the_event_comes_back_from_the_journal() -> None:
    this = event(i_env=3, i_event=7)
    back = Event(this.event_id, this.event_type, (), "request", "unique", 1.0, this.raw, attempt=4)
    assert back.identity == this.identity
    assert back.idempotency_key("h") == this.idempotency_key("h")


def test_an_absent_part_is_no_part_with_a_name_like_it() -> None:
    assert event(i_env="", i_event=7).identity == event(i_event=7).identity
    assert event("None", i_event=7).identity.event_id is None


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (7, "7"),
        (-7, "-7"),
        (7.0, "7"),
        (7.5, "7.5"),
        ("007", "7"),
        ("0", "0"),
        ("7.00", "7"),
        ("a7", "a7"),
        ("٧", "٧"),
        (True, None),
        ([7], None),
    ],
)
def test_an_id_has_one_plain_spelling(value: object, plain: str | None) -> None:
    assert plain_id(value) == plain
