"""The process: from settings to an exit code. Signals, sockets and the order of a stop."""

from connector import process

if __name__ == "__main__":
    process.begin()  # before the imports that take long

import asyncio
import contextlib
import gc
import http.client
import os
import secrets
import signal
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from connector import log
from connector.app import Connector
from connector.errors import StartError
from connector.flood import flood
from connector.rotation import SecretFiles
from connector.settings import Settings, environment, only, warnings
from connector.web.server import HttpServer

EXIT_START: Final = 2
"""Exit code when the program could not start: a setting, a handler, the port, the journal."""

EXIT_LOST: Final = 1
"""Exit code when the journal, or a part of the connector, was lost: start again, and the journal is read again."""

SAME_SIGNAL: Final = 0.1
"""Seconds within which a further signal to stop counts as the first one."""

_log = log.get_logger()


def main() -> int:
    """Run a connector until a signal stops it; the exit code."""
    open_standard_descriptors()
    try:
        given = environment()
        settings = with_token(Settings.load(given))
        log.configure(settings.log_level)
        warn(warnings(settings, given))
        os.environ.update(given)  # a handler's own settings may stand in .env too
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return run_to_the_end(runner.get_loop(), serve(settings))
    except StartError as error:
        return report(error)


def run_to_the_end(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, int]) -> int:
    """What ``main`` returns or raises, whoever ends the loop under it.

    A callback or a timer of a handler may raise SystemExit or KeyboardInterrupt, or stop the loop: that is said, and
    the loop goes on. Signals to stop do not come this way: the loop has handlers of its own for them.
    """
    task = loop.create_task(main, name="main")
    while True:
        try:
            return loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            if task.done():
                raise
            _log.error(
                "Something that a handler left behind wanted to end the process; it goes on",
                action="handler.exit",
                reason=f"{type(error).__name__}: {error}".removesuffix(": "),
            )


def open_standard_descriptors() -> None:
    """Put ``/dev/null`` where stdin, stdout or stderr is closed: the next file or socket would take its number."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def report(error: StartError) -> int:
    """Tell the operator on stderr why there is no start, a line an error; the exit code."""
    print(*(f"cannot start: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
    return EXIT_START


def warn(lines: Iterable[str]) -> None:
    """Say what is probably a mistake where nobody can miss it: on stderr, and in the log."""
    for line in lines:
        print(f"WARNING: {line}", file=sys.stderr, flush=True)
        _log.warning(line, action="settings.warning")


def with_token(settings: Settings) -> Settings:
    """The settings, with a token made and printed to stderr where none is set: there is no well-known default."""
    if settings.api_token:
        return settings
    token = secrets.token_urlsafe(32)
    print(
        f"WARNING: API_TOKEN is not set. A token was made for this run only:\n  API_TOKEN={token}",
        file=sys.stderr,
        flush=True,
    )
    return replace(settings, api_token=(token,))


async def serve(settings: Settings) -> int:
    """Start, announce, wait for SIGTERM or SIGINT, stop in order; the exit code. Raises StartError."""
    loop = asyncio.get_running_loop()
    connector = Connector(settings)
    connector.targets.check_hooks()
    server = HttpServer(connector.app, settings)
    stop = _stop_signal(loop)
    secret_files = SecretFiles(os.environ, connector.take_secrets)
    if secret_files:
        loop.add_signal_handler(signal.SIGHUP, secret_files.read)
    is_new = settings.journal_path is not None and not settings.journal_path.exists()
    try:
        port = await server.start()
        secret_files.watch()
        _freeze()
        _announce(connector, port, is_new=is_new)
        lost = asyncio.ensure_future(connector.lost())
        with contextlib.suppress(asyncio.CancelledError):  # a handler has cancelled every task that there is
            await asyncio.wait({stop, lost}, return_when=asyncio.FIRST_COMPLETED)
        reason = _why(stop, lost)
        await _drain(connector, server, reason, lost)
    finally:
        secret_files.stop()
        await server.stop()
        flood.sum_up()
    _log.info("Stopped", action="server.stopped")
    code = 0 if stop.done() else EXIT_LOST
    if connector.workers.stuck:
        log.writer.flush()
        os._exit(code)
    return code


def _why(stop: asyncio.Future[str], lost: asyncio.Future[str]) -> str:
    if stop.done():
        return stop.result()
    return lost.result() if lost.done() and not lost.cancelled() else "the main task was cancelled"


def _freeze() -> None:
    """Leave what the start has made to no garbage collection, and collect rarely from now on."""
    gc.collect()
    gc.freeze()
    process.collect_rarely()


def _announce(connector: Connector, port: int, *, is_new: bool) -> None:
    """Say where the connector listens and what it starts with; ``is_new``: the journal's file was made just now."""
    settings, path = connector.settings, connector.settings.journal_path
    _log.info(
        f"Listening on {settings.host}:{port}",
        action="server.started",
        host=settings.host,
        port=port,
        path=settings.event_path,
        journal=settings.journal_url,
        journal_is_new=is_new,
        journal_bytes=path.stat().st_size if path is not None else 0,
        handlers=connector.handlers.types,
    )
    if path is not None and (kind := ephemeral(path)):
        _log.warning(
            f"The journal {path} lies on {kind}, which does not last: mount a volume there",
            action="journal.ephemeral",
            path=str(path),
            file_system=kind,
        )


async def _drain(connector: Connector, server: HttpServer, reason: str, lost: asyncio.Future[str]) -> None:
    """Stop in order: not ready, no new connection, no new event, and what runs ends; ``lost`` cuts the delay short."""
    _log.info(f"Stopping: {reason}", action="server.draining", reason=reason)
    connector.leave()
    server.leave()
    if connector.settings.drain_delay:
        await asyncio.wait({lost}, timeout=connector.settings.drain_delay)
    lost.cancel()
    connector.stop_accepting()
    server.close()
    await connector.drain()


def _stop_signal(loop: asyncio.AbstractEventLoop) -> asyncio.Future[str]:
    """The name of the first SIGTERM, SIGINT or SIGHUP; a second one ends the process at once.

    What comes within ``SAME_SIGNAL`` of the first is the same: some supervisors signal the process and then its group.
    """
    stop: asyncio.Future[str] = loop.create_future()
    first_at = 0.0

    def first_or_second(number: signal.Signals) -> None:
        nonlocal first_at
        if not stop.done():
            first_at = loop.time()
            stop.set_result(number.name)
            return
        if loop.time() - first_at < SAME_SIGNAL:
            return
        _log.warning(f"Second {number.name}: ending at once", action="server.killed")
        log.writer.flush(SAME_SIGNAL)
        os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup has it ignored
            loop.add_signal_handler(number, first_or_second, number)
    return stop


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def health_check() -> int:
    """Ask ``GET /health`` where the settings say that the connector listens; 0 if it lives, else 1."""
    try:
        settings = Settings.load(only(environment(), "HOST", "PORT", "TLS_"))
    except StartError as error:
        return report(error)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared only
    try:
        # Not urllib: a container's HTTP_PROXY must not come between it and itself. The certificate names another host.
        connection = (
            http.client.HTTPSConnection(host, settings.port, timeout=4, context=ssl._create_unverified_context())  # noqa: S323
            if settings.tls_cert_file
            else http.client.HTTPConnection(host, settings.port, timeout=4)
        )
        connection.request("GET", "/health")
        return int(connection.getresponse().status != http.HTTPStatus.OK)
    except OSError as error:
        print(f"{host}:{settings.port} does not answer: {error}", file=sys.stderr)
        return EXIT_LOST


def ephemeral(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str | None:
    """The kind of file system that ``path`` lies on, if it ends with its container or machine; None otherwise."""
    try:
        lines = [line.split() for line in mounts.read_text(errors="surrogateescape").splitlines()]
    except OSError:
        return None  # no Linux
    above = {str(each) for each in [path, *path.parents]}
    found = [(point, kind) for _, point, kind, *_ in lines if point in above]
    _, kind = max(found, key=lambda each: len(each[0]), default=("", ""))
    return kind if kind in {"tmpfs", "ramfs", "overlay"} else None


if __name__ == "__main__":
    sys.exit(main())
