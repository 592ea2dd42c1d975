"""Mapping files: what they build, and that each error is named before the first event."""

import json
from pathlib import Path
from typing import Any

import pytest

from connector.events.schema import Schema
from connector.external import mapping
from tests.unit.external.events import event

FULL = """
id = "event_id"
type = "data.event_type"
imsi = "pb_data.sim_info.imsi"
blocked = { path = "pb_data.account_info.blocked", default = false }
source = { constant = "nsps" }
version = 2
features = ["pb_data.account_info.status", "pb_data.account_info.id"]

[subscriber]
account = "pb_data.account_info.i_account"
policy = "pb_data.access_policy_info"

[subscriber.names]
product = { path = "pb_data.account_info.product_name", default = "none" }
"""

PB_DATA: dict[str, Any] = {
    "account_info": {"i_account": 7, "id": "999@msisdn", "product_name": None},
    "sim_info": {"imsi": "001010000000007"},
    "access_policy_info": [{"name": "basic", "attributes": [{"name": "cs_profile", "value": "one"}]}],
}


def read(tmp_path: Path, text: str, name: str = "mapping.toml") -> mapping.MappingFile:
    file = tmp_path / name
    file.write_text(text)
    return mapping.read(str(file))


def test_a_mapping_builds_the_body_it_is_shaped_like(tmp_path: Path) -> None:
    body = json.loads(read(tmp_path, FULL).body(event("event-7", **PB_DATA)))
    assert body == {
        "id": "event-7",
        "type": "SIM/Updated",
        "imsi": "001010000000007",
        "blocked": False,
        "source": "nsps",
        "version": 2,
        "features": [None, "999@msisdn"],
        "subscriber": {
            "account": 7,
            "policy": {
                "name": "basic",
                "attributes": [{"name": "cs_profile", "value": "one"}],
            },
            "names": {"product": "none"},
        },
    }


def test_an_event_that_has_nothing_still_makes_a_body(tmp_path: Path) -> None:
    body = json.loads(read(tmp_path, FULL).body(event()))
    assert body["subscriber"] == {"names": {"product": "none"}}
    assert "imsi" not in body


def test_a_mapping_may_be_json(tmp_path: Path) -> None:
    text = '{"imsi": {"path": "pb_data.sim_info.imsi", "default": null}, "any": "data.variables.any_name"}'
    assert json.loads(read(tmp_path, text, "mapping.json").body(event())) == {"imsi": None}


def test_every_fault_of_a_mapping_is_named(tmp_path: Path) -> None:
    text = """
imsi = "pb_data.sim_info.[imsi"
when = 2025-01-01
[a]
list = ["is no path"]
number = nan
b = { path = "event_id", defualt = 1 }
c = { constant = 1, path = 2 }
"""
    with pytest.raises(ValueError, match=r"mapping\.toml") as error:
        read(tmp_path, text)
    for part in (
        "imsi: ",
        "when: a path",
        "a.list[0]: is no path",
        '{ constant = "is no path" }',
        "a.number: JSON has no number nan",
        "a.b: default and path",
        "defualt",
        "a.c: constant",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("mapping.toml", "a = ", "is no TOML"),
        ("mapping.json", "{", "is no JSON"),
        ("mapping.json", "[1]", "maps no field"),
        ("mapping.toml", "", "maps no field"),
    ],
)
def test_a_file_that_is_no_mapping_is_told_apart(tmp_path: Path, name: str, text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        read(tmp_path, text, name)


def test_a_file_that_is_missing_is_a_fault_and_no_stack_trace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        mapping.read(str(tmp_path / "none.toml"))


def test_the_example_is_a_mapping_without_error() -> None:
    examples = Path(__file__).resolve().parents[2] / "examples"
    raw = (examples / "hlr_hss" / "event.json").read_bytes()
    example = Schema([]).parse(raw, "trace", "unique", 0.0)
    assert json.loads(mapping.read(str(examples / "forwarder" / "mapping.toml")).body(example)) == {
        "id": "hlr-example-1",
        "type": "SIM/Updated",
        "source": "nsps",
        "time": "2025-09-01T10:20:30+00:00",
        "subscriber": {"account": 4711, "status": "open", "blocked": False, "sim": {"imsi": "001010000004711"}},
    }
