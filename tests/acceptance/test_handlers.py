"""What authors write, on the real process: nothing of it is dropped, and nothing of it harms another event."""

from pathlib import Path

from tests import events
from tests.acceptance import handler_zoo
from tests.process import Server, run_to_end, running
from tests.wire import ask, post

HEAD = "import asyncio, os, sys, threading, time\nfrom connector import *\n"


async def accept(server: Server, event_id: str, i_account: int = 1, event_type: str = "SIM/Updated") -> None:
    """Post an event that is accepted."""
    body = events.encode(events.of_subscriber(i_account, event_id, event_type))
    assert (await ask(server.port, post(body))).status == 202


def write(folder: Path, text: str, name: str = "partner") -> str:
    """Write a module of handlers; its name."""
    (folder / f"{name}.py").write_text(HEAD + text)
    return name


async def test_set_up_that_fails_ends_the_start_with_file_and_line(tmp_path: Path) -> None:
    text = "@on('*')\nasync def f(event): pass\n@on_start\nasync def pool():\n    raise OSError('no pool')\n"
    ended = await run_to_end(tmp_path, HANDLERS=write(tmp_path, text))
    assert ended.code == 2
    (line,) = ended.stderr.splitlines()
    assert "@on_start of partner.pool (partner.py:5) failed: OSError: no pool (partner.py:7)" in line
    assert "Traceback" not in ended.stdout


async def test_set_up_comes_before_the_first_event_and_clean_up_after_the_last(tmp_path: Path) -> None:
    text = """
@on_start
async def pool():
    global state
    state = ["open"]
    yield
    open("closed", "w").write(",".join(state))
@on("*")
async def use(event):
    state.append(event.event_id)
    return state[0]
"""
    async with running(tmp_path, HANDLERS=write(tmp_path, text)) as server:
        await accept(server, "one")
        assert (await server.line("event.processed"))["message"] == "open"
        assert await server.terminate() == 0
    assert (tmp_path / "closed").read_text() == "open,one"


async def test_start_lists_the_handlers_and_warns_of_what_nobody_can_have_meant(tmp_path: Path) -> None:
    text = "@on('SIM/Updatd')\nasync def f(event): pass\n@on('SIM/Created')\nasync def f(event): pass\n"
    async with running(tmp_path, HANDLERS=write(tmp_path, text)) as server:
        line = await server.line("server.started")
        assert line["handlers"] == {"partner.f": ["SIM/Updatd"], "partner.f#2": ["SIM/Created"]}
        warnings = [line["message"] for line in server.lines if line["action"] == "handlers.warning"]
    assert any("did you mean SIM/Updated?" in warning and "partner.py:3" in warning for warning in warnings)
    assert any("give each a name=" in warning for warning in warnings)


async def test_a_handler_that_asks_for_a_target_that_no_setting_names_is_found_at_start(tmp_path: Path) -> None:
    text = """
from connector import external
from connector.external import target as system
@on("SIM/Updated")
async def f(event):
    await system().post(json={}, event=event)
@on("SIM/Replaced")
async def g(event):
    from connector.external import target
    await external.target("crm").post(json={}, event=event)
    await target("hrl").post(json={}, event=event)
"""
    name = write(tmp_path, text)
    ended = await run_to_end(tmp_path, HANDLERS=name)
    assert ended.code == 2
    unset = "TARGET_URL is not set: there is no external system to call"
    assert ended.stderr.splitlines() == [
        f"cannot start: HANDLERS: partner.py:8 asks for target(), but {unset}",
        f'cannot start: HANDLERS: partner.py:12 asks for target("crm"), but {unset}',
        f'cannot start: HANDLERS: partner.py:13 asks for target("hrl"), but {unset}',
    ]
    urls = {"TARGETS": "hlr,crm", "HLR_URL": "http://hlr.example", "CRM_URL": "http://crm.example"}
    ended = await run_to_end(tmp_path, HANDLERS=name, TARGET_URL="http://target.example", **urls)
    assert ended.code == 2
    (line,) = ended.stderr.splitlines()
    assert "partner.py:13 asks for target(\"hrl\"), but there is no target 'hrl'" in line


async def test_start_without_handlers_says_that_events_are_only_logged(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        line = await server.line("handlers.warning")
    assert line["message"] == "HANDLERS is not set: events are only logged"


async def test_zoo_of_misbehaving_handlers_costs_no_other_event_anything(tmp_path: Path) -> None:
    assert len(handler_zoo.KINDS) >= 30
    await handler_zoo.healthy_seconds(tmp_path, handler_zoo.KINDS)
