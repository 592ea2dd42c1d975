"""The command line: options that make no sense, and dump."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nsps_simulator.command import command
from nsps_simulator.command.run import command_line, run
from nsps_simulator.wire.endpoint import PATH, endpoint

RUN = ["run", "--url", "http://127.0.0.1:9", "--token", "made-up"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["run"], "--url and --token"),
        (["--url", "http://127.0.0.1:9"], "--url and --token"),
        (["--url", "ftp://x", "--token", "t"], "not an http://"),
        (["--url", "http://u:p@x", "--token", "t"], "user or a password"),
        (["--url", "http://x", "--token", "a\nb"], "printable"),
        ([*RUN, "--rate", "0"], "--rate"),
        ([*RUN, "--rate", "fast"], "--rate"),
        ([*RUN, "--profile", "absent.json"], "absent.json is not a profile"),
        ([*RUN, "--subscribers", "10000001"], "--subscribers"),
        ([*RUN, "--cut", "0.7", "--slow", "0.7"], "shares of chaos"),
        ([*RUN, "--kill-at", "5"], "--connector"),
        ([*RUN, "--kill-at", "soon"], "--kill-at"),
        ([*RUN, "--target", "nowhere"], "HOST:PORT"),
        ([*RUN, "--target", "x:99999"], "HOST:PORT"),
        ([*RUN, "--target-down", "20-10"], "stretches"),
        ([*RUN, "--target-down", "10-20,15-30"], "stretches"),
        ([*RUN, "--no-target", "--newest-wins"], "--no-target"),
        ([*RUN, "--time-scale", "0"], "--time-scale"),
        ([*RUN, "--retries", "soon"], "no gap"),
        ([*RUN, "--fault", "kill@5-8"], "one moment"),
        ([*RUN, "--fault", "kill@5"], "--connector"),
        ([*RUN, "--fault", "stop@8-5", "--connector", "x"], "ends before"),
        ([*RUN, "--fault", "kill#2@5", "--connector", "x"], "no such --connector"),
        ([*RUN, "--fault", "target-flaky@1-2:7"], "no value"),
        ([*RUN, "--fault", "cut-database@1-2"], "--database"),
        ([*RUN, "--fault", "disk-full@1-2:/"], "only one of"),
        ([*RUN, "--fault", "flood@1"], "not a fault"),
        ([*RUN, "--require", "p99"], "not a threshold"),
        ([*RUN, "--require", "p98<1s"], "no figure"),
        ([*RUN, "--order-by", "shoe"], "no such resource"),
        ([*RUN, "--url", "http://x:1,http://x:1"], "are the same"),
        ([*RUN, "--connector", "x", "--connector", "y"], "2 --connector"),
        ([*RUN, "--mapping", "pyproject.toml", "--any-body"], "exclude"),
        ([*RUN, "--scenario", "pyproject.toml"], "no option"),
        ([*RUN, "--connector", "python 'run.py"], "No closing quotation"),
        ([*RUN, "--events", "10", "--duration", "x"], "--duration"),
        ([*RUN, "--rate", "1000000", "--duration", "10000000"], "the most for one run"),
        ([*RUN, "--html", "/absent/report.html"], "no folder /absent"),
    ],
)
def test_bad_options_are_explained_with_exit_code_2(options: list[str], words: str) -> None:
    result = CliRunner(env={"API_TOKEN": None}).invoke(command, options)
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert "Traceback" not in result.output


def test_options_are_shown_in_groups_with_examples() -> None:
    shown = CliRunner().invoke(command, ["run", "--help"]).output
    for heading in ("The connector:", "The load:", "Faults:", "The verdict:", "Examples:"):
        assert heading in shown
    assert "nsps-simulator run --url" in shown
    assert "Exit codes: 0 clean" in shown


def test_a_scenario_file_gives_options_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "evening.toml"
    path.write_text(
        'seed = 7\nurl = "http://127.0.0.1:1"\n[load]\nrate = 50.5\nprofile = "burst"\n'
        '[faults]\nfault = ["target-down@5-8", "target-slow@9-10:2"]\nkill-at = [3, 4.5]\n'
    )
    with run.make_context("run", ["--scenario", str(path), "--token", "t", "--rate", "60", "--connector", "x"]) as made:
        options = made.params
    assert (options["seed"], options["rate"], options["profile"]) == (7, 60.0, "burst")
    assert [one.kind for one in options["faults"]] == ["target-down", "target-slow"]
    assert options["kill_at"] == (3.0, 4.5)


def test_the_shown_command_line_repeats_the_run_and_hides_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["x", "run", "--url", "http://x", "--token", "made-up", "--require", "p99<1s"])
    assert command_line({"seed": 9}) == "nsps-simulator run --url http://x --token *** --require 'p99<1s' --seed 9"
    monkeypatch.setattr("sys.argv", ["x", "--token=made-up"])
    assert "made-up" not in command_line({"seed": 9})


def test_a_dump_is_repeatable_and_one_line_for_each_event() -> None:
    first, second = (CliRunner().invoke(command, ["dump", "--events", "50", "--seed", "4"]).output for _ in range(2))
    assert first == second
    lines = first.splitlines()
    assert len(lines) == 50
    assert all(json.loads(line)["data"]["event_type"] for line in lines)
    assert CliRunner().invoke(command, ["dump", "--events", "50", "--seed", "5"]).output != first


def test_a_bill_run_dumps_the_events_of_a_bill_run() -> None:
    output = CliRunner().invoke(command, ["dump", "--events", "200", "--profile", "bill-run"]).output
    kinds = {json.loads(line)["data"]["event_type"] for line in output.splitlines()}
    assert kinds == {"Account/ProductAddon/Changed", "Account/Blocked", "Account/Unblocked"}


@pytest.mark.parametrize(("url", "path"), [("http://x:1", PATH), ("http://x:1/", "/"), ("http://x:1/a?b=c", "/a?b=c")])
def test_a_url_without_a_path_means_the_usual_one(url: str, path: str) -> None:
    assert endpoint(url, "t").path == path


def test_the_token_is_never_shown() -> None:
    assert "made-up" not in repr(endpoint("http://x", "made-up"))
