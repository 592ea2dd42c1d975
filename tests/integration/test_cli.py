"""The operator's commands on the journal of a stopped connector, in this process."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connector import DeadLetter, Event, Ignored, Retry, on
from connector.__main__ import main
from connector.outcome import RetryPolicy
from tests import events
from tests.delivering import SCHEMA, Delivery, delivering

Cli = Callable[..., Result]
SLOW = RetryPolicy(base=10_000.0, longest=60_000.0, max_attempts=50, max_age=1e9)
PERSONAL = ("Given-4711", "Family-4711", "subscriber-4711@example.invalid", "99900004711", "ZIP-4711")


@on("SIM/Updated")
async def update(event: Event) -> str:
    """As the id says."""
    if event.event_id.startswith("dead"):
        raise DeadLetter("[/no] such [red]profile[/red]\x1b[31m")
    if event.event_id.startswith("busy"):
        raise Retry("the HLR is busy")
    if event.event_id.startswith("ignored"):
        raise Ignored("not ours")
    return "written"


@on("SIM/Replaced")
async def replace(_: Event) -> None:
    """Do nothing, well."""


@pytest.fixture
async def filled(tmp_path: Path) -> AsyncIterator[Delivery]:
    """A stopped journal with an event in each state, written at 07:06:40 and at 07:23:20 on a day far ahead."""
    async with delivering(tmp_path, update, replace, policy=SLOW) as delivery:
        delivery.clock.now = 4e9
        await delivery.accept("done-1", 1)
        await delivery.accept("dead-1", 1)
        await delivery.accept("ignored-1", 1)
        await delivery.accept("busy-2", 2)
        await delivery.accept("behind-2", 2)
        await delivery.become(**{"ignored-1": "ignored", "busy-2": "waiting"})
        delivery.clock.now = 4e9 + 1000
        await delivery.journal.keep(_full(delivery))
        await delivery.become(**{"full-4711": "done"})
        await delivery.stop()
        yield delivery
        await delivery.start()


def _full(delivery: Delivery) -> Event:
    return SCHEMA.parse(events.encode(events.full("full-4711")), "request-4711", "unique-4711", delivery.clock.now)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command on the journal in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOURNAL_URL", f"sqlite:///{tmp_path / 'journal.db'}")

    def run(*arguments: str) -> Result:
        with ThreadPoolExecutor(1) as thread:  # a command has an event loop of its own
            return thread.submit(CliRunner().invoke, main, arguments).result()

    return run


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["full-4711", "behind-2", "busy-2", "ignored-1", "dead-1", "done-1"]),
        (("--state", "dead"), ["dead-1"]),
        (("--state", "waiting"), ["busy-2"]),
        (("--state", "pending"), ["behind-2"]),
        (("--state", "ignored"), ["ignored-1"]),
        (("--type", "SIM/Replaced"), ["full-4711"]),
        (("--id", "full-4711"), ["full-4711"]),
        (("--id", "b"), ["behind-2", "busy-2"]),
        (("--id", "ehind"), []),
        (("--subscriber", "2"), ["behind-2", "busy-2"]),
        (("--subscriber", "i_account:2"), ["behind-2", "busy-2"]),
        (("--since", "2096-10-02T07:15:00Z"), ["full-4711"]),
        (("--until", "2096-10-02 07:15:00", "--state", "done"), ["done-1"]),
        (("--until", "1m"), []),
        (("--text", "hlr IS"), ["busy-2"]),
        (("--text", "%"), []),
        (("--limit", "2"), ["full-4711", "behind-2"]),
        (("--state", "done", "--subscriber", "1", "--type", "SIM/Updated", "--text", "written"), ["done-1"]),
    ],
)
async def test_list_gives_what_every_filter_asks_for(
    filled: Delivery, cli: Cli, options: tuple[str, ...], expected: list[str]
) -> None:
    assert [line["event_id"] for line in lines(cli("events", "list", "--json", *options))] == expected
    table = cli("events", "list", *options)
    assert table.exit_code == 0
    assert [name for name in expected if name not in table.stdout] == []
    looked_for = f"{options[0].removeprefix('--')}=" if options else ""
    assert expected or table.stdout.startswith(f"no such events among those that are kept ({looked_for}")


async def test_mistake_in_a_setting_that_a_command_does_not_use_is_no_matter(
    filled: Delivery, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("TARGET_URL", "none"), ("PORT", "x"), ("API_TOKEN_FILE", "/none"), ("TARGETS", "hlr")):
        monkeypatch.setenv(name, text)
    assert cli("events", "show", "done-1").exit_code == cli("stats").exit_code == cli("lanes").exit_code == 0


async def test_time_without_a_zone_says_which_one_was_taken(filled: Delivery, cli: Cli) -> None:
    taken = cli("events", "list", "--json", "--since", "2096-10-02T07:15:00")
    assert [json.loads(line)["event_id"] for line in taken.stdout.splitlines()] == ["full-4711"]
    assert taken.stderr == "2096-10-02T07:15:00 names no time zone; taken as UTC: 2096-10-02T07:15:00Z\n"
    for given in ("2096-10-02T07:15:00Z", "2096-10-02T09:15:00+02:00", "1h"):
        assert cli("events", "list", "--since", given).stderr == ""


async def test_text_of_a_handler_s_error_is_shown_as_it_is_and_controls_no_terminal(filled: Delivery, cli: Cli) -> None:
    for result in (cli("events", "list"), cli("events", "show", "dead-1")):
        assert result.exit_code == 0, result.output
        assert "[/no] such [red]profile[/red]" in result.stdout
        assert "\x1b" not in result.stdout


async def test_show_tells_attempts_series_and_trace_ids(filled: Delivery, cli: Cli) -> None:
    (found,) = lines(cli("events", "show", "busy-2", "--json"))
    (series,) = found["series"]
    assert (series["state"], series["attempts"], series["due"]) == ("waiting", 1, series["due"])
    assert [each["reason"] for each in series["failed_attempts"]] == ["the HLR is busy"]
    (found,) = lines(cli("events", "show", "full-4711", "--json"))
    assert (found["series"][0]["request_id"], found["series"][0]["unique_id"]) == ("request-4711", "unique-4711")
    assert "attempt 1" in cli("events", "show", "busy-2").stdout


async def test_show_tells_of_a_replay_and_of_the_series_before(filled: Delivery, cli: Cli) -> None:
    assert cli("replay", "dead-1").stdout == "dead-1: replayed\n"
    (found,) = lines(cli("events", "show", "dead-1", "--json"))
    new, old = found["series"]
    assert (new["state"], new["earlier"], old["state"]) == ("pending", old["seq"], "dead")


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_no_personal_field_is_shown_but_by_unmask(filled: Delivery, cli: Cli, options: tuple[str, ...]) -> None:
    masked = cli("events", "show", "full-4711", *options).stdout + cli("events", "list", *options).stdout
    assert [value for value in PERSONAL if value in masked] == []
    assert "Made-up Mobile M" in masked
    unmasked = cli("events", "show", "full-4711", "--unmask", *options).stdout
    assert [value for value in PERSONAL if value not in unmasked] == []


async def test_body_with_a_number_too_large_for_most_parsers_is_shown(tmp_path: Path, cli: Cli) -> None:
    async with delivering(tmp_path, update) as delivery:
        await delivery.accept("huge", big=10**400)
        await delivery.become(huge="done")
    for options in ((), ("--json",)):
        result = cli("events", "show", "huge", *options)
        assert result.exit_code == 0, result.output


async def test_replay_by_filter_takes_the_oldest_first_and_dry_run_changes_nothing(filled: Delivery, cli: Cli) -> None:
    dry = cli("replay", "--state", "done", "--dry-run")
    assert dry.stdout.splitlines() == ["done-1", "full-4711"]
    assert "2 events would be replayed" in dry.stderr
    assert len(filled.find()) == 6
    result = cli("replay", "--state", "done", "--rate", "1000")
    assert result.stdout.splitlines() == ["done-1: replayed", "full-4711: replayed"]
    assert len(filled.find()) == 8


async def test_replay_by_filter_without_a_state_takes_dead_events_only(filled: Delivery, cli: Cli) -> None:
    assert cli("replay", "--subscriber", "1").stdout == "dead-1: replayed\n"
    assert cli("discard", "--subscriber", "2").stdout == ""


async def test_replay_of_all_dead_events_takes_none_that_was_replayed_before(filled: Delivery, cli: Cli) -> None:
    """The series that died stays in the history; that is no reason to handle the event a third time."""
    assert cli("replay", "--state", "dead").stdout == "dead-1: replayed\n"
    assert cli("replay", "--state", "dead").stdout == ""
    assert cli("discard", "--state", "dead").stdout == ""


async def test_replay_of_a_waiting_event_tries_it_now(filled: Delivery, cli: Cli) -> None:
    assert cli("replay", "busy-2").stdout == "busy-2: released\n"
    assert filled.states()["busy-2"] == "pending"


async def test_name_that_is_not_known_does_not_keep_the_ones_after_it_from_being_replayed(
    filled: Delivery, cli: Cli
) -> None:
    result = cli("replay", "--all-handlers", *(f"nobody-{number}" for number in range(100)), "dead-1")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "dead-1: replayed"


async def test_first_8_characters_name_an_event_and_where_several_begin_so_none(tmp_path: Path, cli: Cli) -> None:
    async with delivering(tmp_path, update, replace, policy=SLOW) as delivery:
        names = ("busy-2", "busy-2-long-one", "busy-2-long-two", "behind-2", "dead-1-long")
        for number, name in enumerate(names):
            await delivery.accept(name, number)
        await delivery.become(**{name: "waiting" for name in names if name[:4] == "busy"}, **{"dead-1-long": "dead"})
        await delivery.stop()
        _check_first_8_characters(cli)
        await delivery.start()


def _check_first_8_characters(cli: Cli) -> None:
    (found,) = lines(cli("events", "show", "dead-1-l", "--json"))
    assert found["series"][0]["event_id"] == "dead-1-long"
    assert cli("discard", "behind-", "dead-1-l", "dead-1-longer").stdout.splitlines() == [
        "behind-: not known",  # 7 characters
        "dead-1-long: discarded",
        "dead-1-longer: not known",
    ]
    several = "busy-2-l is the beginning of several ids: busy-2-long-one, busy-2-long-two"
    for command in (("discard",), ("replay",), ("events", "show")):
        refused = cli(*command, "busy-2-l")
        assert (refused.exit_code, several in refused.output) == (1, True)
    assert lines(cli("events", "show", "busy-2", "--json"))[0]["series"][0]["event_id"] == "busy-2"


async def test_discard_by_name_and_by_filter(filled: Delivery, cli: Cli) -> None:
    assert cli("discard", "behind-2", "nobody", "done-1").stdout.splitlines() == [
        "behind-2: discarded",
        "nobody: not known",
        "done-1: ended well already",
    ]
    assert cli("discard", "--state", "dead", "--dry-run").stdout == "dead-1\n"
    assert cli("discard", "--state", "dead").stdout == "dead-1: discarded\n"
    assert filled.states()["dead-1"] == filled.states()["behind-2"] == "ignored"
    assert cli("discard", "--state", "dead").stdout == ""


async def test_lanes_tells_who_is_blocked_by_what_and_how_many_wait(filled: Delivery, cli: Cli) -> None:
    (found,) = lines(cli("lanes", "--json"))
    assert found.items() >= {
        "resources": ["i_account:2"], "event_id": "busy-2", "state": "waiting", "attempts": 1, "behind": 1,
    }.items()  # fmt: skip
    assert "busy-2" in cli("lanes").stdout
    assert cli("lanes", "skip", "i_account:2", "i_account:9").stdout.splitlines() == [
        "i_account:2: skipped",
        "i_account:9: nothing is open for this resource",
    ]
    assert cli("lanes").stdout == "no subscriber is blocked by an event of its own\n"
    assert cli("lanes", "release", "i_account:9").stdout == "i_account:9: nothing is open for this resource\n"


async def test_stats_counts_what_is_open_and_what_has_ended(filled: Delivery, cli: Cli) -> None:
    cli("pause")
    (found,) = lines(cli("stats", "--json"))
    assert found["paused"] is True
    assert found["open"] == {"pending": 1, "waiting": 1, "held": 0}
    assert found["total"].items() >= {"accepted": 6, "done": 2, "dead": 1, "ignored": 1, "retried": 1}.items()
    assert "paused" in cli("stats").stdout
    cli("resume")
    assert lines(cli("stats", "--json"))[0]["paused"] is False


COMMANDS = (
    ("events", "list"),
    ("events", "show", "x"),
    ("lanes",),
    ("stats",),
    ("replay", "x"),
    ("replay", "--state", "dead"),
    ("discard", "x"),
    ("lanes", "release", "x"),
    ("lanes", "skip", "x"),
    ("pause",),
    ("resume",),
)


def one_line(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "Traceback" not in result.output
    return line


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_journal_that_is_not_there_or_not_readable_is_one_line(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    path = tmp_path / "journal.db"
    assert str(path) in one_line(cli(*command))
    assert not path.exists()
    path.write_bytes(b"this is no journal, whatever its name says" * 100)
    assert str(path) in one_line(cli(*command))
    monkeypatch.setenv("JOURNAL_URL", "memory://")
    assert "memory" in one_line(cli(*command))
    monkeypatch.setenv("KEEP_DONE", "long")
    assert "KEEP_DONE" in one_line(cli(*command))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_damaged_journal_is_one_line(filled: Delivery, cli: Cli, command: tuple[str, ...]) -> None:
    size = filled.path.stat().st_size
    with filled.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    try:
        one_line(cli(*command))
    finally:
        for name in filled.path.parent.glob("journal.db*"):
            name.unlink()


COMMANDS_WITHOUT_HELP = """
from connector.__main__ import main
from nsps_simulator.command import command

def without_help(name, command):
    found = [] if command.help else [name]
    for sub, each in getattr(command, "commands", {}).items():
        found += without_help(f"{name} {sub}", each)
    return found

print(without_help("connector", main) + without_help("simulator", command))
"""


def test_every_command_has_its_text_of_help_also_where_docstrings_are_left_out() -> None:
    command = [sys.executable, "-OO", "-c", COMMANDS_WITHOUT_HELP]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


async def test_unknown_event_is_one_line(filled: Delivery, cli: Cli) -> None:
    assert "nobody" in one_line(cli("events", "show", "nobody"))


@pytest.mark.parametrize(
    "command",
    [
        ("replay",),
        ("discard",),
        ("replay", "x", "--state", "dead"),
        ("events", "list", "--since", "yesterday"),
        ("events", "list", "--state", "lost"),
        ("events", "list", "--limit", "0"),
        ("replay", "--state", "dead", "--rate", "0"),
        ("lanes", "release"),
    ],
    ids=" ".join,
)
def test_command_that_is_not_understood_says_what_is_wrong(cli: Cli, command: tuple[str, ...]) -> None:
    result = cli(*command)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


@pytest.mark.parametrize(
    "command", [("replay",), ("discard",), ("lanes", "skip"), ("events", "show"), ("events", "list", "--subscriber")]
)
def test_name_that_is_no_text_is_an_error_and_no_stack_trace(
    filled: Delivery, cli: Cli, command: tuple[str, ...]
) -> None:
    result = cli(*command, "\udcff")
    assert result.exit_code == 1
    assert "Error: what was named is no UTF-8 text" in result.stderr
    assert filled.path.exists()
