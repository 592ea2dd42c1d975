"""The headers of a call: stable, valid, and never a way to smuggle a line."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from connector.events.event import Event
from connector.external.headers import of_event, trace_id

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01")


def event(event_id: str = "event-1", request_id: str = "trace-1") -> Event:
    body = json.dumps({"event_id": event_id, "data": {"event_type": "SIM/Updated"}}).encode()
    return Event(event_id, "SIM/Updated", ("lane",), request_id, "unique-1", 0.0, body)


@pytest.mark.parametrize(
    ("request_id", "expected"),
    [
        ("463ac35c9f6413ad48485a3953bb6124", "463ac35c9f6413ad48485a3953bb6124"),
        ("463AC35C9F6413AD48485A3953BB6124", "463ac35c9f6413ad48485a3953bb6124"),
        ("463ac35c9f6413ad", "0000000000000000463ac35c9f6413ad"),
        ("3e84c79f-ab6f-4546-8e27-0b6ab866f1fb", "3e84c79fab6f45468e270b6ab866f1fb"),
    ],
)
def test_the_trace_goes_on_under_the_id_that_came(request_id: str, expected: str) -> None:
    assert trace_id(request_id) == expected
    assert of_event(event(request_id=request_id))["x-b3-traceid"] == request_id


@given(st.text(max_size=130))
def test_any_id_gives_a_valid_traceparent(request_id: str) -> None:
    assert TRACEPARENT.fullmatch(of_event(event(request_id=request_id))["traceparent"])


@pytest.mark.parametrize("nought", ["0" * 32, "0" * 16, "00000000-0000-0000-0000-000000000000"])
def test_an_id_of_noughts_is_not_passed_on_as_a_trace(nought: str) -> None:
    assert int(trace_id(nought), 16)


def test_a_replay_or_a_restart_sends_the_same_headers() -> None:
    again = replace(event(), attempt=7)
    assert of_event(again) == of_event(event())


def test_two_events_of_one_trace_are_two_spans() -> None:
    one, two = of_event(event("a")), of_event(event("b"))
    assert one["x-b3-traceid"] == two["x-b3-traceid"]
    assert one["x-b3-spanid"] != two["x-b3-spanid"]


def test_two_steps_and_two_handlers_of_one_event_have_keys_of_their_own() -> None:
    keys = [
        of_event(event(), step, handler)["Idempotency-Key"] for handler in ("hlr", "crm") for step in ("", "release")
    ]
    assert len(set(keys)) == 4
    assert keys[1] == f"{keys[0]}/release"


def test_the_key_is_that_of_the_identity_and_the_id_travels_beside_it() -> None:
    sent = of_event(event("event-9"), handler="hlr")
    assert sent["Idempotency-Key"] == event("event-9").idempotency_key("hlr")
    assert sent["x-event-id"] == "event-9"


@pytest.mark.parametrize(
    ("event_id", "key"), [("gr\u00f6\u00dfe", "gr%C3%B6%C3%9Fe"), ("a b", "a%20b"), ("a/b%c", "a/b%c")]
)
def test_an_id_that_is_no_header_value_is_made_one(event_id: str, key: str) -> None:
    assert of_event(event(event_id))["x-event-id"] == key
