"""``check`` and ``events example``, as processes: what they say before a connector is started."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from aiohttp import web

from connector.events.event_types import DOCUMENTED
from tests.integration.external.targets import Seen, standing
from tests.process import TIMEOUT, Ended, environment, running

HANDLER = """
from collections.abc import AsyncIterator
from connector import Event, on, on_start
from connector.external import target

@on_start
async def pool() -> AsyncIterator[None]:
    yield

@on("SIM/Updated", require=["pb_data.sim_info.imsi"], latest_only=True)
async def provision(event: Event) -> str:
    sim = event.pb_data.sim_info
    answer = await target().put("/sims/{imsi}", {"imsi": sim.imsi}, json={"status": sim.status}, event=event)
    return f"written as {(answer.json() or {}).get('id')}"
"""
TOKEN = "a-token-that-is-long-enough-for-the-check"


async def command(folder: Path, *arguments: str, **overrides: str) -> Ended:
    """What a command says in a folder with a handler in it."""
    (folder / "mine.py").write_text(HANDLER)
    given = {"HANDLERS": "mine", "API_TOKEN": TOKEN, "JOURNAL_URL": "", "PORT": ""} | overrides
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connector", *arguments,
        cwd=folder, env=environment(**given), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(TIMEOUT):
        stdout, stderr = await process.communicate()
    return Ended(process.returncode or 0, stdout.decode(), stderr.decode())


def marks(text: str) -> set[tuple[str, str]]:
    """What was looked at, and how it is."""
    return {(line.split()[0], line.split()[1]) for line in text.splitlines()}


async def test_all_that_a_connector_is_made_of_has_a_line(tmp_path: Path) -> None:
    async with standing() as hlr:
        ended = await command(tmp_path, "check", "--grace", "60s", TARGET_URL=hlr.url)
    assert (ended.code, ended.stderr) == (0, "")
    assert marks(ended.stdout) == {(each, "ok") for each in ("settings", "handlers", "journal", "grace", "target")}
    assert "mine.provision takes SIM/Updated, requires pb_data.sim_info.imsi" in ended.stdout
    assert [seen.method for seen in hlr.seen] == ["HEAD"]
    assert not (tmp_path / "data").exists()


async def test_a_target_that_cannot_be_used_is_told_and_is_no_reason_not_to_start(tmp_path: Path) -> None:
    async def refuse(seen: Seen) -> web.Response:
        return web.Response(status=200 if seen.headers.get("Authorization") == "Bearer good" else 401)

    async with standing() as hlr:
        hlr.answer = refuse
        login = {"TARGET_URL": hlr.url, "TARGET_AUTH": "bearer"}
        good = await command(tmp_path, "check", TARGET_TOKEN="good", **login)
        bad = await command(tmp_path, "check", TARGET_TOKEN="bad-token", **login)
    nobody = await command(tmp_path, "check", TARGET_URL=hlr.url)
    offline = await command(tmp_path, "check", "--offline", TARGET_URL=hlr.url)
    assert [ended.code for ended in (good, bad, nobody, offline)] == [0, 1, 1, 0]
    assert "login (bearer) taken" in good.stdout
    assert "the login (bearer) is not taken" in bad.stdout
    assert "bad-token" not in bad.stdout + bad.stderr
    assert "cannot be reached" in nobody.stdout
    assert ("target", "note") in marks(offline.stdout)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"PORT": "99999"}, "settings  FAIL  PORT"),
        ({"HANDLERS": "mien"}, "handlers  FAIL  HANDLERS: mien cannot be imported"),
        ({"TARGET_URL": "http://127.0.0.1:1", "TARGET_CA_FILE": "/nowhere.pem"}, "FAIL"),
        ({"JOURNAL_URL": "sqlite:///mine.py/journal.db"}, "journal   FAIL"),
    ],
)
async def test_what_would_stop_the_start_ends_with_2(tmp_path: Path, overrides: dict[str, str], said: str) -> None:
    ended = await command(tmp_path, "check", "--offline", **overrides)
    assert (ended.code, ended.stderr) == (2, "")
    assert said in ended.stdout


async def test_it_leaves_the_journal_of_a_running_connector_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    async with running(tmp_path, JOURNAL_URL=url):
        ended = await command(tmp_path, "check", JOURNAL_URL=url)
    assert ended.code == 0
    assert "journal.db: 0 open events" in ended.stdout


async def test_a_grace_that_is_too_short_says_what_to_set(tmp_path: Path) -> None:
    ended = await command(tmp_path, "check", "--grace", "10s")
    assert "set DRAIN_TIMEOUT to at most 7s" in ended.stdout
    ended = await command(tmp_path, "check", "--grace", "10s", DRAIN_TIMEOUT="7s")
    assert ("grace", "ok") in marks(ended.stdout)


async def test_an_event_is_sent_by_hand_and_each_call_is_shown(tmp_path: Path) -> None:
    async def answer(seen: Seen) -> web.Response:
        if seen.path == "/token":
            return web.json_response({"access_token": "secret-token", "token_type": "Bearer"})
        return web.json_response({"id": 7})

    (tmp_path / "event.json").write_text((await command(tmp_path, "events", "example", "SIM/Updated")).stdout)
    async with standing() as hlr:
        hlr.answer = answer
        ended = await command(
            tmp_path, "check", "--send", "event.json", TARGET_URL=hlr.url, TARGET_AUTH="oauth2",
            TARGET_TOKEN_URL=f"{hlr.url}/token", TARGET_CLIENT_ID="nsps", TARGET_CLIENT_SECRET="secret-of-ours",
        )  # fmt: skip
    assert ended.code == 0
    shown = [line.strip() for line in ended.stdout.splitlines()]
    assert shown[1:3] == [f"POST {hlr.url}/token (for a token)", "-> 200"]
    assert shown[3:] == [
        f"PUT {hlr.url}/sims/001010000000001", '{"status":"used"}', "-> 200", '{"id": 7}', "done: written as 7",
    ]  # fmt: skip
    assert "secret" not in ended.stdout + ended.stderr
    assert not (tmp_path / "data").exists()


async def test_a_dry_run_calls_nobody_and_a_refused_event_is_told(tmp_path: Path) -> None:
    (tmp_path / "event.json").write_text((await command(tmp_path, "events", "example", "SIM/Updated")).stdout)
    (tmp_path / "short.json").write_text('{"event_id": "1", "data": {"event_type": "SIM/Updated"}}')
    async with standing() as hlr:
        dry = await command(tmp_path, "check", "--send", "event.json", "--dry-run", TARGET_URL=hlr.url)
        refused = await command(tmp_path, "check", "--send", "short.json", TARGET_URL=hlr.url)
    down = await command(tmp_path, "check", "--send", "event.json", TARGET_URL=hlr.url)
    assert (hlr.seen, dry.code, refused.code, down.code) == ([], 0, 2, 1)
    assert "PUT" in dry.stdout
    assert "pb_data.sim_info.imsi" in refused.stderr
    assert "waiting: the target cannot be reached" in down.stdout


async def test_every_documented_type_has_an_example_with_an_id_of_its_own(tmp_path: Path) -> None:
    listed = (await command(tmp_path, "events", "example")).stdout.split()
    assert listed == list(DOCUMENTED)
    one, other = [json.loads((await command(tmp_path, "events", "example", "SIM/Replaced")).stdout) for _ in range(2)]
    assert one["event_id"] != other["event_id"]
    assert one["pb_data"]["prev_sim_info"]
    assert "did you mean SIM/Updated" in (await command(tmp_path, "events", "example", "SIM/Update")).stderr
