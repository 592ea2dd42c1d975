"""What an event touches, by the table of event types and by ORDER_BY."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.events.event_types import KINDS, ROLES, kind_of
from connector.events.resources import MAX_KEY, Order, before_environments
from connector.events.schema import BEFORE_SETS, BILL_STATUS, Schema
from tests import events
from tests.events import Json

CARD = {"i_sim_card": 71, "iccid": "8900000000000000001", "imsi": "001010000000001"}
OTHER = {"i_sim_card": 72, "iccid": "8900000000000000002", "imsi": "001010000000002"}


def came(event_type: str, variables: Json | None = None, **pb_data: Any) -> Json:
    return {"event_id": "e", "data": {"event_type": event_type, "variables": variables}, "pb_data": pb_data}


def keys(body: Json, order_by: str = "") -> list[str]:
    event = Schema((), order_by).parse(events.encode(body), "request", "unique", 1.0)
    return list(event.resources)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (came("SIM/Updated", {"i_account": 7, "i_env": 3}, sim_info=CARD), ["i_account:7@3", "imsi:001010000000001"]),
        (came("SIM/Created", {"i_sim_card": 71}, sim_info=CARD), ["imsi:001010000000001"]),
        (came("SIM/Deleted", {"imsi": CARD["imsi"], "i_sim_card": 71}), ["imsi:001010000000001"]),
        (came("SIM/Deleted", {"i_sim_card": 71, "i_env": 3}), ["i_sim_card:71@3"]),
        (
            came("SIM/Replaced", {"i_account": 7}, sim_info=CARD, prev_sim_info=OTHER),
            ["i_account:7", "imsi:001010000000001", "imsi:001010000000002"],
        ),
        (came("SIM/Replaced", {"i_account": 7}, prev_sim_info=OTHER), ["i_account:7", "imsi:001010000000002"]),
        (came("Account/Blocked", {}, account_info={"i_account": 7, "i_customer": 5, "i_product": 4}), ["i_account:7"]),
        (came("Account/BalanceChanged", {"billing_entity_id": "7"}), ["i_account:7"]),
        (came("Subscriber/Updated", {"i_account": "7"}), ["i_account:7"]),
        (came("Customer/Updated", {"i_customer": 444, "i_env": 1}), ["i_customer:444@1"]),
        (came("Customer/BalanceChanged", {"billing_entity_id": 444}), ["i_customer:444"]),
        (came("DID/Updated", {"number": "+1 555-0100"}), ["number:15550100"]),
        (came("Invoice/Created", {"i_invoice": 9, "i_customer": 444}), ["i_invoice:9", "i_customer:444"]),
        (came("Product/ServiceAttribute/Changed", {"i_product": 31}), ["i_product:31"]),
        (came("Bundle/Renewed", {"i_account": 7}), ["i_account:7"]),
        (came("Shop/Opened", {"i_customer": 444}), ["i_customer:444"]),
        (came("SIM/Updated"), []),
        (came("AccessPolicy/Changed", {"i_access_policy": 9}), []),
    ],
    ids=lambda each: each["data"]["event_type"] if isinstance(each, dict) else "",
)
def test_an_event_touches_what_its_type_is_about(body: Json, expected: list[str]) -> None:
    assert keys(body) == expected


def test_account_seven_of_one_environment_is_not_that_of_another() -> None:
    one, three = ({"i_account": 7, "i_env": env} for env in (1, "3"))
    assert keys(came("SIM/Updated", one)) != keys(came("SIM/Updated", three))


def test_the_card_is_one_whatever_environment_names_it() -> None:
    one, three = ({"i_env": env} for env in (1, 3))
    assert keys(came("SIM/Updated", one, sim_info=CARD)) == keys(came("SIM/Updated", three, sim_info=CARD))


@pytest.mark.parametrize("spelling", [7, "7", "007", 7.0, " 7 ", "7.0", "7 "])
def test_every_legal_spelling_of_an_id_is_one_resource(spelling: object) -> None:
    assert keys(came("Customer/Updated", {"i_customer": spelling})) == ["i_customer:7"]


def test_an_imsi_that_came_as_a_number_is_the_card_that_it_lost_its_zeros_from() -> None:
    assert keys(came("SIM/Deleted", {"imsi": 1010000000001})) == ["imsi:001010000000001"]


@pytest.mark.parametrize("spelling", [{"a": 1}, ["x"], True, 1.5, "a\x00b", "\u202e7", "x" * 4000, "7" * 4000])
def test_a_spelling_that_is_no_id_is_still_one_resource_for_itself(spelling: object) -> None:
    (key,) = keys(came("Customer/Updated", {"i_customer": spelling}))
    assert key == keys(came("Customer/Deleted", {"i_customer": spelling}))[0]
    assert len(key) <= MAX_KEY
    assert key.isprintable()
    assert [key] != keys(came("Customer/Updated", {"i_customer": f"{spelling}x"}))


@pytest.mark.parametrize("nothing", [None, "", " ", [], {}, "undefined", "null"])
def test_what_says_nothing_is_no_resource(nothing: object) -> None:
    assert keys(came("Customer/Updated", {"i_customer": nothing})) == []


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("account+card+previous_card", ["i_account:7@3", "imsi:001010000000001", "imsi:001010000000002"]),
        ("pb_data.account_info.i_account,data.variables.i_account", ["i_account:7@3"]),
        ("pb_data.sim_info.i_account, pb_data.sim_info.imsi", ["imsi:001010000000001"]),
        ("account+customer+product", ["i_account:7@3", "i_customer:5@3", "i_product:31@3"]),
        ("data.variables.i_env&data.variables.i_account", ["i_env:3&i_account:7"]),
        ("data.variables.i_env & data.variables.site , account", ["i_account:7@3"]),
        ("pb_data.account_info.i_master_account,account+card", ["i_account:4@3", "imsi:001010000000001"]),
        ("card+card", ["imsi:001010000000001"]),
        ("invoice", []),
    ],
)
def test_order_by_says_what_an_event_touches(order_by: str, expected: list[str]) -> None:
    account = {"i_account": 7, "i_customer": 5, "i_product": 31, "i_master_account": 4}
    body = came("SIM/Replaced", {"i_account": 7, "i_env": 3}, account_info=account, sim_info=CARD, prev_sim_info=OTHER)
    assert keys(body, order_by) == expected


@pytest.mark.parametrize("order_by", ["+", "account+", "&account", "account&", "no_such_role"])
def test_an_order_by_that_means_nothing_stops_the_start(order_by: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Order(order_by)


def test_the_defaults_of_before_are_taken_and_said_to_be_old() -> None:
    assert keys(came("SIM/Updated", {"i_account": 7, "i_env": 3}, sim_info=CARD), BEFORE_SETS) == ["i_account:7@3"]
    assert "ORDER_BY" in Schema((), BEFORE_SETS).warnings[0]
    assert "REQUIRED_FIELDS" in Schema((BILL_STATUS,)).warnings[0]
    assert Schema().warnings == Schema((), "account+card").warnings == []


def test_parent_and_alias_can_be_ordered_together() -> None:
    alias = came("Account/Blocked", {}, account_info={"i_account": 8, "i_master_account": 7})
    parent = came("Account/Blocked", {}, account_info={"i_account": 7})
    order_by = "pb_data.account_info.i_master_account,pb_data.account_info.i_account"
    assert keys(alias, order_by) == keys(parent, order_by) == ["i_account:7"]


def test_marks_of_before_are_found_by_the_key_of_before() -> None:
    assert before_environments("i_account:7@3") == "i_account:7"
    assert before_environments("i_account:7") == "i_account:7"
    assert before_environments("imsi:001010000000001") == "imsi:001010000000001"


def test_each_kind_has_a_source_and_roles_that_exist() -> None:
    for kind in KINDS:
        assert kind.source
        assert set(kind.roles) <= set(ROLES)
        assert kind_of(kind.pattern.replace("*", "Anything")) is kind


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([kind.pattern.replace("*", "Any") for kind in KINDS] + ["Any"]), VALUES, VALUES)
def test_no_value_of_a_variable_is_a_bug(event_type: str, value: object, env: object) -> None:
    names = ("i_account", "imsi", "iccid", "i_sim_card", "i_customer", "number", "i_invoice", "i_product")
    for key in keys(came(event_type, {"i_env": env, **dict.fromkeys(names, value)})):
        assert 0 < len(key) <= MAX_KEY
        assert key.isprintable()
