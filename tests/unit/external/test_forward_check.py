"""``forward --check``: what it shows is what would be sent, and no secret."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from connector.admin.forward_check import EXIT_FAULT, forward_command
from tests.unit.external.events import URL

EVENT = {
    "event_id": "event-1",
    "data": {"event_type": "SIM/Updated"},
    "pb_data": {"account_info": {"bill_status": "open", "i_account": 7}},
}


def check(tmp_path: Path, document: Any = EVENT, **environment: str) -> Result:
    file = tmp_path / "event.json"
    file.write_text(json.dumps(document))
    return CliRunner().invoke(forward_command, ["--check", str(file)], obj={"TARGET_URL": URL} | environment)


def test_it_shows_the_request_and_hides_the_secret(tmp_path: Path) -> None:
    result = check(tmp_path, TARGET_AUTH="bearer", TARGET_TOKEN="hidden")
    head, _, body = result.stdout.partition("\n\n")
    assert result.exit_code == 0
    assert head.splitlines()[0] == f"POST {URL}"
    assert "x-event-id: event-1" in head
    assert "hidden" not in result.output
    assert json.loads(body) == EVENT


def test_it_shows_what_the_mapping_makes_of_the_event(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('account = "pb_data.account_info.i_account"')
    result = check(tmp_path, FORWARD_MAPPING=str(mapping))
    assert json.loads(result.stdout.partition("\n\n")[2]) == {"account": 7}


def test_it_says_when_the_type_is_left_out(tmp_path: Path) -> None:
    result = check(tmp_path, FORWARD_TYPES="SIM/Created")
    assert result.output == "Not sent: FORWARD_TYPES leaves SIM/Updated out\n"


def test_a_fault_of_the_settings_is_a_line_and_an_exit_code(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    for text in ("imsi = { path = 5 }", "number = nan", "number = { constant = [inf] }"):
        mapping.write_text(text)
        result = check(tmp_path, FORWARD_MAPPING=str(mapping))
        assert result.exit_code == EXIT_FAULT
        assert result.stderr.startswith("FORWARD_MAPPING: ")


def test_a_name_that_is_not_documented_is_a_warning_with_the_near_ones(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('imsi = "pb_data.sim_info.imsy"')
    result = check(tmp_path, FORWARD_MAPPING=str(mapping))
    assert result.exit_code == 0
    assert "near: imsi" in result.stderr


def test_it_shows_exactly_what_is_sent(tmp_path: Path) -> None:
    event = dict(EVENT, number=2**64 + 1, exponent=1e5)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text("a = 'number'\nb = { constant = 18446744073709551617 }")
    for settings in ({}, {"FORWARD_MAPPING": str(mapping)}):
        assert "18446744073709551617" in check(tmp_path, event, **settings).stdout


def test_a_fault_of_the_event_is_named_by_its_field(tmp_path: Path) -> None:
    result = check(tmp_path, {"data": {}})
    assert result.exit_code == EXIT_FAULT
    assert "data.event_type: " in result.stderr


def test_a_file_that_is_missing_is_a_line_and_an_exit_code(tmp_path: Path) -> None:
    result = CliRunner().invoke(forward_command, ["--check", str(tmp_path / "none")], obj={"TARGET_URL": URL})
    assert (result.exit_code, result.stderr.count("\n")) == (EXIT_FAULT, 1)
