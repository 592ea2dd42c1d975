"""Each kind of body is answered, read and told apart as the corpus says; what is taken can be read by every part."""

import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector import log
from connector.errors import ConnectorError, Invalid, NotJson
from connector.events.body import EventBody
from connector.events.event import Event
from connector.events.event_types import DOCUMENTED
from connector.events.examples import body_of, put
from connector.events.paths import is_absent, path
from connector.events.reading import decode, read, read_leniently
from connector.events.redaction import redact
from connector.events.schema import Schema
from connector.events.snapshot import snapshot_of
from connector.external import mapping
from tests.corpus import CORPUS, Kind
from tests.events import encode

SCHEMA = Schema()


def parse(raw: bytes) -> Event:
    return SCHEMA.parse(raw, "request", "unique", 1.8e9)


def test_the_corpus_has_a_hundred_kinds_and_more_each_under_its_own_name() -> None:
    names = [kind.name for kind in CORPUS]
    assert len(set(names)) == len(names) >= 100
    assert all(kind.why for kind in CORPUS if kind.status != 202)


@pytest.mark.parametrize("kind", [kind for kind in CORPUS if kind.status == 202], ids=lambda kind: kind.name)
def test_a_body_that_is_sent_is_taken_and_reads_as_expected(kind: Kind) -> None:
    event = parse(kind.body)
    for where, value in kind.reads.items():
        found = event.event_id if where == "event_id" else event.field(where)
        assert (found, type(found)) == (value, type(value)) or (is_absent(found) and value is None), where
    assert set(event.unreadable) == set(kind.unreadable)
    assert kind.touches is None or event.resources == kind.touches
    every_part_reads(event)


@pytest.mark.parametrize("kind", [kind for kind in CORPUS if kind.status != 202], ids=lambda kind: kind.name)
def test_a_body_that_is_refused_is_refused_for_its_reason(kind: Kind) -> None:
    with pytest.raises(ConnectorError) as caught:
        parse(kind.body)
    if kind.status == 400:
        assert isinstance(caught.value, NotJson)
        return
    assert isinstance(caught.value, Invalid)
    where = [[step for step in loc.split(".") if step] for loc in kind.reads]
    assert [detail.loc for detail in caught.value.details][: len(where)] == where


def every_part_reads(event: Event) -> None:
    """Nothing that is accepted is a bug of a part that reads it later."""
    again = Event(event.event_id, event.event_type, event.resources, "r", "u", event.accepted_at, event.raw)
    assert again.body == event.body
    assert again.identity == event.identity
    assert again.unreadable == event.unreadable
    assert SCHEMA.parse(event.raw, "r", "u", 0.0).resources == event.resources
    document = event.document()
    assert msgspec.json.decode(msgspec.json.encode(document)) == document
    json.dumps(redact(document))
    log._line({"document": document})
    assert snapshot_of(event, 1) is not None
    assert mapping_of_everything(event)
    assert event.event_id.isprintable()
    assert all(key.isprintable() for key in event.resources)
    repr(event)


def mapping_of_everything(event: Event) -> bytes:
    build = mapping._compile({"all": "@", "some": ["data", "pb_data", "nothing"]}, "", mapping._Findings())
    return mapping.MappingFile("", build, []).body(event)


@pytest.mark.parametrize("event_type", DOCUMENTED)
def test_every_documented_type_has_an_example_that_needs_no_leniency(event_type: str) -> None:
    raw = encode(body_of(event_type))
    assert decode(raw) == parse(raw).body


@pytest.mark.parametrize("kind", [kind for kind in CORPUS if kind.status == 202], ids=lambda kind: kind.name)
def test_what_the_fast_way_takes_reads_the_same_the_lenient_way(kind: Kind) -> None:
    raw = kind.body.removeprefix(b"\xef\xbb\xbf")
    try:
        fast = decode(raw)
    except msgspec.DecodeError:
        return
    assert read_leniently(raw).body == fast


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "examples").rglob("*.json")), ids=lambda f: f.name)
def test_every_example_that_the_docs_name_is_taken_as_it_is(file: Path) -> None:
    assert not parse(file.read_bytes()).unreadable


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["Y", "N", "", "007", "undefined", 2**64 + 1, 1e300, "1e400"])
    | st.builds(list)
    | st.builds(dict),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
SPOTS = st.sampled_from(
    [
        *("event_id", "data.event_type", "data.variables", "data.variables.i_account", "data.variables.event_time"),
        *("pb_data", "pb_data.account_info", "pb_data.account_info.blocked", "pb_data.account_info.i_account"),
        *("pb_data.sim_info", "pb_data.sim_info.imsi", "pb_data.access_policy_info", "pb_data.full_vd_counter_info"),
        *("pb_data.access_policy_info.attributes", "pb_data.account_info.assigned_addons", "updated_at", "new"),
        *("pb_data.account_info.bill_status", "pb_data.product_info", "pb_data.prev_sim_info.iccid"),
    ]
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(DOCUMENTED), st.dictionaries(SPOTS, JSON, max_size=4), st.booleans())
def test_whatever_is_accepted_can_be_read_by_every_part(
    event_type: str, changes: dict[str, Any], escaped: bool
) -> None:
    body = body_of(event_type)
    for spot, value in changes.items():
        put(body, spot, value)
    try:
        raw = json.dumps(body, ensure_ascii=escaped).encode()
    except UnicodeEncodeError:
        return
    try:
        event = parse(raw)
    except (Invalid, NotJson) as error:
        json.dumps([error.error, *([detail.loc, detail.msg] for detail in error.details)])
        return
    every_part_reads(event)


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_bytes_are_a_bug(raw: bytes) -> None:
    for body in (raw, b'{"data":{"event_type":"DID/New"},"x":%b}' % raw):
        try:
            every_part_reads(parse(body))
        except (NotJson, Invalid):
            continue


@settings(deadline=None)
@given(JSON)
def test_a_lenient_reading_always_has_the_types_of_the_body(value: Any) -> None:
    raw = encode({"data": {"event_type": "A", "variables": value}, "pb_data": value, "updated_at": value})
    reading = read(raw)
    assert msgspec.convert(msgspec.to_builtins(reading.body), EventBody) == reading.body
    assert path("pb_data")(reading) is None or isinstance(path("pb_data")(reading), dict)
    orjson.dumps(list(reading.unreadable))
