"""Questions to a connector beside the load: whether it is there and wants us, and how many events are open."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

import orjson

from nsps_simulator.wire.endpoint import Endpoint, Tls

WITHIN = 5.0  # seconds for an answer
ANSWER_LIMIT = 1 << 20  # bytes


class Unreachable(Exception):  # a sentence, as the user reads it
    """The connector does not answer, or does not want this sender."""


async def check_endpoint(endpoint: Endpoint, tls: Tls) -> None:
    """See that somebody speaks HTTP there who knows the path and the token.

    It sends `{}`, which is no event, so nothing comes of it. Raises Unreachable that names the cause.
    """
    status = await _probe(endpoint, tls)
    match status:
        case 401 | 403:
            raise Unreachable(
                f"{endpoint.url} answers {status}: the token is not the one it wants (--token, API_TOKEN)"
            )
        case 404:
            raise Unreachable(f"{endpoint.url} answers 404: it has no such path; name the right one in --url")
        case 405 | 501:
            raise Unreachable(f"{endpoint.url} answers {status}: it takes no POST there; name the right path in --url")


async def takes_connections(endpoint: Endpoint) -> bool:
    """Whether somebody listens there."""
    try:
        async with asyncio.timeout(WITHIN):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _probe(endpoint: Endpoint, tls: Tls) -> int:
    try:
        async with asyncio.timeout(WITHIN):
            context = tls.context() if endpoint.tls else None
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
            try:
                writer.write(
                    b"POST %b HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
                    % (endpoint.path.encode(), endpoint.host_header, endpoint.token.encode())
                )
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        raise Unreachable(f"no answer from {endpoint.url} within {WITHIN:g} s (timeout)") from None
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(
            f"the certificate of {endpoint.url} is not trusted ({error.verify_message}): name its authority with --ca, "
            "or check nothing with --insecure"
        ) from error
    except ssl.SSLError as error:
        raise Unreachable(f"{endpoint.url} does not speak TLS ({error.reason}): is it http://?") from error
    except socket.gaierror as error:
        raise Unreachable(f"the name {endpoint.host} is not known ({error.strerror})") from error
    except OSError as error:
        raise Unreachable(f"nothing listens at {endpoint.url} ({error.strerror or error})") from error
    parts = line.split()
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise Unreachable(f"what listens at {endpoint.url} does not speak HTTP/1.1: is it https://?")
    return int(parts[1])


async def ask_open(question: str) -> int | None:
    """Ask how many accepted events are open: by an http:// address, or by a command that prints it.

    The answer is a number, or JSON in which `open` is a number, a list, or an object of numbers. None when there is
    no such answer.
    """
    with contextlib.suppress(OSError, TimeoutError, ValueError, KeyError, TypeError):
        async with asyncio.timeout(WITHIN):
            text = await (_fetch(question) if question.startswith("http://") else _run(question))
        return _count(orjson.loads(text))
    return None


def _count(said: Any) -> int:
    match said:
        case bool():
            raise TypeError("a truth is no number")
        case int():
            return said
        case list():
            return len(said)
        case {"open": found}:
            return _count(found) if not isinstance(found, dict) else sum(int(one) for one in found.values())
        case _:
            raise TypeError("no number of open events")


async def _fetch(url: str) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        answer = await reader.read(ANSWER_LIMIT)
    finally:
        writer.close()
    return answer.partition(b"\r\n\r\n")[2]


async def _run(command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        printed, _ = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    return printed
