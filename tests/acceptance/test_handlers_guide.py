"""docs/handlers.md followed to the letter in a clean folder."""

import asyncio
import hmac
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from msgspec import structs

from connector.testing import StandIn, Trial, example, reply, run, started, using
from tests.process import ROOT, environment, run_to_end, running
from tests.wire import ask, post

GUIDE = (ROOT / "docs" / "handlers.md").read_text()
BLOCKS = re.findall(r"^```python\n(# (\S+\.py)\n.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
EXAMPLE = ROOT / "examples" / "events" / "sim-updated.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the guide's modules in it."""
    for text, name in BLOCKS:
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_block_of_python_names_its_file() -> None:
    assert len(BLOCKS) == GUIDE.count("```python") > 3
    assert len({name for _, name in BLOCKS}) == len(BLOCKS)


async def test_guide_s_first_handler_runs_as_the_guide_says(folder: Path) -> None:
    async with running(folder, HANDLERS="my_connector") as server:
        assert (await ask(server.port, post(EXAMPLE.read_bytes()))).status == 202
        assert (await server.line("event.processed"))["message"] == "record written"
    imsi = json.loads(EXAMPLE.read_text())["pb_data"]["sim_info"]["imsi"]
    assert json.loads((folder / "sims" / f"{imsi}.json").read_text())["status"]


async def test_guide_s_test_passes_and_fails_when_the_handler_is_wrong(folder: Path) -> None:
    assert (await _pytest(folder))[0] == 0
    handler = folder / "my_connector.py"
    handler.write_text(handler.read_text().replace("account.blocked is True", "False"))
    code, output = await _pytest(folder)
    assert code == 1
    assert "test_blocked_account_is_barred" in output


async def test_all_handlers_of_the_guide_can_be_declared_together(folder: Path) -> None:
    modules = ",".join(name.removesuffix(".py") for _, name in BLOCKS if not name.startswith("test_"))
    urls = dict.fromkeys(("TARGET_URL", "HLR_URL", "CRM_URL"), "http://target.example")
    targets = {"TARGETS": "hlr,crm"} | urls
    (folder / "key").write_text("of-the-partner")
    async with running(folder, HANDLERS=modules, PARTNER_KEY_FILE="key", **targets) as server:
        body = EXAMPLE.read_bytes().replace(b'"SIM/Updated"', b'"Other/Type"')
        assert (await ask(server.port, post(body))).status == 202
        assert (await server.line("event.processed"))["message"] == "nothing to do for Other/Type"


async def test_misspelt_module_is_named(folder: Path) -> None:
    ended = await run_to_end(folder, HANDLERS="my_conector")
    assert (ended.code, len(ended.stderr.splitlines())) == (2, 1)
    assert "my_conector" in ended.stderr


async def _pytest(folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
        cwd=folder, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(30):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_reminder_of_the_guide_is_sent_a_day_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    reminders = importlib.import_module("reminders")
    event = example("Account/Blocked")
    first = await run(reminders.remind, event)
    assert (first.state, first.due is not None and first.due - event.accepted_at > 86_000) == ("waiting", True)
    assert (await run(reminders.remind, structs.replace(event, accepted_at=event.accepted_at - 86400))).state == "done"


async def test_two_systems_of_the_guide_each_get_the_event_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))
    module = importlib.import_module("two_systems")
    hlr, crm = StandIn(name="hlr"), StandIn(503, 200, name="crm")
    trial = Trial(module.provision, module.tell_the_crm)
    with using(hlr=hlr, crm=crm):
        assert (await trial.deliver(example())).state == "done"
    assert (len(hlr.calls), len(crm.calls)) == (1, 2)


def recipe(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the guide."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


async def test_cache_of_the_guide_asks_once_for_many_events(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = recipe("with_cache", folder, monkeypatch)
    there = StandIn().answer(reply(json={"plan": "gold"}), path="/products/*")
    async with started(module):
        with using(there):
            many = [run(module.change, example("Account/Product/Changed")) for _ in range(5)]
            assert [outcome.reason for outcome in await asyncio.gather(*many)] == ["gold"] * 5
    assert [call.method for call in there.calls].count("GET") == 1


async def test_secret_of_the_guide_signs_and_its_lack_stops_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "key").write_text("of-the-partner\n")
    monkeypatch.setenv("PARTNER_KEY_FILE", str(folder / "key"))
    there = StandIn()
    with using(there):
        assert (await run(recipe("signed", folder, monkeypatch).send, example("Invoice/Created"))).state == "done"
    (call,) = there.calls
    assert call.headers["X-Signature"] == hmac.new(b"of-the-partner", call.body, "sha256").hexdigest()
    ended = await run_to_end(folder, HANDLERS="signed")
    assert (ended.code, "PARTNER_KEY_FILE" in ended.stderr, "signed.py:11" in ended.stderr) == (2, True, True)


async def test_debugging_as_the_guide_says(folder: Path) -> None:
    (commands,) = [
        block for block in re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL) if "--send" in block
    ]
    handler = folder / "my_connector.py"
    handler.write_text(handler.read_text().replace("    SIMS.mkdir", "    breakpoint()\n    SIMS.mkdir"))
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", re.sub(r"\bpython\b", sys.executable, commands), cwd=folder, env=environment(API_TOKEN="t" * 40),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(30):
        output, _ = await process.communicate(b"p event.event_type, sim.imsi\nc\n")
    assert process.returncode == 0, output.decode()
    assert "('SIM/Updated', '001010000000001')" in output.decode()
    assert "done: record written" in output.decode()


async def test_an_example_that_is_moved_here_says_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "coming-from.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "moved.py").write_text(block)
    outcome = await run(recipe("moved", tmp_path, monkeypatch).process_event, example("SIM/Updated"))
    assert (outcome.state, outcome.reason) == ("done", "Received event: SIM/Updated | bill status: open")
