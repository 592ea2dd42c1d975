"""Start and stop of ``python run.py``."""

import asyncio
import json
import re
import signal
import socket
import zlib
from pathlib import Path

import pytest

from connector.serve import SAME_SIGNAL
from tests import events
from tests.process import Ended, run_to_end, running
from tests.wire import TOKEN, ask, connect, post

BODY = events.encode(events.minimal())
HOLD = events.encode(events.minimal("Test/Hold"))


def assert_no_trace(ended: Ended) -> None:
    assert "Traceback" not in ended.stdout + ended.stderr
    for line in ended.stdout.splitlines():
        assert json.loads(line)["level"] in ("info", "warning")


async def test_a_port_in_use_gives_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await run_to_end(tmp_path, PORT=str(port))
    assert ended.code == 2
    assert len(ended.stderr.splitlines()) == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "in use" in ended.stderr.lower()
    assert_no_trace(ended)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "not a host"])
async def test_an_address_that_is_not_ours_gives_one_clear_line(tmp_path: Path, host: str) -> None:
    ended = await run_to_end(tmp_path, HOST=host)
    assert ended.code == 2
    assert len(ended.stderr.splitlines()) == 1
    assert host in ended.stderr
    assert "None" not in ended.stderr
    assert_no_trace(ended)


async def test_all_bad_settings_are_listed_at_once(tmp_path: Path) -> None:
    ended = await run_to_end(tmp_path, PORT="http", WORKERS="none", BODY_TIMEOUT="soon", API_TOKEN="two words")
    assert ended.code == 2
    assert [line.split(":")[1].strip() for line in ended.stderr.splitlines()] == [
        "API_TOKEN",
        "PORT",
        "BODY_TIMEOUT",
        "WORKERS",
    ]
    assert "two words" not in ended.stderr
    assert ended.stdout == ""
    assert_no_trace(ended)


@pytest.mark.parametrize("module", ["no_such_module", "json", "broken_module", "quitting_module"])
async def test_handlers_that_cannot_be_had_give_one_clear_line(tmp_path: Path, module: str) -> None:
    (tmp_path / "broken_module.py").write_text("this is no Python")
    (tmp_path / "quitting_module.py").write_text("raise RuntimeError('made up')")
    ended = await run_to_end(tmp_path, HANDLERS=module)
    assert ended.code == 2
    assert len(ended.stderr.splitlines()) == 1
    assert module in ended.stderr
    assert_no_trace(ended)


async def test_settings_come_from_the_env_file_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_TOKEN=from-the-file\nEVENT_PATH=/from-the-file\n")
    async with running(tmp_path, API_TOKEN="from-the-environment") as server:
        answer = await ask(server.port, post(BODY, path="/from-the-file", token="from-the-environment"))
        assert answer.status == 202
        assert (await ask(server.port, post(BODY, path="/from-the-file", token="from-the-file"))).status == 401


async def test_an_env_file_that_is_no_text_gives_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"API_TOKEN=caf\xe9\n")
    ended = await run_to_end(tmp_path)
    assert ended.code == 2
    assert len(ended.stderr.splitlines()) == 1
    assert ".env" in ended.stderr
    assert_no_trace(ended)


async def test_a_token_is_made_where_none_is_set_and_shown_once_and_not_in_the_log(tmp_path: Path) -> None:
    async with running(tmp_path, API_TOKEN="") as server:
        (token,) = re.findall(r"API_TOKEN=(\S{20,})", server.stderr)
        assert (await ask(server.port, post(BODY, token=token))).status == 202
        assert (await ask(server.port, post(BODY, token=""))).status == 401
        assert (await ask(server.port, post(BODY, token=TOKEN))).status == 401
        assert await server.terminate() == 0
        assert server.stderr.count(token) == 1
        assert token not in str(server.lines)


async def test_every_line_on_stdout_is_json_with_the_documented_fields(tmp_path: Path) -> None:
    async with running(tmp_path, ACCESS_LOG="true") as server:
        await ask(server.port, post(BODY))
        await ask(server.port, post(b"{"))
        await ask(server.port, b"no http\r\n\r\n")
        await server.line("event.processed")
        assert await server.terminate() == 0
    assert server.noise == []
    assert server.stderr == ""
    for line in server.lines:
        assert {"timestamp", "level", "message", "action"} <= set(line)
    assert [line["action"] for line in server.lines][-3:] == ["server.draining", "server.drained", "server.stopped"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_an_idle_connector_in_order(tmp_path: Path, number: signal.Signals) -> None:
    async with running(tmp_path) as server, connect(server.port):
        server.send(number)
        assert await server.ended() == 0
        assert (await server.line("server.drained"))["left"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_a_long_drain_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with running(tmp_path, HANDLERS="tests.handlers", DRAIN_TIMEOUT="1h") as server:
        assert (await ask(server.port, post(HOLD))).status == 202
        server.send(signal.SIGTERM)
        await server.line("server.draining")
        ended = asyncio.ensure_future(server.ended())
        while not (await asyncio.wait({ended}, timeout=SAME_SIGNAL))[0]:
            server.send(number)  # until it does not count as the first one any more
        assert ended.result() == 128 + number
        await server.line("server.killed")


async def test_a_supervisor_that_signals_process_and_group_does_not_skip_the_drain(tmp_path: Path) -> None:
    async with running(tmp_path, HANDLERS="tests.handlers", DRAIN_TIMEOUT="200ms") as server:
        assert (await ask(server.port, post(HOLD))).status == 202
        server.send(signal.SIGTERM)
        server.send(signal.SIGTERM)
        assert await server.ended() == 0
        assert (await server.line("server.drained"))["cut_off"] == 1


async def test_a_handler_that_hangs_is_left_when_the_drain_s_time_is_over(tmp_path: Path) -> None:
    async with running(tmp_path, HANDLERS="tests.handlers", DRAIN_TIMEOUT="200ms") as server:
        await ask(server.port, post(HOLD))
        assert await server.terminate() == 0
        drained = await server.line("server.drained")
        assert (drained["left"], drained["cut_off"]) == (1, 1)


async def test_an_event_whose_body_is_on_its_way_at_the_stop_is_refused_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as server, connect(server.port) as wire:
        await wire.send(post(BODY[:-1], length=len(BODY)))
        assert (await ask(server.port, post(method="GET", path="/health", token=None))).status == 200
        server.send(signal.SIGTERM)
        assert (await wire.answer()).status == 503
        assert await server.ended() == 0
        assert server.counts["event.accepted"] == 0


async def test_an_inflated_gigabyte_does_not_cost_its_size_in_memory(tmp_path: Path) -> None:
    packer, block = zlib.compressobj(9), b" " * 2**20
    bomb = b"".join(packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    bomb += (packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)) * 1022
    async with running(tmp_path) as server:
        assert (await ask(server.port, post(BODY))).status == 202
        before = peak_memory(server.pid)
        async with asyncio.timeout(20):
            answer = await ask(server.port, post(bomb, "Content-Encoding: deflate"))
        assert answer.status == 413
        assert peak_memory(server.pid) - before < 32 * 2**20
        assert (await ask(server.port, post(BODY))).status == 202


def peak_memory(pid: int) -> int:
    """The most memory that the process ever had, in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
