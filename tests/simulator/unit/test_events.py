"""Bodies: repeatable, of the protocol, of realistic size."""

from __future__ import annotations

import re
import statistics
import uuid
from collections import Counter
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
        variables = document["data"]["variables"]
        assert {"i_event", "i_env", "event_time", "curr_status", "prev_status"} <= variables.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", variables["event_time"])
        assert datetime.fromisoformat(document["updated_at"]).tzinfo is not None


def test_events_of_cards_customers_and_numbers_have_no_account_and_all_others_have(
    documents: list[dict[str, Any]],
) -> None:
    for document in documents:
        kind, account = document["data"]["event_type"], document["pb_data"].get("account_info")
        if kind in {"SIM/Created", "SIM/Deleted"} or kind.startswith(("Customer/", "DID/")):
            assert account is None
        else:
            assert account["bill_status"]


def test_no_two_events_share_an_id(documents: list[dict[str, Any]]) -> None:
    assert len({document["event_id"] for document in documents}) == len(documents)
    assert len({document["data"]["variables"]["i_event"] for document in documents}) == len(documents)


def test_a_later_event_is_always_the_newer_state(documents: list[dict[str, Any]]) -> None:
    moments = [datetime.fromisoformat(document["updated_at"]) for document in documents]
    assert all(earlier < later for earlier, later in pairwise(moments))


def test_a_body_is_of_one_account_throughout(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        account = document["data"]["variables"].get("i_account")
        assert (document["pb_data"].get("account_info") or {}).get("i_account", account) == account
        assert (document["pb_data"].get("sim_info") or {}).get("i_account", account) == account


def test_a_card_is_created_assigned_moved_removed_and_deleted() -> None:
    events = events_of(1, subscribers=20)
    holders: dict[str, int | None] = {}
    seen = Counter[str]()
    for index in range(4000):
        document = orjson.loads(events.body(index))
        kind, data = document["data"]["event_type"], document["pb_data"]
        if not kind.startswith("SIM/"):
            continue
        card, previous = (data.get(name) or {} for name in ("sim_info", "prev_sim_info"))
        account = document["data"]["variables"].get("i_account")
        if kind == "SIM/Created":
            assert card["imsi"] not in holders
            holders[card["imsi"]] = None
        elif kind == "SIM/Deleted":
            assert holders.pop(card["imsi"]) is None, "only a free card is deleted"
        if kind == "SIM/Replaced":
            if previous:
                assert holders.get(previous["imsi"], account) == account, "a card is taken from who has it"
                holders[previous["imsi"]] = None
            if card:
                assert holders.get(card["imsi"]) is None, "a card is given when it is free"
                holders[card["imsi"]] = account
            seen[f"{'assigned' if card else ''}{'removed' if previous else ''}"] += 1
    assert min(seen[name] for name in ("assigned", "removed", "assignedremoved")) > 10


def test_neighbours_share_the_numbers_of_portabilling_each_in_an_environment_of_its_own() -> None:
    events = events_of(1, subscribers=2)
    named = [events.describe(index) for index in range(16)]
    accounts = {(fact["i_env"], fact["i_account"]) for fact in named if "i_account" in fact}
    assert {env for env, _ in accounts} == {1, 3}
    assert {account for env, account in accounts if env == 1} & {account for env, account in accounts if env == 3}
    assert not set(events.resources(0)) & set(events.resources(1)) or named[0]["i_env"] == named[1]["i_env"]


def test_two_events_share_a_resource_when_they_concern_one_account_or_one_card(
    documents: list[dict[str, Any]],
) -> None:
    events = events_of(1)
    owners: dict[int, set[str]] = {}
    for index, document in enumerate(documents):
        for key in events.resources(index, frozenset({"card", "previous_card"})):
            data = document["pb_data"]
            cards = [data[name] for name in ("sim_info", "prev_sim_info") if data.get(name)]
            imsis = {str(card["imsi"]) for card in cards}
            owners[key] = owners.get(key, imsis) & imsis
    assert owners
    assert all(len(imsis) >= 1 for imsis in owners.values())
    assert events.resources(3, frozenset()) == ()


def test_perls_types_are_the_same_values_in_another_dress() -> None:
    plain, perl = events_of(1), Events(1, Population(1, 5000), perl=1.0)
    for index in range(300):
        one, other = orjson.loads(plain.body(index)), orjson.loads(perl.body(index))
        assert str(one["data"]["variables"]["i_event"]) == other["data"]["variables"]["i_event"]
        account = one["pb_data"].get("account_info") or {}
        if "blocked" in account:
            assert other["pb_data"]["account_info"]["blocked"] == ("Y" if account["blocked"] else "N")
        if one["pb_data"].get("sim_info", "absent") is None:
            assert other["pb_data"]["sim_info"] == []


def test_nobody_real_can_be_meant(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        account = document["pb_data"].get("account_info") or {}
        if "email" in account:
            assert account["email"].endswith("@example.invalid")
            assert re.fullmatch(r"Subscriber-\d+", account["lastname"])
            assert account["id"].startswith("999")
        for name in ("sim_info", "prev_sim_info"):
            assert (document["pb_data"].get(name) or {}).get("imsi", "00101").startswith("00101")


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
