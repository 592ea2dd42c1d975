import json
import subprocess
import sys
from typing import Any, get_args

import msgspec
import pytest

from connector.errors import Invalid
from connector.events.body import EventBody
from connector.events.event_types import DOCUMENTED
from connector.events.examples import body_of, put, special_forms
from connector.events.schema import Schema
from connector.web.accepted import BODY
from connector.web.openapi import describe
from connector.web.responses import ANSWERS, Answer, ErrorResponse, ErrorType
from tests import events
from tests.corpus import CORPUS, Kind
from tests.schema import Schemas

DOCUMENT = describe("/events", Schema())
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


@pytest.mark.parametrize("part", ["account_info", "sim_info", "access_policy_info", "product_info"])
def test_null_for_a_part_meets_the_schema(part: str) -> None:
    event = events.full()
    event["data"]["event_type"] = "SIM/Created"  # which has no account
    event["pb_data"][part] = None
    assert SCHEMAS.faults(event, EVENT) == []


RULES = [
    Schema(),
    Schema(()),
    Schema(("event_id", "pb_data.sim_info.imsi")),
    Schema(None, "", {"SIM/Updated": ["pb_data.sim_info.imsi"], "SIM/*": ["data.variables.i_account"], "*": []}),
    Schema(None, "", {"*/Blocked": ["pb_data.account_info.blocked"], "*": ["handler_id"]}),
    Schema((), "", {"Customer/*": ["data.variables.i_customer"], "Customer/Blocked": ["data.variables.site"]}),
]


def is_accepted(rules: Schema, body: events.Json) -> bool:
    try:
        rules.parse(events.encode(body), "request", "unique", 1.0)
    except Invalid:
        return False
    return True


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("event_type", [*DOCUMENTED[:15], "Customer/Blocked", "DID/New", "Bundle/New"])
def test_the_description_asks_for_what_this_connector_asks_for(rules: Schema, event_type: str) -> None:
    schemas = Schemas(describe("/events", rules))
    paths = ["pb_data.account_info", "pb_data.account_info.bill_status", "pb_data.sim_info", "handler_id", "event_id"]
    paths += ["data.variables.i_account", "data.variables.i_customer", "pb_data.account_info.blocked", "pb_data"]
    for path in ["status", *paths]:
        for value in (..., None, "", " "):
            body = body_of(event_type)
            put(body, path, value)
            meets = not schemas.faults(body, EVENT)
            assert is_accepted(rules, body) == meets or (value == " " and not meets), (path, value)


@pytest.mark.parametrize("body", [*map(body_of, DOCUMENTED), *special_forms().values()])
def test_every_example_meets_the_description(body: events.Json) -> None:
    assert SCHEMAS.faults(body, EVENT) == []


@pytest.mark.parametrize("kind", [kind for kind in CORPUS if kind.status == 422], ids=lambda kind: kind.name)
def test_what_is_refused_does_not_meet_the_description(kind: Kind) -> None:
    assert "deep" in kind.name or SCHEMAS.faults(json.loads(kind.body), EVENT)


MADE_WITHOUT_DOCSTRINGS = """
import json
from connector.events.schema import Schema
from connector.web.openapi import describe
print(json.dumps(describe("/events", Schema())))
"""


def test_texts_do_not_depend_on_docstrings() -> None:
    command = [sys.executable, "-OO", "-c", MADE_WITHOUT_DOCSTRINGS]
    assert json.loads(subprocess.run(command, capture_output=True, check=True).stdout) == DOCUMENT


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
