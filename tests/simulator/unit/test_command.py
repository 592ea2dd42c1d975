"""The command line: options that make no sense, and --dump."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from nsps_simulator.command import command
from nsps_simulator.sending.scenario import PATH, endpoint

RUN = ["--url", "http://127.0.0.1:9", "--token", "made-up"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--url and --token"),
        (["--url", "http://127.0.0.1:9"], "--url and --token"),
        (["--url", "ftp://x", "--token", "t"], "no http://"),
        (["--url", "http://u:p@x", "--token", "t"], "user or a password"),
        (["--url", "http://x", "--token", "a\nb"], "printable"),
        ([*RUN, "--rate", "0"], "--rate"),
        ([*RUN, "--rate", "fast"], "--rate"),
        ([*RUN, "--profile", "absent.json"], "absent.json is no profile"),
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


def test_a_dump_is_repeatable_and_one_line_for_each_event() -> None:
    first, second = (CliRunner().invoke(command, ["--dump", "50", "--seed", "4"]).output for _ in range(2))
    assert first == second
    lines = first.splitlines()
    assert len(lines) == 50
    assert all(json.loads(line)["data"]["event_type"] for line in lines)
    assert CliRunner().invoke(command, ["--dump", "50", "--seed", "5"]).output != first


def test_a_bill_run_dumps_the_events_of_a_bill_run() -> None:
    output = CliRunner().invoke(command, ["--dump", "200", "--profile", "bill-run"]).output
    kinds = {json.loads(line)["data"]["event_type"] for line in output.splitlines()}
    assert kinds == {"Bundle/Renewed", "Account/Blocked", "Account/Unblocked"}


@pytest.mark.parametrize(("url", "path"), [("http://x:1", PATH), ("http://x:1/", "/"), ("http://x:1/a?b=c", "/a?b=c")])
def test_a_url_without_a_path_means_the_usual_one(url: str, path: str) -> None:
    assert endpoint(url, "t").path == path


def test_the_token_is_never_shown() -> None:
    assert "made-up" not in repr(endpoint("http://x", "made-up"))
