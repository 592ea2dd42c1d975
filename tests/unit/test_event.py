import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.errors import ConnectorError, Invalid, NotJson
from connector.events.body import EventBody
from connector.events.event import Event
from connector.events.reading import MAX_DEPTH, is_too_deep
from connector.events.schema import Schema
from connector.events.times import parse_time
from tests import events

TYPE = "data.event_type"
BILL_STATUS = "pb_data.account_info.bill_status"
ORDER_BY = (
    "pb_data.account_info.i_account",
    "data.variables.i_account",
    "pb_data.sim_info.i_account",
    "pb_data.sim_info.imsi",
)


def parse(body: bytes | events.Json, *, required: tuple[str, ...] = (TYPE,)) -> Event:
    raw = body if isinstance(body, bytes) else events.encode(body)
    return Schema(required, ",".join(ORDER_BY)).parse(raw, "request", "unique", 12.5)


def refused(body: bytes | events.Json, *, required: tuple[str, ...] = (TYPE,)) -> ConnectorError:
    with pytest.raises(ConnectorError) as caught:
        parse(body, required=required)
    return caught.value


def locs(error: ConnectorError) -> list[list[str | int]]:
    return [detail.loc for detail in error.details]


def unmodelled(came: Any, kept: Any) -> Any:
    """What of a document the types drop or change."""
    if isinstance(came, dict) and isinstance(kept, dict):
        return {name: rest for name, value in came.items() if (rest := unmodelled(value, kept.get(name, "dropped")))}
    if isinstance(came, list) and isinstance(kept, list) and len(came) == len(kept):
        return [rest for one, other in zip(came, kept, strict=True) if (rest := unmodelled(one, other))]
    return None if came == kept else (came, kept)


def test_no_documented_field_is_dropped_or_changed_by_the_types() -> None:
    came = events.full()
    assert not unmodelled(came, msgspec.to_builtins(parse(came).body))


def test_an_event_keeps_what_came_with_it() -> None:
    raw = events.encode(events.full())
    event = parse(raw)
    assert event.raw == raw
    assert (event.request_id, event.unique_id, event.accepted_at) == ("request", "unique", 12.5)
    assert (event.event_id, event.event_type) == (events.full()["event_id"], "SIM/Replaced")
    assert event.attempt == 1
    assert event.pb_data.prev_sim_info.imsi == "001010000009000"
    assert event.data.variables["event_time"] == "2025-09-01 10:20:30"
    assert event.created_at == datetime(2025, 9, 1, 10, 20, 31, 1, tzinfo=UTC)
    assert event.updated_at == datetime(2025, 9, 1, 10, 20, 35, 500000, tzinfo=UTC)


def test_an_event_from_the_journal_reads_like_a_new_one() -> None:
    raw = events.encode(events.full())
    assert Event("id", "SIM/Replaced", ("lane",), "r", "u", 0.0, raw).body == parse(raw).body


@pytest.mark.parametrize("name", ["event_id", "attempt", "resources", "raw", "body", "anything"])
def test_a_handler_that_sets_a_field_of_the_event_is_told_at_once(name: str) -> None:
    """What one handler changes, the next one and the journal would see."""
    event = parse(events.of_subscriber(1, "one"))
    with pytest.raises(AttributeError):
        setattr(event, name, None)
    assert event.event_id == "one"


def test_personal_fields_stay_out_of_the_repr() -> None:
    shown = repr(parse(events.full()))
    assert "4711" not in shown
    assert "example.invalid" not in shown
    assert "SIM/Replaced" in shown


@pytest.mark.parametrize("part", [None, ...], ids=["null", "missing"])
@pytest.mark.parametrize(
    "name", ["account_info", "sim_info", "prev_sim_info", "access_policy_info", "product_info", "full_vd_counter_info"]
)
def test_a_part_that_did_not_come_does_not_break_a_handler(name: str, part: object) -> None:
    came = events.full()
    came["pb_data"].pop(name)
    if part is None:
        came["pb_data"][name] = None
    event = parse(came)
    found = getattr(event.pb_data, name)
    assert found is None or all(value is None for value in msgspec.structs.asdict(found).values())


@pytest.mark.parametrize("body", [{"data": {"event_type": "A"}}, {"data": {"event_type": "A"}, "pb_data": None}])
def test_an_event_without_enrichment_does_not_break_a_handler(body: events.Json) -> None:
    event = parse(body)
    assert event.pb_data.sim_info.imsi is None
    assert event.pb_data.access_policies == []
    assert event.data.variables == {}
    assert event.created_at is None


def test_every_documented_field_may_be_null() -> None:
    def nulled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: nulled(inner) for name, inner in value.items()}
        return [nulled(inner) for inner in value] if isinstance(value, list) else None

    came = nulled(events.full())
    came["data"]["event_type"] = "SIM/Updated"
    assert parse(came).event_type == "SIM/Updated"


def test_either_documented_form_of_the_access_policy_is_taken() -> None:
    came = events.full()
    one = parse(came).pb_data
    came["pb_data"]["access_policy_info"] = [events.policy(31), events.policy(32)]
    several = parse(came).pb_data
    came["pb_data"]["access_policy_info"] = []
    none = parse(came).pb_data
    assert one.access_policy_info == several.access_policy_info
    assert [policy.i_access_policy for policy in one.access_policies] == [31]
    assert [policy.i_access_policy for policy in several.access_policies] == [31, 32]
    assert none.access_policy_info.name is None


@pytest.mark.parametrize("remaining", [10, 0.5, "10", "N/A", "", None])
def test_a_counter_keeps_a_number_as_a_number_and_a_text_as_a_text(remaining: float | str | None) -> None:
    came = events.minimal()
    came["pb_data"]["full_vd_counter_info"] = [events.counter(1, remaining)]
    counters = parse(came).pb_data.full_vd_counter_info
    assert counters is not None
    assert (type(counters[0].remaining), counters[0].remaining) == (type(remaining), remaining)


def test_numeric_strings_are_numbers_in_typed_ids() -> None:
    came = events.minimal()
    came["pb_data"]["account_info"] |= {"i_account": "17", "i_customer": "18"}
    came["pb_data"]["sim_info"] = {"i_sim_card": "19"}
    pb_data = parse(came).pb_data
    assert (pb_data.account_info.i_account, pb_data.account_info.i_customer) == (17, 18)
    assert pb_data.sim_info.i_sim_card == 19


def test_undocumented_fields_are_kept_in_the_document() -> None:
    came = events.full() | {"new": {"deep": [1, {"deeper": None}]}}
    came["pb_data"]["sim_info"]["eid"] = "89-made-up"
    assert parse(came).document() == came


@pytest.mark.parametrize(
    ("number", "read"),
    [("1e999", "1e999"), ("-1e999", "-1e999"), ("9" * 400, int("9" * 400)), ("9" * 5000, "9" * 5000)],
)
def test_a_number_that_no_double_holds_is_not_made_another(number: str, read: object) -> None:
    for text in ("e", "é", "\\u00e9", "\\n"):
        event = parse(f'{{"data": {{"event_type": "A"}}, "text": "{text}", "new": {number}}}'.encode())
        assert event.document()["new"] == read


@pytest.mark.parametrize("sent", [{}, {"event_id": None}, {"event_id": ""}])
def test_each_event_without_an_id_gets_one_of_its_own(sent: events.Json) -> None:
    one, other = parse(events.minimal(**sent)), parse(events.minimal(**sent))
    assert one.event_id
    assert one.event_id != other.event_id


@pytest.mark.parametrize("sent", [True, False, [], {}, [7], {"id": 7}, "x" * 256, 10**300])
def test_an_event_id_that_is_no_text_and_no_number_or_too_long_is_refused(sent: object) -> None:
    error = refused(events.minimal(event_id=sent))
    assert isinstance(error, Invalid)
    assert locs(error) == [["event_id"]]


@pytest.mark.parametrize(
    ("sent", "shown"), [(7, "7"), (7.0, "7"), (7.5, "7.5"), ("a\x00b", "a\\x00b"), ("a\nb", "a\\nb")]
)
def test_an_event_id_is_a_text_that_can_be_printed(sent: object, shown: str) -> None:
    assert parse(events.minimal(event_id=sent)).event_id == shown


@pytest.mark.parametrize("sent", [None, "", " ", 7, True, [], {}, "x" * 256, "SIM/\x00", "SIM\nUpdated"])
def test_an_event_type_that_names_nothing_is_refused(sent: object) -> None:
    error = refused({"data": {"event_type": sent}})
    assert isinstance(error, Invalid)
    assert locs(error) == [["data", "event_type"]]


@pytest.mark.parametrize("body", [{}, {"data": None}, {"data": {}}, {"data": []}, {"data": "SIM/Updated"}])
def test_a_missing_event_type_is_pointed_at_wherever_the_document_ends(body: events.Json) -> None:
    assert ["data", "event_type"] in locs(refused(body))


@pytest.mark.parametrize("account", [None, {}, {"bill_status": None}, {"bill_status": ""}])
def test_a_required_field_that_is_empty_counts_as_missing(account: events.Json | None) -> None:
    error = refused({"data": {"event_type": "A"}, "pb_data": {"account_info": account}}, required=(TYPE, BILL_STATUS))
    assert (type(error), locs(error)) == (Invalid, [BILL_STATUS.split(".")])


def test_all_missing_required_fields_are_reported_at_once() -> None:
    required = (TYPE, BILL_STATUS, "pb_data.sim_info.imsi", "data.variables.i_event", "event_id")
    error = refused({"data": {"event_type": "A"}, "event_id": ""}, required=required)
    assert locs(error) == [path.split(".") for path in required[1:]]


def test_a_wrong_type_does_not_hide_the_missing_required_fields() -> None:
    error = refused({"data": {"event_type": 7}, "event_id": "x"}, required=(TYPE, BILL_STATUS))
    assert locs(error) == [["data", "event_type"], BILL_STATUS.split(".")]
    assert all(detail.msg for detail in error.details)


def test_false_and_zero_are_values_for_a_required_field() -> None:
    came = events.minimal()
    came["pb_data"]["account_info"] |= {"blocked": False, "i_account": 0}
    parse(came, required=("pb_data.account_info.blocked", "pb_data.account_info.i_account"))


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found: list[tuple[str | int, ...]] = [path] if path else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += paths(inner, (*path, name)) if path != ("data", "variables") else []
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths(inner, (*path, index))
    return found


FULL_PATHS = paths(events.full())


REFUSED = {("event_id",), ("data",), ("data", "event_type")}


@pytest.mark.parametrize("path", FULL_PATHS, ids=lambda path: ".".join(map(str, path)))
def test_a_wrong_type_is_taken_said_and_kept_as_it_came(path: tuple[str | int, ...]) -> None:
    wrongs: tuple[Any, ...] = ({"a": {}}, [[[]]], [7], True, "text", 7.5)
    for wrong in wrongs:
        came = events.full()
        spot: Any = came
        for step in path[:-1]:
            spot = spot[step]
        right, spot[path[-1]] = spot[path[-1]], wrong
        if path in REFUSED:
            if type(wrong) is not type(right) and not (path == ("event_id",) and wrong == 7.5):
                assert locs(refused(came))[0][:1] == [path[0]]
            continue
        event = parse(came)
        assert event.document() == came
        for place, value in event.unreadable.items():
            assert place.startswith(".".join(map(str, path)).replace(".0", "[0]").replace(".1", "[1]"))
            assert value is not None
        assert msgspec.convert(msgspec.to_builtins(event.body), EventBody) == event.body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" \r\n\t",
        b"event",
        b"{",
        b'{"data": {"event_type": "A"}',
        b'{"data": {"event_type": "A"}} {}',
        b'{"data": {"event_type": "A"},}',
        b"{'data': {'event_type': 'A'}}",
        b'{"data": {"event_type": "A"}, "x": NaN}',
        b'{"data": {"event_type": "A"}, "x": -Infinity}',
        b'{"data": {"event_type": "A"}, "x": 01}',
        b'{"data": {"event_type": "A"}, "x": "\x00"}',
        b'{"data": {"event_type": "A"}, "x": "a\nb"}',
        b'{"data": {"event_type": "A"}, "x": "\xff"}',
        b'{"data": {"event_type": "\xc3"}}',
        b'{"data": {"event_type": "A"}, "x": "\xed\xa0\x80"}',
        b'{"data": {"event_type": "A"}, "x": "\\ud800"}',
        b'{"data": {"event_type": "A"}, "\\udfff": 1}',
        b'{"data": {"event_type": "A"}, "x": "\\uDC00"}',
        b'{"data": {"event_type": "A"}, "x": ["\\uD83D\\n"]}',
        b'{"data": {"event_type": "A", "variables": {"x": "\xc0\xaf"}}}',
        b'{"data": {"event_type": "\\ud83d"}}',
        json.dumps(events.minimal()).encode("utf-16"),
        bytes(range(256)),
        b"\x1f\x8b" + b"\x00" * 30,
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_what_is_not_json_is_refused_as_such(raw: bytes) -> None:
    error = refused(raw)
    assert isinstance(error, NotJson)
    assert error.error.isprintable()
    assert len(error.error) < 300


@pytest.mark.parametrize("raw", [b"null", b"[]", b"7", b'"text"', b"true", b"[{}]", b"{}"])
def test_json_that_is_no_event_is_refused_with_details(raw: bytes) -> None:
    error = refused(raw)
    assert isinstance(error, Invalid)
    assert error.details


@pytest.mark.parametrize("depth", [1, 50, 97, 98, 99, 100, 101, 500, 999, 1000, 1001, 100_000])
@pytest.mark.parametrize("place", ["variables", "undocumented", "documented"])
def test_what_is_nested_over_a_hundred_deep_is_refused_and_the_rest_taken(depth: int, place: str) -> None:
    nested = b"[" * depth + b'"]["' + b"]" * depth
    if place == "variables":
        raw, outer = b'{"data": {"event_type": "A", "variables": {"x": %b}}}' % nested, 3
    elif place == "documented":
        raw, outer = b'{"data": {"event_type": "A"}, "pb_data": {"product_info": %b}}' % nested, 2
    else:
        raw, outer = b'{"data": {"event_type": "A"}, "x": %b, "y": "\\"["}' % nested, 1
    if depth + outer > MAX_DEPTH:
        error = refused(raw)
        assert isinstance(error, Invalid)
        assert "100" in error.details[0].msg
    else:
        assert parse(raw).document()


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=94, max_size=104), st.text('[]{}\\"a', max_size=6), st.booleans())
def test_depth_is_counted_right_whatever_stands_in_texts(lists: list[bool], text: str, escaped: bool) -> None:
    value: Any = text
    for is_list in lists:
        value = [text, value, text] if is_list else {f"{text}1": text, f"{text}2": value, "": text}
    assert is_too_deep(json.dumps(value, ensure_ascii=escaped).encode()) == (len(lists) > MAX_DEPTH)


def test_brackets_in_texts_and_beside_each_other_are_not_depth() -> None:
    came = events.minimal(wide=[[{}] for _ in range(500)], text="[{" * 500)
    assert parse(came).document() == came


def test_what_is_nested_too_deep_is_refused_before_it_is_known_to_be_broken() -> None:
    assert isinstance(refused(b"[" * 100_000), Invalid)


def test_a_byte_order_mark_is_dropped() -> None:
    raw = events.encode(events.minimal())
    assert parse(b"\xef\xbb\xbf" + raw).raw == raw


def test_what_is_not_utf_8_is_told_by_its_byte() -> None:
    assert "not UTF-8 at byte 36" in refused(b'{"data": {"event_type": "A"}, "x": "\xff"}').error
    assert "not UTF-8 at byte 0" in refused(json.dumps(events.minimal()).encode("utf-16")).error


@pytest.mark.parametrize("text", ["Größe", "продукт", "套餐", "📶", "\u2028", 'quoted " and \\', "\u0000"])
def test_texts_outside_ascii_are_read_in_either_encoding(text: str) -> None:
    came = events.minimal()
    came["pb_data"]["account_info"]["product_name"] = text
    for ascii_only in (True, False):
        assert parse(events.encode(came, ascii_only=ascii_only)).pb_data.account_info.product_name == text


def lane(account: object = ..., variable: object = ..., sim: events.Json | None = None) -> str:
    came = events.minimal(event_id="alone")
    if account is not ...:
        came["pb_data"]["account_info"]["i_account"] = account
    if variable is not ...:
        came["data"]["variables"] = {"i_account": variable}
    came["pb_data"]["sim_info"] = sim
    return parse(came).lane


def test_one_subscriber_is_one_lane_whichever_field_names_it() -> None:
    same = {
        lane(account=12),
        lane(account="12"),
        lane(variable=12),
        lane(variable="12"),
        lane(sim={"i_account": 12}),
        lane(account=12, variable=99, sim={"i_account": 77, "imsi": "00101"}),
    }
    assert same == {"i_account:12"}


def test_different_subscribers_do_not_share_a_lane() -> None:
    assert lane(account=1) != lane(account=11)
    assert lane(account=1) != lane(sim={"imsi": "1"})


@pytest.mark.parametrize("variable", [None, "", " ", "undefined", [], {}])
def test_a_value_that_says_nothing_is_passed_over(variable: object) -> None:
    assert lane(variable=variable, sim={"imsi": "001010000000101"}) == "imsi:001010000000101"
    assert lane(variable=variable) == "event_id:alone"


def test_an_event_of_no_subscriber_has_a_lane_of_its_own_whatever_its_id() -> None:
    assert parse(events.minimal(event_id="x" * 255)).lane == "event_id:" + "x" * 255
    assert parse(events.minimal()).lane != parse(events.minimal()).lane


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2025-09-01T10:20:30+02:00", datetime(2025, 9, 1, 8, 20, 30, tzinfo=UTC)),
        ("2025-09-01T10:20:30Z", datetime(2025, 9, 1, 10, 20, 30, tzinfo=UTC)),
        ("2025-09-01 10:20:30", datetime(2025, 9, 1, 10, 20, 30, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_a_time_that_is_none_is_none_and_not_a_fault(text: object, time: datetime | None) -> None:
    assert parse_time(text) == time


def test_the_body_s_round_trip_loses_nothing() -> None:
    body = parse(events.full()).body
    assert msgspec.json.decode(msgspec.json.encode(body), type=EventBody) == body
