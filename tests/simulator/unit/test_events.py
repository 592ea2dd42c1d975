"""Bodies: repeatable, of the protocol, of realistic size."""

from __future__ import annotations

import re
import statistics
import uuid
from datetime import datetime
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsps_simulator.wire.events import MAX_BODY, MAX_EVENTS, Events
from nsps_simulator.wire.population import Population


def events_of(seed: int, subscribers: int = 5000) -> Events:
    return Events(seed, Population(seed, subscribers))


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    events = events_of(1)
    return [orjson.loads(events.body(index)) for index in range(3000)]


def test_the_same_seed_gives_the_same_bytes_in_any_order() -> None:
    first, second = events_of(5), events_of(5)
    forward = [first.body(index) for index in range(300)]
    backward = [second.body(index) for index in reversed(range(300))]
    assert forward == backward[::-1]


def test_another_seed_gives_other_events() -> None:
    first, second = events_of(5), events_of(6)
    ids = {first.event_id(index) for index in range(300)}
    assert not ids & {second.event_id(index) for index in range(300)}


def test_bodies_satisfy_the_protocol(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        assert uuid.UUID(document["event_id"]).version == 4
        assert isinstance(document["data"]["event_type"], str)
        variables = document["data"]["variables"]
        assert {"i_event", "i_account", "i_env", "event_time", "curr_status", "prev_status"} <= variables.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", variables["event_time"])
        assert document["pb_data"]["account_info"]["bill_status"]
        assert datetime.fromisoformat(document["updated_at"]).tzinfo is not None


def test_no_two_events_share_an_id(documents: list[dict[str, Any]]) -> None:
    assert len({document["event_id"] for document in documents}) == len(documents)
    assert len({document["data"]["variables"]["i_event"] for document in documents}) == len(documents)


def test_a_later_event_is_always_the_newer_state(documents: list[dict[str, Any]]) -> None:
    moments = [datetime.fromisoformat(document["updated_at"]) for document in documents]
    assert all(earlier < later for earlier, later in pairwise(moments))


def test_a_body_is_of_one_account_throughout(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        account = document["data"]["variables"]["i_account"]
        assert document["pb_data"]["account_info"].get("i_account", account) == account
        assert document["pb_data"].get("sim_info", {}).get("i_account", account) == account


def test_a_replaced_sim_names_the_one_before_it() -> None:
    events = events_of(1, subscribers=10)
    last: dict[int, int] = {}
    replaced = 0
    for index in range(1000):
        document = orjson.loads(events.body(index))
        if "sim_info" not in document["pb_data"]:
            last.pop(document["data"]["variables"]["i_account"], None)
            continue
        sim = document["pb_data"]["sim_info"]
        if document["data"]["event_type"] == "SIM/Replaced" and sim["i_account"] in last:
            replaced += 1
            assert document["pb_data"]["prev_sim_info"]["i_sim_card"] == last[sim["i_account"]]
        last[sim["i_account"]] = sim["i_sim_card"]
    assert replaced > 10


def test_nobody_real_can_be_meant(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        account = document["pb_data"]["account_info"]
        if "email" in account:
            assert account["email"].endswith("@example.invalid")
            assert re.fullmatch(r"Subscriber-\d+", account["lastname"])
            assert account["id"].startswith("999")
            assert document["pb_data"]["sim_info"]["imsi"].startswith("00101")


def test_sizes_are_those_of_real_events_with_a_tail_to_a_megabyte() -> None:
    events = events_of(2, subscribers=100_000)
    sizes = [len(events.body(index)) for index in range(150_000)]
    assert 1200 < statistics.median(sizes) < 1800
    assert 250 < min(sizes) < 400
    assert 900_000 < max(sizes) <= MAX_BODY


@given(index=st.integers(0, MAX_EVENTS - 1))
def test_the_index_can_be_read_back_from_an_id(index: int) -> None:
    events = events_of(9)
    assert events.index_of(events.event_id(index)) == index


@pytest.mark.parametrize("event_id", [b"", b"nonsense", b"3e84c79f-ab6f-4546-8e27-0b6ab866f1fb", b"\xff" * 36])
def test_a_foreign_id_is_not_taken_for_one_of_ours(event_id: bytes) -> None:
    assert events_of(9).index_of(event_id) is None


def test_a_retry_keeps_its_trace_and_gets_a_request_id_of_its_own() -> None:
    events = events_of(1)
    body, trace, request = events.request(17, 1)
    body_again, trace_again, request_again = events.request(17, 2)
    assert (body, trace) == (body_again, trace_again)
    assert request != request_again
    assert re.fullmatch(rb"[0-9a-f]{32}", trace)
    uuid.UUID(request.decode())
