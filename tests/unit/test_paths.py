"""One path language for mappings and settings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.events.examples import POLICY, body_of, put
from connector.events.paths import Path, is_absent, path, split
from connector.events.reading import Reading, read
from tests import events


def reading(**changes: Any) -> Reading:
    body = body_of("SIM/Updated")
    for name, value in changes.items():
        put(body, name.replace("__", "."), value)
    return read(events.encode(body))


ADDONS = [{"name": "one", "i_vd_plan": None}, {"name": "two", "i_vd_plan": "13"}]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("event_id", "0d6f5f0e-5a53-4d0c-9a3e-6f1f0e9a7c11"),
        ("pb_data.account_info.i_account", 1001),
        ("pb_data.account_info.blocked", False),
        ("data.variables.a.b", 7),
        ("data.variables.my-name", "hyphen"),
        ('data.variables."dotted.name"', "dot"),
        ("data.variables.list[1]", "b"),
        ("data.variables.list[-1]", "b"),
        ("data.variables.list[7]", None),
        ("pb_data.account_info.assigned_addons[1].name", "two"),
        ("pb_data.account_info.assigned_addons[1].i_vd_plan", 13),
        ("pb_data.account_info.assigned_addons[?i_vd_plan].name | [0]", "two"),
        ("pb_data.account_info.assigned_addons[?name=='two'].i_vd_plan | [0]", 13),
        ("pb_data.account_info.assigned_addons[*].name", ["one", "two"]),
        ("pb_data.account_info.custom", {"deep": [1, None]}),
        ("pb_data.account_info.custom.deep[1]", None),
        ("pb_data.access_policy_info.attributes[?name=='cs_profile'].value | [0]", "cs-example"),
        ("pb_data.access_policy_info.name", "Example policy"),
        ("attribute(pb_data, 'cs_profile')", "cs-example"),
        ("attribute(pb_data, 'nothing')", None),
        ("attribute(nothing, 'cs_profile')", None),
        ("in_service(pb_data.account_info)", True),
        ("in_service(nothing)", False),
        ("nothing.at.all", None),
        ("length(pb_data.account_info.assigned_addons)", 2),
        ("length(nothing)", None),
        ('to_number(`"x"`)', None),
    ],
)
def test_a_path_leads_to_what_stands_there(text: str, found: object) -> None:
    body = body_of()
    put(body, "data.variables", {"a": {"b": 7}, "list": ["a", "b"], "my-name": "hyphen", "dotted.name": "dot"})
    put(body, "pb_data.account_info", {**body["pb_data"]["account_info"], "i_account": "1001", "blocked": "N"})
    put(body, "pb_data.account_info.assigned_addons", ADDONS)
    put(body, "pb_data.account_info.custom", {"deep": [1, None]})
    came = read(events.encode(body))
    assert path(text)(came) == found


FORMS = [POLICY, [POLICY], [{"name": "Example policy", "attributes": []}, POLICY]]


@pytest.mark.parametrize("form", FORMS, ids=["object", "list of one", "list of two"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pb_data.access_policy_info.name", "Example policy"),
        ("pb_data.access_policy_info[0].name", "Example policy"),
        ("pb_data.access_policy_info.attributes[?name=='cs_profile'].value | [0]", "cs-example"),
        ("pb_data.access_policy_info[].attributes[] | [?name=='cs_profile'].value | [0]", "cs-example"),
        ("attribute(pb_data, 'cs_profile')", "cs-example"),
    ],
)
def test_a_path_finds_the_access_policy_in_whichever_form_it_came(form: Any, text: str, found: str) -> None:
    assert path(text)(reading(pb_data__access_policy_info=form)) == found


def test_an_object_maps_with_its_undocumented_fields() -> None:
    found = path("pb_data.sim_info")(reading(pb_data__sim_info__eid="89", pb_data__sim_info__i_sim_card="71"))
    assert found["eid"] == "89"
    assert found["i_sim_card"] == 71


@pytest.mark.parametrize("text", ["", " ", ".", "a.", ".a", "a b", "a[", "a[?b", "7", "7.a", "a..b", "f(", "'", "é{"])
def test_what_is_no_path_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Path(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pb_data.sim_info.imsy", "near: imsi"),
        ("pb_dta.sim_info", "near: pb_data"),
        ("pb_data.account_info.assigned_addons[0].nmae", "near: name"),
        ("pb_data.account_info.assigned_addons[?name].i_product_grup | [0]", "near: i_product_group"),
        ("pb_data.sim_info.xyzzy", "documented are: i_account, "),
    ],
)
def test_a_name_that_is_not_documented_is_a_warning_with_the_near_ones(text: str, words: str) -> None:
    assert words in str(Path(text).warning)


@pytest.mark.parametrize(
    "text",
    [
        *("event_id", "data.variables.anything.at.all", "pb_data.full_vd_counter_info[0].remaining", "@"),
        *("pb_data.access_policy_info.attributes[0].value", "pb_data.access_policy_info[0].attributes[0].value"),
        *("attribute(pb_data, 'x')", "pb_data.sim_info.imsi.deeper", "pb_data.*.imsi"),
    ],
)
def test_a_documented_name_is_no_warning(text: str) -> None:
    assert Path(text).warning is None


def test_a_separator_within_quotes_or_brackets_parts_nothing() -> None:
    assert split("a,b[?c=='x,y'],\"d,e\",f(g, h)", ",") == ["a", "b[?c=='x,y']", '"d,e"', "f(g, h)"]
    assert split("", ",") == [""]
    assert split("a]b,c", ",") == ["a]b", "c"]


def test_what_counts_as_missing() -> None:
    assert all(map(is_absent, (None, "", " ", [], {})))
    assert not any(map(is_absent, (0, False, 0.0, "0", [None], {"a": None})))


@given(st.text(max_size=30))
def test_no_text_is_a_bug(text: str) -> None:
    try:
        found = Path(text)
    except ValueError:
        return
    found(reading())
    assert found.warning is None or found.warning.startswith(text.strip())
