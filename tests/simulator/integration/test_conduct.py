"""A run as a whole: repeatable, honest about itself, and clear when it cannot be carried out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nsps_simulator.reporting.page import page
from nsps_simulator.reporting.report import document, write_ledger
from nsps_simulator.running.conduct import CannotRun
from nsps_simulator.sending.profile import Plan, steady
from nsps_simulator.sending.sender import Effort
from tests.simulator.integration.conftest import CONNECTORS, Run


async def test_a_run_repeats_itself_by_seed(run: Run, tmp_path: Path) -> None:
    plans = []
    for name in ("first", "second"):
        outcome = await run("honest", plan=Plan(steady(300, 0.5)))
        write_ledger(outcome, tmp_path / name)
        lines = (tmp_path / name).read_text().splitlines()
        keys = ("event_id", "i_event", "i_account", "planned", "answer", "target_times")
        plans.append([{key: json.loads(line)[key] for key in keys} for line in lines])
    assert plans[0] == plans[1]
    assert len(plans[0]) == 150


async def test_several_generators_send_each_event_once(run: Run) -> None:
    outcome = await run("honest", processes=2)
    assert outcome.verdict.broken == []
    assert outcome.verdict.attempts == outcome.verdict.delivered == 600
    assert [effort.sent for effort in outcome.efforts] == [300, 300]


async def test_a_closed_loop_goes_as_fast_as_the_answers(run: Run) -> None:
    outcome = await run("honest", plan=Plan(steady(1000, 1), 100_000), closed=8, closed_seconds=1.0, connections=8)
    assert outcome.verdict.broken == []
    assert 100 < outcome.verdict.sent == outcome.verdict.accepted < 100_000


async def test_a_run_without_a_target_judges_the_answers_alone(run: Run) -> None:
    outcome = await run("dropper", target=None, plan=Plan(steady(300, 0.5)))
    assert outcome.verdict.accepted == 150
    assert outcome.verdict.delivered == 0


async def test_one_dropped_in_a_hundred_is_counted_exactly_and_reported_without_the_token(run: Run) -> None:
    outcome = await run("dropper")
    assert outcome.verdict.broken == ["lost"]
    assert outcome.verdict.delivered == 594
    facts = document(outcome)
    assert facts["verdict"] == "broken"
    assert facts["broken"]["lost"] == 6
    assert len(facts["examples"]["lost"]) == 6
    assert len(facts["series"]["accepted"]) == len(facts["series"]["times"])
    assert "NaN" not in json.dumps(facts)
    drawn = page(outcome)
    for text in (json.dumps(facts), drawn):
        assert "made-up" not in text
    _Checker().check(drawn)


class _Checker(HTMLParser):
    """Finds tags that are not closed, and anything that would be fetched."""

    def check(self, text: str) -> None:
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href"} & {name for name, _ in attrs}
        assert tag not in {"script", "link", "iframe", "img"}
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"line", "rect", "path"}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


async def test_a_connector_that_does_not_start_is_reported(run: Run) -> None:
    with pytest.raises(CannotRun, match="ended with code 3"):
        await run("honest", command=(sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(CannotRun, match="cannot start /absent"):
        await run("honest", command=("/absent",))


async def test_a_connector_that_dies_by_itself_is_reported(run: Run) -> None:
    with pytest.raises(CannotRun, match="ended by itself with code 7"):
        await run("mortal")


async def test_a_taken_address_of_the_target_is_reported(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CannotRun, match="cannot listen"):
        await run("honest", target=taken.getsockname())


async def test_nothing_at_the_url_is_reported(run: Run) -> None:
    with pytest.raises(CannotRun, match="nothing listens"):
        await run("honest", command=None)


@pytest.mark.parametrize(
    ("effort", "limited"),
    [
        (Effort(sent=1000, late=0, cpu=5.0, wall=10.0), False),
        (Effort(sent=1000, late=50, cpu=5.0, wall=10.0), True),
        (Effort(sent=1000, late=0, starved=900, cpu=5.0, wall=10.0), False),
        (Effort(sent=1000, late=0, cpu=9.8, wall=10.0), True),
        (Effort(sent=1000, late=50, cpu=5.0, wall=10.0, open_loop=False), False),
        (Effort(), False),
    ],
)
def test_the_generator_says_when_it_was_the_limit(effort: Effort, limited: bool) -> None:
    assert effort.limited == limited


def command(port: int, kind: str, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "nsps_simulator", "--url", f"http://127.0.0.1:{port}", "--token", "made-up"),
        *("--connector", f"{sys.executable} {CONNECTORS} {kind}", "--connector-log", os.devnull),
        *("--target", "127.0.0.1:0", "--rate", "200", "--subscribers", "40", *more),
    ]


@pytest.mark.parametrize(("kind", "code"), [("honest", 0), ("repeater", 1)])
def test_the_exit_code_tells_the_verdict(free_port: int, tmp_path: Path, kind: str, code: int) -> None:
    report = tmp_path / "report.json"
    run = subprocess.run(
        command(free_port, kind, "--duration", "1", "--json", str(report), "--html", str(tmp_path / "report.html")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stderr
    assert run.stderr == ""
    assert ("clean" if code == 0 else "broken") in run.stdout
    assert json.loads(report.read_text())["verdict"] == ("clean" if code == 0 else "broken")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_run_of_which_nothing_was_accepted_is_not_called_clean(free_port: int, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    more = ("--duration", "1", "--patience", "0", "--json", str(report), "--html", str(tmp_path / "report.html"))
    run = subprocess.run(command(free_port, "stranger", *more), capture_output=True, text=True, check=False)
    assert run.returncode == 3, run.stderr
    assert "no event was accepted" in run.stdout
    assert "clean" not in run.stdout
    assert json.loads(report.read_text())["verdict"] == "nothing accepted"


def test_a_run_that_cannot_be_carried_out_has_an_exit_code_of_its_own(free_port: int) -> None:
    run = subprocess.run(command(free_port, "absent-kind"), capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert run.stderr.startswith("Error: the connector ended with code")
    assert "Traceback" not in run.stderr


def test_an_interrupt_ends_the_run_with_a_verdict_and_no_process_is_left(free_port: int) -> None:
    with subprocess.Popen(
        command(free_port, "honest", "--duration", "600"), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stdout is not None
        while "sending" not in (line := run.stdout.readline()) and line:
            pass
        run.send_signal(signal.SIGINT)
        assert "clean" in run.stdout.read()
    assert run.returncode == 0
    while process_group_lives(run.pid):  # the last may still be on its way out; the test's own timeout ends this
        time.sleep(0.01)


def process_group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
