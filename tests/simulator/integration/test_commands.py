"""The other commands: the acceptance plan, the target alone, two reports side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from nsps_simulator.command import command
from tests.simulator.integration.conftest import ZOO

SIMULATOR = (sys.executable, "-m", "nsps_simulator")


def plan(port: int, kind: str, *more: str) -> subprocess.CompletedProcess[str]:
    line = [
        *(*SIMULATOR, "plan", "--url", f"http://127.0.0.1:{port}", "--token", "made-up", "--target", "127.0.0.1:0"),
        *("--connector", f"{sys.executable} {ZOO} {kind}", "--connector-log", os.devnull, "--burst", "64", *more),
    ]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})


def word(printed: str, number: int) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith(" ") and line.split()[0] == str(number)]
    return next(one for one in ("passed", "failed", "not tried") if one in line)


def test_the_plan_says_of_each_case_how_it_went(free_port: int) -> None:
    done = plan(free_port, "honest")
    words = {number: word(done.stdout, number) for number in range(1, 11)}
    # The small connector has no health page, and its errors are no ErrorResponses.
    assert {number for number, how in words.items() if how == "passed"} == {2, 8, 9, 10}
    assert words[7] == "not tried"
    assert "no ErrorResponse" in done.stdout
    assert done.returncode == 1


@pytest.mark.long
def test_the_plan_finds_a_stop_that_loses_events(free_port: int) -> None:
    done = plan(free_port, "forgets-on-stop")
    assert word(done.stdout, 10) == "failed"
    assert "accepted events were lost" in done.stdout


def test_a_plan_that_cannot_be_tried_has_an_exit_code_of_its_own(free_port: int) -> None:
    done = plan(free_port, "wants-another-token")
    assert done.returncode == 3
    assert "the token is not the one it wants" in done.stderr


def test_the_target_alone_prints_what_it_is_told() -> None:
    line = [*SIMULATOR, "target", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as target:
        assert target.stderr is not None
        assert target.stdout is not None
        url = target.stderr.readline().split()[2].rstrip(";")
        request = urllib.request.Request(f"{url}/hlr", b'{"imsi": "1"}', {"Idempotency-Key": "k"}, method="PUT")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        told = json.loads(target.stdout.readline())
        target.send_signal(signal.SIGINT)
        assert "1 calls, 1 of them applied" in target.stderr.read()
    assert (told["outcome"], told["path"], told["idempotency_key"]) == ("applied", "/hlr", "k")
    assert told["body"] == {"imsi": "1"}


def report(path: Path, rate: float, p99: float, jitter: float) -> str:
    """A report as --json writes it, of a run of thirty seconds."""
    swing = [1 + jitter * (-1) ** second for second in range(30)]
    curve = {name: [0.01 * one for one in swing] for name in ("p50", "p95")}
    document = {
        "date": "2026-01-01",
        "verdict": "clean",
        "scenario": {"seed": 1, "subscribers": 5},
        "rates": {"begin": 0, "end": 30},
        "figures": {"rate": rate, "p50": 0.01, "p95": 0.01, "p99": p99, "retries": 0},
        "series": {
            "times": [second + 0.5 for second in range(30)],
            "accepted": [rate * one for one in swing],
            "latency": {**curve, "p99": [p99 * one for one in swing]},
        },
    }
    path.write_text(json.dumps(document))
    return str(path)


@pytest.mark.parametrize(
    ("rate", "p99", "jitter", "code", "words"),
    [
        (1000, 0.1, 0.05, 0, "noise"),
        (1100, 0.1, 0.5, 0, "noise"),
        (1300, 0.1, 0.05, 0, "better"),
        (1000, 0.2, 0.05, 1, "worse"),
        (700, 0.1, 0.05, 1, "worse"),
    ],
)
def test_two_reports_are_compared_and_noise_is_not_taken_for_a_difference(
    tmp_path: Path, rate: float, p99: float, jitter: float, code: int, words: str
) -> None:
    files = [report(tmp_path / "a", 1000, 0.1, jitter), report(tmp_path / "b", rate, p99, jitter)]
    done = CliRunner().invoke(command, ["compare", *files])
    assert done.exit_code == code, done.output
    assert words in done.output


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("{}")
    done = CliRunner().invoke(command, ["compare", str(tmp_path / "a"), str(tmp_path / "a")])
    assert done.exit_code == 2
    assert "is not a report" in done.output
