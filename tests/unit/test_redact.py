"""No personal field gets past the one place that masks them."""

from typing import Any

import pytest

from connector.events.redaction import MASK, redact
from tests import events

PERSONAL = {
    "firstname": "Given-1",
    "lastname": "Family-1",
    "email": "subscriber-1@example.invalid",
    "phone1": "99900000001",
    "zip": "ZIP-1",
}


@pytest.mark.parametrize("place", ["pb_data.account_info", "data.variables", "pb_data.undocumented.deeper", ""])
def test_personal_field_is_masked_wherever_it_stands(place: str) -> None:
    document: dict[str, Any] = {}
    inner = document
    for name in filter(None, place.split(".")):
        inner[name] = {}
        inner = inner[name]
    inner |= PERSONAL | {"bill_status": "open"}
    shown = str(redact([document]))
    assert [value for value in PERSONAL.values() if value in shown] == []
    assert "open" in shown


@pytest.mark.parametrize("name", ["FirstName", "first_name", "E-Mail", "Phone", "ZIP", "birth_date", "h323_password"])
def test_other_spellings_of_a_personal_field_are_masked(name: str) -> None:
    assert redact({name: "secret"}) == {name: MASK}


@pytest.mark.parametrize(
    "value", [["a@example.invalid"], {"home": "a@example.invalid"}, [{"x": "a@example.invalid"}], 7]
)
def test_personal_field_of_any_type_is_masked_whole(value: object) -> None:
    assert redact({"email": value, "phone1": value}) == {"email": MASK, "phone1": MASK}


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


def test_of_a_subscriber_s_number_no_more_than_three_digits_are_left() -> None:
    assert redact({"msisdn": "99900004711"}) == redact({"msisdn": "99900004711"}) == {"msisdn": "********711"}
    assert redact({"msisdn": 99900004711}) == {"msisdn": "********711"}
    assert redact({"msisdn": ["99900004711"]}) == {"msisdn": MASK}


def test_empty_fields_are_shown_as_empty_and_the_document_is_not_changed() -> None:
    document = events.full()
    before = events.encode(document)
    redact(document)
    assert events.encode(document) == before
    assert redact({"email": None, "zip": ""}) == {"email": None, "zip": ""}
