"""The answers of the real application, held against the document that it serves."""

import json
from typing import Any

import pytest

from tests import events
from tests.schema import Schemas
from tests.serving import serving
from tests.wire import ask, post

BODY = events.encode(events.minimal())
HOLD = events.encode(events.minimal("Test/Hold"))
EVENT: dict[str, Any] = {"$ref": "#/components/schemas/EventBody"}


async def document(port: int) -> dict[str, Any]:
    answer = await ask(port, post(method="GET", path="/openapi.json", token=None))
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(BODY), 202),
        (post(b"{"), 400),
        (post(BODY, "Content-Encoding: br"), 415),
        (post(BODY, token=None), 401),
        (post(BODY, path="/nothing"), 404),
        (post(BODY, method="PUT"), 405),
        (post(b"{", length=100), 408),
        (post(b"{", length=10**9), 413),
        (post(BODY, "Expect: a-miracle"), 417),
        (post(b"{}"), 422),
    ],
)
async def test_an_answer_meets_the_schema_that_is_served(request_: bytes, status: int) -> None:
    async with serving(BODY_TIMEOUT="50ms") as (_, port):
        schemas = Schemas(await document(port))
        answer = await ask(port, request_)
        assert answer.status == status
        assert schemas.faults(answer.json(), schemas.answer("/process-event", "post", status)) == []
        assert schemas.undescribed(answer.json(), schemas.answer("/process-event", "post", status)) == []


async def test_a_refusal_for_want_of_room_or_for_a_bug_or_a_stop_meets_the_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(QUEUE_SIZE="1", DRAIN_TIMEOUT="0") as (connector, port):
        schemas = Schemas(await document(port))
        await ask(port, post(HOLD))
        answers = [await ask(port, post(HOLD))]
        monkeypatch.setattr(connector.journal, "keep", None)  # a call of it is the bug
        answers.append(await ask(port, post(HOLD)))
        connector.stop_accepting()
        answers.append(await ask(port, post(HOLD)))
        assert [answer.status for answer in answers] == [429, 500, 503]
        for answer in answers:
            assert schemas.faults(answer.json(), schemas.answer("/process-event", "post", answer.status)) == []
        ready = await ask(port, post(method="GET", path="/ready", token=None))
        assert schemas.faults(ready.json(), schemas.answer("/ready", "get", 503)) == []


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json"])
async def test_a_page_meets_the_schema_that_is_served(path: str) -> None:
    async with serving(EVENT_PATH="/") as (_, port):
        schemas = Schemas(await document(port))
        answer = await ask(port, post(method="GET", path=path, token=None))
        assert schemas.faults(answer.json(), schemas.answer(path, "get", 200)) == []


async def test_what_meets_the_served_schema_is_accepted() -> None:
    async with serving(REQUIRED_FIELDS="") as (_, port):
        schemas = Schemas(await document(port))
        for sample in events.generate(7, 60, largest=20_000):
            if sample.status == 400:
                continue
            meets = not schemas.faults(json.loads(sample.body), EVENT)
            status = (await ask(port, post(sample.body))).status
            assert status == 202 if meets else status in (202, 422), sample.body
