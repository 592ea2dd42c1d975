"""The README followed to the letter: its handler, what it says becomes of events, its commands."""

import asyncio
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from connector.events.examples import body_of
from tests.integration.external.targets import Seen, standing
from tests.process import ROOT, TIMEOUT, Server, environment, running
from tests.wire import TOKEN, ask, post

README = (ROOT / "README.md").read_text()
HANDLER = re.search(r"^```python\n(# my_connector\.py\n.*?)^```$", README, re.MULTILINE | re.DOTALL)
LISTED = re.search(r"^```\n(event id .*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^(?:\.venv/bin/)?python -m connector (.*?)(?: +#.*)?$", README, re.MULTILINE)


def event(number: int) -> bytes:
    """The README's event of this number: of a subscriber of its own, blocked for number 2."""
    body: dict[str, Any] = body_of("SIM/Updated")
    body["event_id"] = f"7d0f3c52-5a0e-4a55-9a34-2c1b6f0e9d1{number}"
    ids = {"i_account": 1000 + number, "imsi": f"00101000000000{number}", "i_sim_card": 70 + number}
    body["pb_data"]["sim_info"] |= ids
    body["pb_data"]["account_info"] |= {"i_account": 1000 + number, "blocked": number == 2}
    body["data"]["variables"] = {"i_account": 1000 + number}
    return json.dumps(body).encode()


async def hlr(seen: Seen) -> web.Response:
    """An HLR that has a locked database for one card, and no profile for another."""
    failed = {"3": (503, "database is locked"), "4": (400, "no such profile")}.get(seen.path[-1])
    status, error = failed or (200, "")
    return web.json_response({"error": error} if error else {}, status=status)


async def said(folder: Path, script: str, **overrides: str) -> tuple[int, str]:
    """What a shell says to commands in a folder, with our interpreter for that of the virtualenv."""
    line = re.sub(r"(?:\.venv/bin/)?python\b", sys.executable, script)
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", line, cwd=folder, env=environment(**{"JOURNAL_URL": ""} | overrides),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(TIMEOUT):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def without_times(table: str) -> list[list[str]]:
    """Its lines in words, where times and the number of attempts of what still waits are left out."""
    lines = []
    for line in table.splitlines():
        plain = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", line)
        lines.append(re.sub(r"(waiting +TIME +)\d+", r"\1N", plain).split())
    return lines


async def test_the_first_handler_and_what_the_list_says_are_as_they_stand_there(tmp_path: Path) -> None:
    assert HANDLER is not None
    assert LISTED is not None
    assert len([line for line in HANDLER[1].splitlines() if line.strip()]) == 8
    (tmp_path / "my_connector.py").write_text(HANDLER[1])
    async with standing() as there:
        there.answer = hlr
        given = {"HANDLERS": "my_connector", "TARGET_URL": there.url, "JOURNAL_URL": "", "RETRY_BASE": "5m"}
        async with running(tmp_path, **given) as server:
            for number in range(1, 5):
                assert (await ask(server.port, post(event(number)))).status == 202
            await ended(server, 3)
            for _ in range(10):  # a line of the log may be written before the transaction that it is about
                code, listed = await said(tmp_path, "python -m connector events list", **given)
                if code or "pending" not in listed:
                    break
    assert code == 0
    assert without_times(listed) == without_times(LISTED[1])


async def ended(server: Server, count: int) -> None:
    """Return once so many events have ended, and another waits."""
    await server.until(lambda: server.counts["event.processed"] + server.counts["event.dead"] >= count)
    await server.line("event.retrying")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README sends its event with curl")
async def test_what_you_should_see_is_what_is_seen(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    part = README.partition("## What you should see")[2].partition("\n## ")[0]
    (curl,) = [block for block in re.findall(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL) if "curl" in block]
    shown = [json.loads(line) for line in part.splitlines() if line.startswith("{") and '"action"' in line]
    async with running(tmp_path, JOURNAL_URL="") as server:
        script = re.sub(r"API_TOKEN=\S+", f"API_TOKEN={TOKEN}", curl, count=1).replace(":3000", f":{server.port}")
        code, answered = await said(tmp_path, script)
        assert code == 0
        assert "202 Accepted" in answered
        assert '{"message":"Event accepted for processing"}' in answered
        for line in shown:
            seen = await server.line(line["action"])
            assert seen.keys() == line.keys(), line["action"]
        assert seen["message"] == shown[-1]["message"]
        code, answered = await said(tmp_path, script)
        await server.line("event.duplicate")


async def test_the_operators_commands_are_there(tmp_path: Path) -> None:
    assert len(COMMANDS) > 6
    (tmp_path / "my_connector.py").write_text(HANDLER[1] if HANDLER else "")
    async with running(tmp_path, HANDLERS="my_connector", JOURNAL_URL="", TARGET_URL="http://127.0.0.1:1") as server:
        assert (await ask(server.port, post((ROOT / "examples" / "events" / "sim-updated.json").read_bytes()))).status
        await server.line("event.retrying")
        known = json.loads((ROOT / "examples" / "events" / "sim-updated.json").read_text())["event_id"]
        given = {"HANDLERS": "my_connector", "TARGET_URL": "http://127.0.0.1:1"}
        for arguments in COMMANDS:
            code, answered = await said(
                tmp_path, f"python -m connector {arguments.replace('EVENT_ID', known)}", **given
            )
            fails = arguments == "check"  # nothing answers there
            assert code == int(fails), (arguments, answered)
    assert (tmp_path / "my-connector" / "README.md").read_text().startswith("# my-connector")
