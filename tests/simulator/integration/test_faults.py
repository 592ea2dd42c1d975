"""Faults beside those of processes: the network between others, and a disk that is full."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from nsps_simulator.running.faults import Fault, Faults, check_disk, read_fault
from nsps_simulator.running.proxy import Proxy, bind, links


@asynccontextmanager
async def relayed(*faults: str) -> AsyncIterator[int]:
    """A relay, with these faults, before a server that sends back what it reads; gives the port of the relay."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    began = time.monotonic()
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        (link,) = links("database", [server.sockets[0].getsockname()], [read_fault(one) for one in faults])
        listener = bind("127.0.0.1", 0)
        port = listener.getsockname()[1]
        serving = asyncio.ensure_future(Proxy(link, lambda: time.monotonic() - began).serve(listener))
        yield port
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def test_a_relay_without_faults_passes_everything_on() -> None:
    async with relayed() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 300_000)
        writer.write_eof()
        assert await reader.read() == b"x" * 300_000
        writer.close()


async def test_a_cut_breaks_what_is_open_and_refuses_what_is_new_until_it_is_over() -> None:
    async def said(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"hello")
            return await reader.readexactly(5)
        finally:
            writer.close()

    async with relayed("cut-database@0.3-0.9") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await said(port)
        again = b""
        while not again:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                again = await said(port)


async def test_a_delay_takes_as_long_as_was_asked_for_each_way() -> None:
    async with relayed("delay-database@0-99:0.2") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.monotonic()
        writer.write(b"x")
        await reader.readexactly(1)
        assert time.monotonic() - began >= 0.4
        writer.close()


async def test_a_fault_of_another_place_is_not_made_here() -> None:
    (link,) = links("target", [("127.0.0.1", 1)], [read_fault("cut-database@0-9"), read_fault("cut-target@1-2")])
    assert [one.kind for one in link.faults] == ["cut-target"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte, where one may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_takes_nothing_and_is_emptied_afterwards(small_disk: Path) -> None:
    began = time.monotonic()
    check_disk(small_disk)
    faults = Faults([], lambda: time.monotonic() - began, 0.0)
    making = asyncio.ensure_future(faults.carry_out(Fault("disk-full", 0.0, 1.0, folder=small_disk)))
    while shutil.disk_usage(small_disk).free:  # noqa: ASYNC110  # a thread fills it
        await asyncio.sleep(0.01)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "journal").write_bytes(b"x" * 10_000)
    await making
    (small_disk / "journal").write_bytes(b"x" * 10_000)
    assert [one.kind for one in faults.done] == ["disk-full"]
    assert [path.name for path in await asyncio.to_thread(lambda: list(small_disk.iterdir()))] == ["journal"]


def test_a_large_disk_is_never_filled() -> None:
    with pytest.raises(ValueError, match="only one of"):
        check_disk(Path("/"))
