"""Whatever the body is: 202, 400, 413 or 422, and always one of the documented answers."""

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector.errors import Invalid, NotJson
from connector.events.schema import Schema
from tests import events
from tests.conftest import Lines
from tests.delivery import well_formed
from tests.mutation import OPERATIONS, mutate
from tests.serving import serving
from tests.wire import Answer, ask, post

LIMIT = 8 * 1024
CAREFULLY = settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "1" * 300, "9" * 5000, "\x00", "null", "1e999", "-0", "٣"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from paths(inner, (*path, step))


@st.composite
def spoilt_events(draw: st.DrawFn) -> bytes:
    """A full event with other values, or none, in some places."""
    event = events.full()
    for path in draw(st.lists(st.sampled_from(list(paths(event))), min_size=1, max_size=4)):
        spot: Any = event
        try:
            for step in path[:-1]:
                spot = spot[step]
            if isinstance(spot, dict) and draw(st.booleans()):
                spot.pop(path[-1], None)
            else:
                spot[path[-1]] = draw(JSON)
        except (TypeError, KeyError, IndexError):
            continue  # an earlier change has taken the place away
    return json.dumps(event, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


MUTATED = st.builds(
    mutate,
    st.sampled_from([events.encode(events.full()), events.encode(events.minimal(), ascii_only=False)]),
    st.randoms(use_true_random=False),
    st.sampled_from([*OPERATIONS, None]),
)
BODIES = (
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | JSON.map(lambda value: json.dumps(value).encode())
    | spoilt_events()
    | MUTATED
)


@pytest.fixture
def answer(log_lines: Lines) -> Iterator[Callable[..., Answer]]:
    """The answer of a running connector to a body; all examples of a test have the same one."""
    with asyncio.Runner() as runner:
        context = serving(MAX_BODY_BYTES=str(LIMIT), QUEUE_SIZE="1000000")
        _, port = runner.run(context.__aenter__())

        def send(body: bytes, *headers: str) -> Answer:
            return runner.run(ask(port, post(body, *headers)))

        yield send
        runner.run(context.__aexit__(None, None, None))


def assert_documented(answer: Answer) -> None:
    assert answer.status in (202, 400, 413, 422), answer
    assert well_formed(answer), answer
    if answer.status == 422:
        assert answer.json()["details"]


@given(body=BODIES)
@CAREFULLY
def test_no_body_gets_an_answer_that_is_not_documented(body: bytes, answer: Callable[..., Answer]) -> None:
    assert_documented(answer(body))


@given(body=BODIES, packed=st.booleans())
@settings(CAREFULLY, max_examples=60)
def test_no_body_that_claims_to_be_compressed_does(body: bytes, packed: bool, answer: Callable[..., Answer]) -> None:
    assert_documented(answer(gzip.compress(body, 1) if packed else body, "Content-Encoding: gzip"))


@given(size=st.integers(LIMIT - 3, LIMIT + 3))
@settings(CAREFULLY, max_examples=20)
def test_the_limit_is_the_limit(size: int, answer: Callable[..., Answer]) -> None:
    body = events.encode(events.minimal())
    assert answer(body + b" " * (size - len(body))).status == (202 if size <= LIMIT else 413)


@given(body=BODIES)
@settings(CAREFULLY, max_examples=600)
def test_an_accepted_event_can_be_worked_with(body: bytes) -> None:
    schema = Schema(("data.event_type",))
    try:
        event = schema.parse(body, "r", "u", 0.0)
    except (NotJson, Invalid):
        return
    assert 0 < len(event.event_id) <= 255
    assert event.event_id.isprintable()
    assert event.event_type.isprintable()
    assert event.lane.isprintable()
    for text in (event.event_id, event.event_type, event.lane, str(event.document()), repr(event)):
        assert text.encode()
    assert event.document()["data"]["event_type"] == event.event_type
    assert event.created_at is None or event.created_at.tzinfo
    assert event.pb_data.account_info.bill_status is None or event.pb_data.account_info.bill_status.encode() is not None
