"""A run as a whole: repeatable, honest about itself, and clear when it cannot be carried out."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path

import psutil
import pytest

from nsps_simulator.judging.ledger import NONE, UNFINISHED
from nsps_simulator.reporting.page import page
from nsps_simulator.reporting.report import About, document, write_ledger
from nsps_simulator.running.asking import takes_connections
from nsps_simulator.running.conduct import CannotRun
from nsps_simulator.running.progress import Progress
from nsps_simulator.sending.profile import Plan, steady
from nsps_simulator.sending.sender import Effort
from nsps_simulator.target import Mood
from nsps_simulator.wire.endpoint import endpoint
from tests.simulator.integration.conftest import ZOO, Run


async def test_a_run_repeats_itself_by_seed(run: Run, tmp_path: Path) -> None:
    plans = []
    for name in ("first", "second"):
        outcome = await run("forgets", plan=Plan(steady(300, 0.5)))
        write_ledger(outcome, tmp_path / name)
        lines = (tmp_path / name).read_text().splitlines()
        keys = ("event_id", "i_event", "subscriber", "planned", "answer", "target_times")
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
    outcome = await run("drops", target=None, plan=Plan(steady(300, 0.5)))
    assert outcome.verdict.accepted == 150
    assert outcome.verdict.delivered == 0


async def test_a_drop_is_counted_exactly_and_reported_with_its_life_and_without_the_token(run: Run) -> None:
    outcome = await run("drops")
    assert outcome.verdict.broken == ["lost"]
    assert outcome.verdict.delivered == 598
    about = About.now("nsps-simulator run")
    facts = document(outcome, about)
    assert facts["verdict"] == "broken"
    assert facts["broken"]["lost"] == 2
    lost = facts["examples"]["lost"]
    assert len(lost) == 2
    life = facts["histories"][str(lost[0]["index"])]
    assert [step["what"] for step in life["steps"]] == ["planned", "attempt 1 sent", "attempt 1: answered 202"]
    assert life["again"] == f"--seed 11 --only {life['subscriber']}"
    assert len(facts["series"]["accepted"]) == len(facts["series"]["times"])
    assert "NaN" not in json.dumps(facts)
    drawn = page(outcome, about)
    assert lost[0]["event_id"] in drawn
    assert '<a href="#lost">2</a>' in drawn
    assert "not tried" in drawn
    for text in (json.dumps(facts), drawn):
        assert "made-up" not in text
    _Checker().check(drawn)


async def test_one_subscriber_alone_can_be_sent_again(run: Run) -> None:
    outcome = await run("honest", only=7)
    assert 0 < outcome.verdict.sent == outcome.verdict.delivered < 60
    events = outcome.setting.scenario.events()
    assert {events.subscriber(entry.event) for entry in outcome.ledger.entries() if entry.attempts} == {7}


class _Checker(HTMLParser):
    """Finds tags that are not closed, and anything that would be fetched."""

    def check(self, text: str) -> None:
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not [value for name, value in attrs if name in {"src", "href"} and not (value or "").startswith("#")]
        assert tag not in {"script", "link", "iframe", "img"}
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"line", "rect", "path"}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


async def test_a_connector_that_does_not_start_is_reported(run: Run) -> None:
    with pytest.raises(CannotRun, match="ended with code 3"):
        await run("honest", commands=((sys.executable, "-c", "raise SystemExit(3)"),))
    with pytest.raises(CannotRun, match="cannot start /absent"):
        await run("honest", commands=(("/absent",),))


async def test_a_connector_that_dies_by_itself_is_a_finding(run: Run) -> None:
    outcome = await run("dies")
    assert outcome.verdict.broken == ["died"]
    assert "ended by itself with code 7" in (outcome.end.died or "")
    assert "died" in page(outcome, About.now("")) or "ended by itself" in page(outcome, About.now(""))


async def test_a_connector_that_somebody_else_started_and_that_is_gone_is_a_finding(
    run: Run, free_port: int, tmp_path: Path
) -> None:
    environment = {
        "API_TOKEN": "made-up",
        "HOST": "127.0.0.1",
        "PORT": str(free_port),
        "TARGET_URL": "http://x.invalid",
    }
    connector = await asyncio.create_subprocess_exec(sys.executable, str(ZOO), "dies", env=os.environ | environment)
    try:
        own = endpoint(f"http://127.0.0.1:{free_port}", "made-up")
        while not await takes_connections(own):  # noqa: ASYNC110  # another process starts to listen
            await asyncio.sleep(0.05)
        outcome = await run("dies", commands=(), target=None, patience=0.5)
    finally:
        with suppress(ProcessLookupError):
            connector.kill()
        await connector.wait()
    assert outcome.verdict.broken == ["died"]
    assert "took no connection any more" in (outcome.end.died or "")


@pytest.mark.long
async def test_a_target_process_that_fails_is_no_verdict_on_the_connector(run: Run) -> None:
    def kill_the_target(progress: Progress) -> None:
        if progress.delivered > 20:
            for process in target_processes():
                process.kill()

    outcome = await run("honest", plan=Plan(steady(300, 60)), watch=kill_the_target)
    assert outcome.verdict.word == NONE
    assert outcome.verdict.cut_short == "the stand-in target ended by signal 9"


async def test_records_that_cannot_be_written_are_no_verdict_on_the_connector(
    run: Run,
) -> None:
    def let_no_file_grow(progress: Progress) -> None:
        if progress.delivered > 20:
            for process in target_processes():
                process.rlimit(psutil.RLIMIT_FSIZE, (1000, 1000))

    outcome = await run("honest", plan=Plan(steady(300, 2)), watch=let_no_file_grow)
    assert outcome.verdict.word == NONE
    assert "File too large" in (outcome.verdict.cut_short or "")


async def test_a_connector_under_a_flaky_target_with_its_own_long_waits_is_not_finished(run: Run) -> None:
    outcome = await run("patient", mood=Mood(flaky=0.3))
    assert outcome.verdict.broken == []
    assert outcome.verdict.word == UNFINISHED
    assert outcome.verdict.found["undelivered"] > 50


async def test_what_the_connector_says_about_open_events_ends_the_waiting(run: Run, tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.write_text('{"open": {"waiting": 0, "pending": 0}}')
    outcome = await run("drops", open_events=f"cat {said}", settle=60.0)
    assert outcome.end.open == 0
    assert outcome.verdict.broken == ["lost"]


async def test_replicas_share_the_load_and_one_may_be_killed(run: Run, free_port: int, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        second = listener.getsockname()[1]
    command = (sys.executable, str(ZOO), "no-order")
    outcome = await run(
        "no-order",
        ("kill#2@0.5",),
        endpoints=tuple(endpoint(f"http://127.0.0.1:{port}", "made-up") for port in (free_port, second)),
        commands=(command, command),
        spread="subscriber",
        order_by=frozenset[str](),
    )
    assert outcome.verdict.cut_short is None
    told = document(outcome, About.now(""))["histories"]
    assert outcome.verdict.broken == [], (outcome.disturbances, list(told.values())[:2])
    assert outcome.verdict.accepted == 600
    assert [one.replica for one in outcome.disturbances] == [1]


async def test_a_taken_address_of_the_target_is_reported(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CannotRun, match="cannot listen"):
        await run("honest", target=taken.getsockname())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "the token is not the one it wants"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "has no such path"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "does not speak HTTP/1.1"),
    ],
)
async def test_the_cause_is_named_before_anything_is_sent(run: Run, answer: bytes, words: str) -> None:
    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(CannotRun, match=words):
            await run("honest", commands=(), endpoints=(endpoint(url, "made-up"),))
        with pytest.raises(CannotRun, match="does not speak TLS"):
            await run("honest", commands=(), endpoints=(endpoint(url.replace("http", "https"), "made-up"),))


async def test_nothing_at_the_url_is_reported(run: Run) -> None:
    with pytest.raises(CannotRun, match="nothing listens"):
        await run("honest", commands=())


def target_processes() -> list[psutil.Process]:
    """The process that is the target of the run under way; none once it has ended."""
    children = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    own = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
    return [one for one in own if any(link.status == psutil.CONN_LISTEN for link in one.net_connections())]


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


@pytest.mark.parametrize(("held_up", "contended"), [(0.1, False), (0.9, True)])
def test_a_generator_that_others_hold_up_says_so(held_up: float, contended: bool) -> None:
    assert Effort(sent=1000, cpu=1.0, wall=10.0, held_up=held_up).contended == contended


def command(port: int, kind: str, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "nsps_simulator", "--url", f"http://127.0.0.1:{port}", "--token", "made-up"),
        *("--connector", f"{sys.executable} {ZOO} {kind}", "--connector-log", os.devnull),
        *("--target", "127.0.0.1:0", "--rate", "200", "--subscribers", "40", *more),
    ]


@pytest.mark.parametrize(
    ("kind", "code", "more"),
    [("honest", 0, []), ("repeats", 1, []), ("honest", 4, ["--require", "rate>1000", "--require", "p50<60s"])],
)
def test_the_exit_code_tells_the_verdict(free_port: int, tmp_path: Path, kind: str, code: int, more: list[str]) -> None:
    report = tmp_path / "report.json"
    files = ("--json", str(report), "--html", str(tmp_path / "report.html"))
    run = subprocess.run(
        command(free_port, kind, "--duration", "1", *files, *more), capture_output=True, text=True, check=False
    )
    assert run.returncode == code, run.stderr
    assert run.stderr == ""
    facts = json.loads(report.read_text())
    assert facts["verdict"] == ("broken" if code == 1 else "clean")
    assert f"seed {facts['scenario']['seed']}" in run.stdout
    assert facts["command"].endswith(f"--seed {facts['scenario']['seed']}")
    if code == 4:
        assert facts["requirements"] == {"rate>1000": False, "p50<60s": True}
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_disk_that_is_full_costs_the_file_and_not_the_verdict(free_port: int) -> None:
    files = ("--json", "/dev/full", "--quiet")
    run = subprocess.run(
        command(free_port, "honest", "--duration", "1", *files), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Verdict: clean" in run.stdout
    assert run.stderr == "Error: cannot write /dev/full: No space left on device\n"


def test_a_token_that_is_not_wanted_is_named_within_seconds(free_port: int) -> None:
    run = subprocess.run(
        command(free_port, "wants-another-token", "--duration", "600"), capture_output=True, text=True, check=False
    )
    assert run.returncode == 3
    assert "answers 401: the token is not the one it wants" in run.stderr


def test_a_run_that_cannot_be_carried_out_has_an_exit_code_of_its_own(free_port: int) -> None:
    run = subprocess.run(command(free_port, "absent-kind"), capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert run.stderr.startswith("Error: the connector ended with code")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_at_any_moment_is_no_verdict_and_no_process_is_left(
    free_port: int, number: signal.Signals
) -> None:
    with started(free_port) as run:
        run.send_signal(number)
        assert run.stdout is not None
        said = run.stdout.read()
        assert f"No verdict: it was interrupted by {number.name}" in said
    assert run.returncode == 3


def test_a_simulator_that_is_killed_leaves_no_process_behind(free_port: int) -> None:
    with started(free_port) as run:
        family = psutil.Process(run.pid).children(recursive=True)
        assert len(family) >= 3, "generator, target, connector"
        run.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive


@contextmanager
def started(port: int) -> Iterator[subprocess.Popen[str]]:
    """A run that has just begun to send."""
    line = command(port, "honest", "--duration", "600")
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stdout is not None
        while "sending" not in (said := run.stdout.readline()) and said:
            pass
        yield run
