"""Targets that misbehave, on real sockets: each ends as the outcome that the table gives it, and none hangs."""

import asyncio
import datetime
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from aiohttp import web

from connector.external import Kind, TargetAway, TargetBusy, TargetDead, TargetRetry, client
from tests.integration.external.targets import Seen, calling, standing, talking
from tests.unit.external.events import event


async def test_a_target_that_accepts_and_never_answers_does_not_hold_the_call() -> None:
    async def never(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with talking(never) as url, calling(url, TARGET_TIMEOUT="100ms") as caller:
        with pytest.raises(TargetRetry, match=r"did not answer within 0\.1 s") as fault:
            await caller.target.post("/prov", json={}, event=event())
    assert (fault.value.kind, fault.value.status) == (Kind.DOWN, None)


async def test_an_answer_that_never_ends_does_not_hold_the_call() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.01)

    async with talking(drip) as url, calling(url, TARGET_TIMEOUT="100ms") as caller:
        with pytest.raises(TargetRetry, match="did not answer within"):
            await caller.target.post(json={})


async def test_an_answer_without_bound_is_not_read_into_memory() -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with talking(flood) as url, calling(url) as caller:
        with pytest.raises(TargetRetry, match="broke off"):
            await caller.target.post(json={})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed the connection instead of answering"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "broke off in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha", "broke off in the middle of its answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "answered what is no HTTP"),
        (b"\x00\xff\x00\xff" * 100 + b"\r\n\r\n", "answered what is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "answered what is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", "answered what is no HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf",
            "broke off in the middle of its answer",
        ),
    ],
)
async def test_an_answer_that_is_none_is_tried_again(answer: bytes, said: str) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with talking(talk) as url, calling(url) as caller:
        with pytest.raises(TargetRetry, match=said) as fault:
            await caller.target.post(json={})
    assert fault.value.kind is Kind.DOWN


async def test_a_success_with_a_body_of_rubbish_is_tried_again_by_who_reads_it() -> None:
    async with standing() as standin, calling(standin.url) as caller:

        async def rubbish(_: Seen) -> web.Response:
            return web.Response(body=b"<html>\xff")

        standin.answer = rubbish
        answer = await caller.target.post(json={})
        with pytest.raises(TargetRetry, match="no JSON"):
            answer.json()


async def test_a_refused_port_is_tried_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with calling(f"http://127.0.0.1:{unused.getsockname()[1]}") as caller:
            with pytest.raises(TargetRetry, match="cannot be reached: Connection refused") as fault:
                await caller.target.post(json={})
    assert fault.value.kind is Kind.DOWN


async def test_a_host_name_that_nobody_has_is_tried_again() -> None:
    async with calling("http://hlr.invalid") as caller:
        with pytest.raises(TargetRetry, match="host name that cannot be found") as fault:
            await caller.target.post(json={})
    assert fault.value.kind is Kind.DOWN


async def test_a_port_that_takes_no_connection_is_given_up_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        async with calling(f"http://127.0.0.1:{address[1]}", TARGET_CONNECT_TIMEOUT="100ms") as caller:
            with pytest.raises(TargetRetry, match=r"took no connection within 0\.1 s"):
                await caller.target.post(json={})
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("status", [500, 503])
async def test_a_server_error_is_tried_again(status: int) -> None:
    async with standing() as standin, calling(standin.url) as caller:

        async def error(_: Seen) -> web.Response:
            return web.json_response({"error": "no database"}, status=status)

        standin.answer = error
        with pytest.raises(TargetRetry, match=f"answered {status}: no database"):
            await caller.target.post(json={})


async def test_a_refusal_ends_the_event_with_the_reason_of_the_target() -> None:
    async with standing() as standin, calling(standin.url, TARGET_STATUS="409=retry") as caller:
        status = 422

        async def refuse(_: Seen) -> web.Response:
            return web.json_response({"error": "x" * 10_000}, status=status)

        standin.answer = refuse
        with pytest.raises(TargetDead, match="answered 422: xxx") as dead:
            await caller.target.post(json={})
        assert len(str(dead.value)) < 400
        status = 409
        with pytest.raises(TargetRetry):
            await caller.target.post(json={})
        status = 404
        with pytest.raises(TargetDead):
            await caller.target.delete("/sim/1")
        assert (await caller.target.delete("/sim/1", outcomes={404: "done"})).status == 404


async def test_a_redirect_does_not_take_the_credentials_elsewhere() -> None:
    async with standing() as standin, calling(standin.url, TARGET_AUTH="bearer", TARGET_TOKEN="t") as caller:

        async def redirect(_: Seen) -> web.Response:
            return web.Response(status=302, headers={"Location": f"{standin.url}/elsewhere"})

        standin.answer = redirect
        with pytest.raises(TargetRetry, match="answered 302"):
            await caller.target.post("/prov", json={})
        assert [seen.path for seen in standin.seen] == ["/prov"]


async def test_a_429_makes_the_others_wait_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_WAIT", 0.01)
    async with standing() as standin, calling(standin.url) as caller:

        async def limited(_: Seen) -> web.Response:
            return web.Response(status=429, headers={"Retry-After": "86400"})

        standin.answer = limited
        with pytest.raises(TargetRetry) as fault:
            await caller.target.post(json={})
        assert (fault.value.kind, fault.value.after) == (Kind.RATE_LIMITED, 86400.0)
        with pytest.raises(TargetBusy):
            await caller.target.post(json={})
        assert len(standin.seen) == 1


class Certificates:
    """Certificates of an authority of its own, made by openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "authority.pem"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-days", "30",
                      "-subj", "/CN=made-up authority",
                      "-keyout", "authority.key", "-out", "authority.pem")  # fmt: skip

    def make(self, name: str, start: str, end: str) -> tuple[str, str]:
        """Certificate and key, good from ``start`` to ``end`` (YYYYMMDDHHMMSSZ)."""
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
                      "-addext", "subjectAltName=IP:127.0.0.1",
                      "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        (self.folder / "index.txt").touch()
        (self.folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\n"
            "policy=any\ncopy_extensions=copy\nunique_subject=no\n[any]\ncommonName=supplied\n"
        )
        self._openssl("ca", "-batch", "-config", "ca.cnf", "-cert", "authority.pem", "-keyfile", "authority.key",
                      "-startdate", start, "-enddate", end, "-in", f"{name}.csr", "-out", f"{name}.pem")  # fmt: skip
        return str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


def _moment(days: int) -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return Certificates(tmp_path_factory.mktemp("certificates"))


def server_side(certificate: tuple[str, str], client_authority: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if client_authority is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_authority)
    return context


async def test_a_certificate_of_an_own_authority_is_trusted_when_it_is_named(certificates: Certificates) -> None:
    tls = server_side(certificates.make("good", _moment(-1), _moment(1)))
    async with standing(tls=tls) as standin:
        async with calling(standin.url, TARGET_CA_FILE=str(certificates.authority)) as caller:
            assert (await caller.target.get()).status == 200
        async with calling(standin.url) as caller:
            with pytest.raises(TargetRetry, match="certificate that is not trusted") as fault:
                await caller.target.get()
            assert fault.value.kind is Kind.DOWN


async def test_an_expired_certificate_is_refused_and_says_so(certificates: Certificates) -> None:
    tls = server_side(certificates.make("old", _moment(-20), _moment(-10)))
    async with (
        standing(tls=tls) as standin,
        calling(standin.url, TARGET_CA_FILE=str(certificates.authority), BREAKER_FAILURES="2") as caller,
    ):
        for _ in range(2):
            with pytest.raises(TargetRetry, match="certificate has expired") as fault:
                await caller.target.get()
            assert fault.value.kind is Kind.DOWN
        with pytest.raises(TargetAway):
            await caller.target.get()
        assert standin.seen == []


async def test_a_target_that_asks_for_a_client_certificate_is_given_it(certificates: Certificates) -> None:
    server = certificates.make("server", _moment(-1), _moment(1))
    certificate, key = certificates.make("client", _moment(-1), _moment(1))
    tls = server_side(server, certificates.authority)
    ours = {"TARGET_CERT_FILE": certificate, "TARGET_KEY_FILE": key}
    async with standing(tls=tls) as standin:
        async with calling(standin.url, TARGET_CA_FILE=str(certificates.authority), **ours) as caller:
            assert (await caller.target.get()).status == 200
        async with calling(standin.url, TARGET_CA_FILE=str(certificates.authority)) as caller:
            with pytest.raises(TargetRetry):
                await caller.target.get()
