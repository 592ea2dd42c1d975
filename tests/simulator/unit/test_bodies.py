"""Bodies that the target is told, compared with the events' own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsps_simulator.records import Body
from nsps_simulator.wire.bodies import Bodies, difference, read_mapping
from nsps_simulator.wire.events import Events
from nsps_simulator.wire.population import Population

EVENTS = Events(3, Population(3, 2))
WITH_CARD = next(index for index in range(100) if b'"sim_info":{' in EVENTS.body(index) and index > 20)


def event(index: int = WITH_CARD) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(EVENTS.body(index))
    return document


def before() -> int:
    """The event of the same subscriber that came before it and has another state."""
    owner, state = EVENTS.subscriber(WITH_CARD), event()["pb_data"]
    return next(
        index
        for index in range(WITH_CARD - 1, -1, -1)
        if EVENTS.subscriber(index) == owner and event(index)["pb_data"] != state
    )


def told(body: object) -> tuple[Body, str]:
    return Bodies(EVENTS).compare(WITH_CARD, json.dumps(body).encode())


def test_a_body_that_was_rendered_anew_is_the_same() -> None:
    again = json.dumps(dict(reversed(event().items())), indent=3, ensure_ascii=True).encode()
    assert Bodies(EVENTS).compare(WITH_CARD, again) == (Body.SAME, "")
    assert Bodies(EVENTS).compare(WITH_CARD, EVENTS.body(WITH_CARD)) == (Body.SAME, "")


def _set(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_set("pb_data", "sim_info", "imsi", to="001019999999999"), "pb_data.sim_info.imsi is"),
        (_set("pb_data", "sim_info", to=None), "pb_data.sim_info is null"),
        (_set("data", "variables", "curr_status", to="blocked!"), "data.variables.curr_status is"),
        (_set("extra", to=1), "extra was added"),
        (_set("data", "variables", "i_env", to="1"), "data.variables.i_env is"),
        (lambda document: document.pop("pb_data"), "pb_data is missing"),
        (lambda document: document["pb_data"]["sim_info"].pop("imsi"), "pb_data.sim_info.imsi is missing"),
    ],
)
def test_a_field_that_is_not_the_events_is_found_and_named(change: Callable[[Any], None], where: str) -> None:
    document = event()
    change(document)
    body, words = told(document)
    assert body is Body.ALTERED
    assert words.startswith(where)


@pytest.mark.parametrize("text", [b"", b" ", b"{}", b"[]", b"null", b'""'])
def test_a_body_with_nothing_in_it_is_found(text: bytes) -> None:
    assert Bodies(EVENTS).compare(WITH_CARD, text)[0] is Body.EMPTY


def test_what_is_no_json_is_found() -> None:
    assert Bodies(EVENTS).compare(WITH_CARD, b"{")[0] is Body.ALTERED


def test_the_previous_snapshot_under_the_new_id_is_found_however_much_of_it_is_new() -> None:
    older = event(before())
    whole = {**older, "event_id": event()["event_id"]}
    assert told(whole)[0] is Body.STALE
    state_alone = {**event(), "pb_data": older["pb_data"]}
    assert told(state_alone)[0] is Body.STALE
    with_number = {**event(), "pb_data": older["pb_data"], "updated_at": older["updated_at"]}
    assert told(with_number)[0] is Body.STALE


def test_the_body_of_another_subscriber_is_found() -> None:
    other = next(index for index in range(100) if EVENTS.subscriber(index) != EVENTS.subscriber(WITH_CARD))
    assert told({**event(other), "event_id": event()["event_id"]})[0] is Body.MIXED_UP


def test_a_mapping_says_what_a_body_of_the_connectors_own_should_be(tmp_path: Path) -> None:
    path = tmp_path / "mapping.toml"
    path.write_text(
        'id = "event_id"\nsource = { constant = "nsps" }\nversion = 7\nabsent = "pb_data.nothing"\n'
        'when = { path = "no.such", default = "unknown" }\n'
        "profile = \"pb_data.access_policy_info.attributes[?name=='cs_profile'].value | [0]\"\n"
        '[card]\nimsi = "pb_data.sim_info.imsi"\n'
    )
    bodies = Bodies(EVENTS, read_mapping(path))
    document = event()
    mapped = {
        "id": document["event_id"],
        "source": "nsps",
        "version": 7,
        "when": "unknown",
        "profile": "cs-pp-3770",
        "card": {"imsi": document["pb_data"]["sim_info"]["imsi"]},
    }
    mapped["profile"] = document["pb_data"]["access_policy_info"]["attributes"][0]["value"]
    assert bodies.compare(WITH_CARD, json.dumps(mapped).encode()) == (Body.SAME, "")
    mapped["card"] = {"imsi": "1"}
    assert bodies.compare(WITH_CARD, json.dumps(mapped).encode())[0] is Body.ALTERED


@pytest.mark.parametrize("text", ["a = [[", 'a = "b.["', ""])
def test_a_mapping_that_cannot_be_read_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / ("mapping.toml" if text else "absent.toml")
    if text:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"\.toml is not a mapping"):
        read_mapping(path)


def test_bodies_that_nothing_here_can_know_are_not_compared() -> None:
    assert Bodies(EVENTS, compared=False).compare(WITH_CARD, b"{}") == (Body.NOT_COMPARED, "")


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "a[1].b is 3, not 2"),
        ({"a": [1]}, {"a": [1, 2]}, "a has 2 items, not 1"),
        ({"a": 1}, {"a": True}, "a is true, not 1"),
        ({"a": 1}, {"a": 1.0}, "a is 1.0, not 1"),
        (1, 1, None),
    ],
)
def test_the_first_difference_is_named(one: object, other: object, where: str | None) -> None:
    assert difference(one, other) == where
