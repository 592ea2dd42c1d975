import json
from typing import Any, get_args

import msgspec
import pytest

from connector.events.body import EventBody
from connector.web.accepted import BODY
from connector.web.openapi import describe
from connector.web.responses import ANSWERS, Answer, ErrorResponse, ErrorType
from tests import events
from tests.schema import Schemas

DOCUMENT = describe("/events")
SCHEMAS = Schemas(DOCUMENT)
EVENT = {"$ref": "#/components/schemas/EventBody"}


def test_the_document_is_plain_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [
                text for name, inner in value.items() for text in ([inner] if name == "$ref" else references(inner))
            ]
        return [text for inner in value for text in references(inner)] if isinstance(value, list) else []

    for reference in references(DOCUMENT):
        assert SCHEMAS.resolve(reference)


def test_the_path_of_the_events_is_the_one_that_is_set() -> None:
    assert set(DOCUMENT["paths"]) == {"/events", "/health", "/ready", "/openapi.json"}


def test_every_documented_field_is_described() -> None:
    assert SCHEMAS.undescribed(events.full(), EVENT) == []


def test_a_full_event_meets_the_schema_before_and_after_the_types() -> None:
    body = msgspec.json.decode(events.encode(events.full()), type=EventBody)
    assert SCHEMAS.faults(events.full(), EVENT) == []
    assert SCHEMAS.faults(json.loads(msgspec.json.encode(body)), EVENT) == []


@pytest.mark.parametrize("number", ["0", "7", "-7", "4711", "07", "+7", "", "7x", "-", " 7"])
def test_an_id_as_a_string_meets_the_schema_where_the_types_take_it(number: str) -> None:
    event = events.full()
    event["pb_data"]["account_info"]["i_account"] = number
    try:
        msgspec.json.decode(events.encode(event), type=EventBody, strict=False)
        taken = True
    except msgspec.ValidationError:
        taken = False
    assert taken == (not SCHEMAS.faults(event, EVENT))


@pytest.mark.parametrize("part", ["account_info", "sim_info", "access_policy_info", "product_info"])
def test_null_for_a_part_meets_the_schema(part: str) -> None:
    event = events.full()
    event["pb_data"][part] = None
    assert SCHEMAS.faults(event, EVENT) == []


def test_what_the_types_refuse_does_not_meet_the_schema() -> None:
    faulty: list[events.Json] = [
        {},
        {"data": {}},
        {"data": {"event_type": ""}},
        {"data": {"event_type": "A"}, "pb_data": []},
    ]
    for event in faulty:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(json.dumps(event), type=EventBody)
        assert SCHEMAS.faults(event, EVENT)


def test_the_answer_to_an_event_meets_its_schema() -> None:
    assert SCHEMAS.faults(json.loads(BODY), SCHEMAS.answer("/events", "post", 202)) == []


@pytest.mark.parametrize("answer", sorted(set(ANSWERS.values())), ids=str)
def test_every_refusal_is_described(answer: Answer) -> None:
    schema = SCHEMAS.answer("/events", "post", answer.status)
    refused = ErrorResponse(answer.message, "what went wrong", answer.type)
    assert SCHEMAS.faults(json.loads(msgspec.json.encode(refused)), schema) == []


def test_the_types_of_refusals_are_those_of_the_protocol() -> None:
    found = SCHEMAS.resolve("#/components/schemas/ErrorResponse")["properties"]["type"]["enum"]
    assert set(found) == set(get_args(ErrorType))
