"""TLS on our own port."""

import asyncio
import shutil
import ssl
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from connector.errors import StartError
from connector.web import tls
from connector.web.tls import Certificate
from tests import events
from tests.conftest import Lines, Reported
from tests.serving import serving
from tests.wire import Wire, ask, connect, post

BODY = events.encode(events.minimal())

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def make(folder: Path, name: str, *, password: bool = False) -> tuple[str, str]:
    """A certificate for this name with its key; the files."""
    certificate, key = folder / "server.pem", folder / "server.key"
    secret = ["-passout", "pass:made-up"] if password else ["-nodes"]
    arguments = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *secret]
    arguments += ["-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    return str(certificate), str(key)


async def over_tls(port: int) -> tuple[Wire, str]:
    """A connection, and the name in the certificate that it was shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown: Any = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return Wire(reader, writer), _name(shown)


def _name(certificate: bytes) -> str:
    arguments = ["openssl", "x509", "-inform", "der", "-noout", "-subject"]
    said = subprocess.run(arguments, input=certificate, check=True, capture_output=True).stdout.decode()
    return said.strip().rpartition("=")[2].strip()


def _spoil(certificate: str) -> None:
    Path(certificate).write_text("no certificate")


async def test_events_are_taken_over_tls_and_the_connection_is_kept(tmp_path: Path) -> None:
    certificate, key = make(tmp_path, "first")
    async with serving(TLS_CERT_FILE=certificate, TLS_KEY_FILE=key) as (_, port), AsyncExitStack() as stack:
        wire, name = await over_tls(port)
        stack.push_async_callback(wire.closed)
        assert name == "first"
        for _ in range(3):
            await wire.send(post(BODY))
            assert (await wire.answer()).status == 202
        await wire.send(post(BODY + b" " * 1_000_000, token="wrong"))
        answer = await wire.answer()
        assert (answer.status, answer.headers["Connection"]) == (401, "close")


async def test_a_renewed_certificate_is_shown_to_new_connections_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: Lines
) -> None:
    monkeypatch.setattr(tls, "_LOOK", 0.0)
    certificate, key = make(tmp_path, "first")
    async with serving(TLS_CERT_FILE=certificate, TLS_KEY_FILE=key) as (_, port), AsyncExitStack() as stack:
        old, name = await over_tls(port)
        stack.push_async_callback(old.closed)
        assert name == "first"
        make(tmp_path, "second")
        new, name = await over_tls(port)
        stack.push_async_callback(new.closed)
        assert name == "second"
        _spoil(certificate)
        newest, name = await over_tls(port)
        stack.push_async_callback(newest.closed)
        assert name == "second"
        for wire in (old, new, newest):
            await wire.send(post(BODY))
            assert (await wire.answer()).status == 202
    actions = [line["action"] for line in log_lines() if line["action"].startswith("tls.")]
    assert actions[:2] == ["tls.reloaded", "tls.not_reloaded"]


async def test_a_client_without_tls_is_said_and_disturbs_nobody(tmp_path: Path, reported: Reported) -> None:
    certificate, key = make(tmp_path, "first")
    async with serving(TLS_CERT_FILE=certificate, TLS_KEY_FILE=key) as (_, port), AsyncExitStack() as stack:
        async with connect(port) as plain:
            await plain.send(post(BODY))
            await plain.rest()
        (line,) = await reported("connection.refused")
        assert line["remote"] == "127.0.0.1"
        wire, _name = await over_tls(port)
        stack.push_async_callback(wire.closed)
        await wire.send(post(BODY))
        assert (await wire.answer()).status == 202


async def test_tls_on_a_port_without_it_is_named() -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
    async with serving() as (_, port):
        answer = await ask(port, hello)
    assert answer.status == 400
    assert "TLS" in answer.json()["error"]


@pytest.mark.parametrize("what", ["missing", "empty", "password", "another key"])
def test_a_certificate_that_cannot_be_used_stops_the_start_with_its_name(what: str, tmp_path: Path) -> None:
    certificate, key = make(tmp_path, "first", password=what == "password")
    match what:
        case "missing":
            Path(certificate).unlink()
        case "empty":
            Path(certificate).write_text("")
        case "another key":
            (tmp_path / "other").mkdir()
            _, key = make(tmp_path / "other", "other")
    with pytest.raises(StartError) as caught:
        Certificate(certificate, key)
    assert str(caught.value).startswith("TLS_CERT_FILE, TLS_KEY_FILE: ")
    assert "password" in str(caught.value) if what == "password" else certificate in str(caught.value)
