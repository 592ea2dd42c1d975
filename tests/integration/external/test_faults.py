"""Targets that misbehave, on real sockets: each ends as the outcome that the table gives it, and none hangs."""

import asyncio
import contextlib
import datetime
import os
import resource
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from connector.external import Kind, TargetDead, TargetRetry, TargetUnavailable, aiohttp_inside, attempt
from connector.external import tls as tls_files
from tests.integration.external.targets import Seen, calling, standing, talking, until
from tests.unit.external.events import event


async def test_a_target_that_accepts_and_never_answers_does_not_hold_the_call() -> None:
    async def never(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with talking(never) as url, calling(url, TARGET_TIMEOUT="100ms") as caller:
        with pytest.raises(TargetRetry, match=r"did not answer within 0\.1 s") as fault:
            await caller.target.post("/prov", json={}, event=event())
    assert (fault.value.kind, fault.value.status) == (Kind.DOWN, None)


Served = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await asyncio.sleep(0.01)


async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


def answering(answer: bytes) -> Served:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return talk


OK = b"HTTP/1.1 200 OK\r\n"
UNREADABLE = {
    "a body that drips past the timeout": (drip, "did not end within"),
    "a body without bound": (flood, "only its first 1048576 bytes"),
    "a body that is broken off": (answering(OK + b"Content-Length: 100\r\n\r\nhalf"), "broken off"),
    "chunks that are broken off": (answering(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nha"), "broken off"),
    "chunks that are none": (answering(OK + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n"), "could not be read"),
    "a length that is none": (answering(OK + b"Content-Length: many\r\n\r\nx"), "could not be read"),
    "two lengths": (answering(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), "could not be read"),
    "a header without bound": (answering(OK + b"X: " + b"x" * 200_000 + b"\r\n\r\n"), "could not be read"),
    "a head that is broken off": (answering(OK + b"X: 1"), "could not be read"),
    "a header that is none": (answering(OK + b"no header\r\nContent-Length: 1\r\n\r\n"), "could not be read"),
    "a body in another encoding": (
        answering(OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf"),
        "cannot be decompressed",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_success_that_cannot_be_read_is_done_and_only_who_needs_the_body_is_told(kind: str) -> None:
    talk, note = UNREADABLE[kind]
    async with talking(talk) as url, calling(url, TARGET_TIMEOUT="200ms") as caller:
        response = await caller.target.post(json={})
        assert response.status == 200
        assert note in response.note
        for read in (response.json, response.text):
            with pytest.raises(TargetRetry, match="its body is needed"):
                read()


@pytest.mark.parametrize("kind", UNREADABLE)
async def test_a_refusal_stays_one_whatever_can_be_read_of_it(kind: str) -> None:
    talk, _ = UNREADABLE[kind]

    class Refusing:
        def __init__(self, writer: asyncio.StreamWriter) -> None:
            self.drain = writer.drain
            self._write = writer.write

        def write(self, data: bytes) -> None:
            self._write(data.replace(OK, b"HTTP/1.1 422 No\r\n"))

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await talk(reader, cast("asyncio.StreamWriter", Refusing(writer)))

    async with talking(refuse) as url, calling(url, TARGET_TIMEOUT="200ms") as caller:
        with pytest.raises(TargetDead, match="answered 422"):
            await caller.target.post(json={})


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"Content-Length: 2\r\n\r\n{}and more", {}),
        (OK + b"Content-Length: 2\r\n\r\n{}" + OK + b"Content-Length: 0\r\n\r\n", {}),
        (OK + b"X: " + b"x" * 20_000 + b"\r\nContent-Length: 2\r\n\r\n{}", {}),
        (OK + b"".join(b"X-%d: 1\r\n" % n for n in range(300)) + b"Content-Length: 2\r\n\r\n{}", {}),
        (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", {}),
        (b'HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n{"a":1}', None),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", {}),
        (OK + b"Content-Length: 5\r\n\r\n\xef\xbb\xbf{}", {}),
        (OK + b'Content-Length: 5\r\n\r\n"M\xfcl"', "M\N{LATIN SMALL LETTER U WITH DIAERESIS}l"),
        (OK + b"Content-Length: 0\r\n\r\n", None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (OK + b"Content-Type: application/json; charset=utf-16\r\nContent-Length: 6\r\n\r\n\xff\xfe{\0}\0", {}),
    ],
)
async def test_an_odd_answer_that_can_be_read_is_read(answer: bytes, body: object) -> None:
    async with talking(answering(answer)) as url, calling(url) as caller:
        response = await caller.target.post(json={})
        assert response.status in (200, 204)
        assert response.json() in (body, {"a": 1})


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed the connection instead of answering"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "answered what is no HTTP"),
        (b"\x00\xff\x00\xff" * 100 + b"\r\n\r\n", "answered what is no HTTP"),
        (b"HTTP/1.1 2", "closed the connection|no HTTP|broke"),
    ],
)
async def test_an_answer_that_is_none_is_tried_again(answer: bytes, said: str) -> None:
    async with talking(answering(answer)) as url, calling(url) as caller:
        with pytest.raises(TargetRetry, match=said) as fault:
            await caller.target.post(json={})
    assert fault.value.kind is Kind.DOWN


async def test_a_success_with_a_body_of_rubbish_is_tried_again_by_who_reads_it() -> None:
    async with standing() as standin, calling(standin.url) as caller:

        async def rubbish(_: Seen) -> web.Response:
            return web.Response(body=b"<html>\xff")

        standin.answer = rubbish
        response = await caller.target.post(json={})
        with pytest.raises(TargetRetry, match="no JSON"):
            response.json()


async def test_a_refused_port_is_tried_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with calling(f"http://127.0.0.1:{unused.getsockname()[1]}") as caller:
            with pytest.raises(TargetRetry, match="cannot be reached: Connection refused") as fault:
                await caller.target.post(json={})
    assert fault.value.kind is Kind.DOWN


async def test_a_host_name_that_cannot_be_resolved_spends_no_attempt_and_opens_no_breaker() -> None:
    async with calling("http://hlr.invalid", BREAKER_FAILURES="1") as caller:
        for _ in range(3):
            with pytest.raises(TargetUnavailable, match=r"the host name hlr\.invalid cannot be resolved here") as error:
                await caller.target.post(json={})
            assert error.value.waits_for == "target"
        assert len(caller.held) == 1
        assert caller.target.state().breaker == "closed"
        await until(lambda: caller.releases > 1)


async def test_a_lack_of_file_descriptors_spends_no_attempt_and_opens_no_breaker() -> None:
    async with standing() as standin, calling(standin.url, BREAKER_FAILURES="1") as caller:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = [os.open(os.devnull, os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
        try:
            with pytest.raises(TargetUnavailable, match="no file descriptor is left to this process"):
                await caller.target.get()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(taken[0])
        assert "no file descriptor" in caller.held[0]
        assert (await caller.target.get()).status == 200
        assert not caller.held


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
        with pytest.raises(TargetRetry, match=r"answered 302: to http://127\.0\.0\.1"):
            await caller.target.post("/prov", json={})
        assert [seen.path for seen in standin.seen] == ["/prov"]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_makes_the_others_wait_too(status: int) -> None:
    async with standing() as standin, calling(standin.url) as caller:

        async def limited(_: Seen) -> web.Response:
            return web.Response(status=status, headers={"Retry-After": "86400"})

        standin.answer = limited
        for _ in range(2):
            with pytest.raises(TargetUnavailable, match=f"answered {status}") as fault:
                await caller.target.post(json={})
            assert fault.value.kind is (Kind.RATE_LIMITED if status == 429 else Kind.DOWN)
        assert len(standin.seen) == 1
        assert caller.seconds == 600


async def test_a_later_call_of_an_attempt_that_is_refused_for_now_spends_the_attempt() -> None:
    async with standing() as standin, calling(standin.url) as caller:

        async def second_is_limited(_: Seen) -> web.Response:
            return web.Response(status=200 if len(standin.seen) == 1 else 429, headers={"Retry-After": "7"})

        standin.answer = second_is_limited
        attempt.begin(event(), "")
        await caller.target.post(json={})
        with pytest.raises(TargetRetry, match="answered 429") as refused:
            await caller.target.post(json={}, step="second")
        assert refused.value.after == 7


async def test_a_redirect_says_where_it_leads_and_names_nobody() -> None:
    async with standing() as standin, calling(standin.url, BREAKER_FAILURES="3", BREAKER_COOL_DOWN="1h") as caller:

        async def moved(_: Seen) -> web.Response:
            return web.Response(
                status=301, headers={"Location": "https://u:p@login.example/sims/001010000000007?token=x"}
            )

        standin.answer = moved
        for _ in range(3):
            with pytest.raises(TargetRetry, match=r"answered 301: to https://login\.example/sims/\*\*\*$"):
                await caller.target.post(json={})
        with pytest.raises(TargetUnavailable):
            await caller.target.post(json={})


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
        with pytest.raises(TargetUnavailable):
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
            with pytest.raises(TargetRetry, match="may not accept our certificate, or ask for one"):
                await caller.target.get()


async def test_a_plain_http_port_behind_https_is_named(certificates: Certificates) -> None:
    async with standing() as standin, calling(standin.url.replace("http:", "https:")) as caller:
        with pytest.raises(TargetRetry, match=r"cannot be reached by TLS: .*the port may speak plain http"):
            await caller.target.get()


async def test_an_https_port_behind_http_is_named(certificates: Certificates) -> None:
    tls = server_side(certificates.make("server-2", _moment(-1), _moment(1)))
    async with standing(tls=tls) as standin, calling(standin.url.replace("https:", "http:")) as caller:
        with pytest.raises(TargetRetry, match=r"closed the connection|no HTTP|broke"):
            await caller.target.get()


@contextmanager
def handshaking(context: ssl.SSLContext) -> Iterator[str]:
    """The URL of a server that answers by TLS in a thread, and as most servers do says why a handshake fails."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            wrapped = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with wrapped, contextlib.suppress(OSError):
                try:
                    wrapped.do_handshake()
                except ssl.SSLError:
                    socket.socket.recv(wrapped, 65536)  # closing with something unread would take the alert back
                    wrapped.shutdown(socket.SHUT_WR)
                    while socket.socket.recv(wrapped, 65536):
                        pass
                    continue
                wrapped.recv(65536)
                wrapped.sendall(OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            thread.join()


async def test_a_target_that_misses_our_certificate_is_quoted(certificates: Certificates) -> None:
    tls = server_side(certificates.make("server-5", _moment(-1), _moment(1)), certificates.authority)
    with handshaking(tls) as url:
        async with calling(url, TARGET_CA_FILE=str(certificates.authority)) as caller:
            with pytest.raises(TargetRetry, match=r"certificate required \(TARGET_CERT_FILE\)"):
                await caller.target.post(json={})


async def test_a_certificate_that_was_renewed_is_shown_without_a_restart(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_files, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(aiohttp_inside, "MAX_CONNECTION_AGE", 0.0)
    tls = server_side(certificates.make("server-3", _moment(-1), _moment(1)), certificates.authority)
    old = certificates.make("old-client", _moment(-20), _moment(-10))
    new = certificates.make("new-client", _moment(-1), _moment(1))
    ours = tmp_path / "ours.pem", tmp_path / "ours.key"

    def install(pair: tuple[str, str]) -> None:
        for source, place in zip(pair, ours, strict=True):
            shutil.copy(source, place)

    install(old)
    named = {"TARGET_CERT_FILE": str(ours[0]), "TARGET_KEY_FILE": str(ours[1])}
    with handshaking(tls) as url:
        async with calling(url, TARGET_CA_FILE=str(certificates.authority), **named) as caller:
            with pytest.raises(TargetRetry, match="certificate expired"):
                await caller.target.get()
            ours[0].write_text("half of a certificate")
            with pytest.raises(TargetRetry, match="certificate expired"):
                await caller.target.get()
            install(new)
            assert (await caller.target.get()).status == 200


async def test_connections_by_tls_are_kept(certificates: Certificates) -> None:
    tls = server_side(certificates.make("server-4", _moment(-1), _moment(1)))
    async with (
        standing(tls=tls) as standin,
        calling(standin.url, TARGET_CA_FILE=str(certificates.authority)) as caller,
    ):
        for _ in range(5):
            assert (await caller.target.post(json={})).status == 200
        assert len(standin.peers) == 1
