"""No personal field gets past the one place that masks them; what nobody has documented counts as personal."""

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.events.body import EventBody
from connector.events.event_types import DOCUMENTED
from connector.events.examples import body_of
from connector.events.redaction import MASK, plain, redact
from tests import events

PERSONAL = {
    "firstname": "Given-1",
    "lastname": "Family-1",
    "email": "subscriber-1@example.invalid",
    "phone1": "99900000001",
    "zip": "ZIP-1",
    "eid": "89000000000000000001",
    "custom_fields": {"mother": "Family-2", "passport": 9990000},
    "someone_new": ["Given-2", {"name": "Given-3", "value": "Family-3"}],
}
SECRETS = ("Given-", "Family-", "ZIP-1", "example.invalid", "99900000001", "8900000000000000000", "9990000")


@pytest.mark.parametrize("place", ["pb_data.account_info", "data.variables", "pb_data.undocumented.deeper", ""])
def test_what_is_not_known_to_be_harmless_is_masked_wherever_it_stands(place: str) -> None:
    document: dict[str, Any] = {}
    inner = document
    for name in filter(None, place.split(".")):
        inner[name] = {}
        inner = inner[name]
    inner |= PERSONAL
    shown = json.dumps(redact([document]))
    assert [secret for secret in SECRETS if secret in shown] == []
    assert "custom_fields" in shown


@pytest.mark.parametrize("name", ["FirstName", "first_name", "E-Mail", "Phone", "ZIP", "birth_date", "h323_password"])
@pytest.mark.parametrize("value", ["secret", 7, 7.5, ["secret"], {"home": "secret"}, [{"x": "secret"}]])
def test_a_field_that_nobody_has_documented_shows_its_name_alone(name: str, value: object) -> None:
    shown = redact({"pb_data": {"account_info": {name: value}}})["pb_data"]["account_info"]
    assert list(shown) == [name]
    assert "secret" not in str(shown)
    assert "7" not in str(shown)


def test_a_name_that_may_be_somebody_s_is_masked_too() -> None:
    assert redact({"pb_data": {"Given Family": 1, "99900000001": 2}}) == {"pb_data": {MASK: MASK}}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("99900004711@msisdn", "********711@msisdn"),
        ("99900004711", "********711"),
        ("given.family@sip.example.invalid", "***@sip.example.invalid"),
        ("given.family", MASK),
    ],
)
def test_of_an_account_s_id_no_more_than_three_digits_are_left(value: str, shown: str) -> None:
    assert redact({"id": value}) == {"id": shown}


@pytest.mark.parametrize("name", ["msisdn", "imsi", "iccid", "number"])
def test_of_the_number_of_a_subscriber_or_a_card_no_more_than_three_digits_are_left(name: str) -> None:
    assert redact({name: "99900004711"}) == redact({name: 99900004711}) == {name: "********711"}
    assert redact({name: ["99900004711"]}) == {name: ["********711"]}
    assert redact({name: "given.family"}) == {name: MASK}


def test_a_long_number_in_a_text_that_is_shown_is_masked() -> None:
    feature = {"name": "cli", "attributes": [{"name": "display_number", "effective_value": "+99900004711,31"}]}
    shown = redact({"pb_data": {"account_info": {"service_features": [feature]}}})
    assert "99900004711" not in str(shown)
    assert "cli" in str(shown)
    assert ",31" in str(shown)


@pytest.mark.parametrize("event_type", DOCUMENTED)
def test_an_operator_still_sees_what_the_event_is(event_type: str) -> None:
    body = body_of(event_type)
    shown = redact(body)
    for name in ("event_id", "created_at", "updated_at", "status"):
        assert shown[name] == body[name]
    assert shown["data"]["event_type"] == event_type
    assert MASK not in [value for _, value in _leaves(shown)]


def test_every_documented_field_is_shown_or_known_to_be_personal() -> None:
    masked = {
        name
        for name, value in _leaves(redact(msgspec.to_builtins(msgspec.convert(events.full(), EventBody, strict=False))))
        if value == MASK
    }
    assert masked == {"firstname", "lastname", "email", "phone1", "zip"}


def _leaves(value: Any, name: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in _leaves(each, key)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in _leaves(each, name)]
    return [(name, value)]


def test_empty_fields_are_shown_as_empty_and_the_document_is_not_changed() -> None:
    document = events.full()
    before = copy.deepcopy(document)
    redact(document)
    assert document == before
    assert redact({"email": None, "zip": "", "new": False}) == {"email": None, "zip": "", "new": False}


@pytest.mark.parametrize(
    "letter", ["\x00", "\x07", "\x1b", "\x7f", "\x85", "\x9b", "\u200f", "\u202e", "\u2066", "\u2028"]
)
def test_no_character_that_could_change_a_terminal_is_shown(letter: str) -> None:
    shown = redact({"pb_data": {"product_info": {"name": f"a{letter}b", "description": letter}, f"n{letter}": letter}})
    assert letter not in json.dumps(shown, ensure_ascii=False)
    assert plain(f"a{letter}b").isprintable()


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner, max_size=3)))
def test_whatever_is_shown_is_json_and_can_be_printed(value: Any) -> None:
    for text in _leaves(redact(value)):
        assert all(not isinstance(part, str) or part.isprintable() for part in text)
    json.dumps(redact(value))
