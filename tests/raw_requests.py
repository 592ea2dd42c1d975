"""Requests as nobody should send them: heads, framing and bodies put together, damaged and cut off at random."""

import gzip
import json
import zlib
from random import Random
from typing import NamedTuple

from tests import events
from tests.mutation import mutate
from tests.wire import TOKEN

METHODS = ["POST", "POST", "POST", "POST", "GET", "PUT", "OPTIONS", "CONNECT", "TRACE", "post", "P\x00ST", "", "PRI"]
TARGETS = [
    *["/process-event"] * 8,
    *["/process-event/", "/health", "/ready", "/openapi.json", "/", "*", "", "//", "/%", "/%2e%2e/x", "/\x7f"],
    *["http://nsps.example", "http://nsps.example/process-event", "nsps.example:443", "/process-event?x=%zz#y"],
    *["/" + "x" * 9000, "http://[::1", "/ü", "/a b"],
]
VERSIONS = [*["HTTP/1.1"] * 8, "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.10", "http/1.1", "", "HTTP/1.1 more"]
HEADERS = [
    *["Host: a", "Host: a", "Host: a", "Host: a\r\nHost: b", "Expect: 100-continue", "Expect: a-miracle"],
    *["Connection: close", "Connection: keep-alive", "Connection: Upgrade\r\nUpgrade: h2c", "Upgrade: websocket"],
    *["Content-Encoding: gzip", "Content-Encoding: deflate", "Content-Encoding: br", "Content-Encoding: gzip, gzip"],
    *["Content-Type: text/plain", "x-b3-traceid: " + "t" * 300, "x-request-id: \x01", "X: " + "y" * 20_000, "X y"],
    *[" folded", ": no name", "X\x00: y", "X-Forwarded-For: , ,1.2.3.4", "\r\n"],
    *["Transfer-Encoding: gzip, chunked", "Transfer-Encoding: identity", "Content-Length: 5", "Trailer: X"],
    "\r\n".join(f"X{number}: y" for number in range(200)),
]


class Raw(NamedTuple):
    """What a client sends before its FIN."""

    data: bytes
    damaged: bool


def raw(chance: Random) -> Raw:
    """One to three requests on a connection, good or not."""
    data = b"".join(_request(chance) for _ in range(chance.choice([1, 1, 1, 2, 3])))
    what = chance.random()
    if what < 0.15:
        return Raw(mutate(data, chance), damaged=True)
    if what < 0.3:
        return Raw(data[: chance.randrange(len(data) + 1)], damaged=True)
    if what < 0.35:
        return Raw(chance.randbytes(chance.randrange(1, 2000)), damaged=True)
    return Raw(data, damaged=False)


def _request(chance: Random) -> bytes:
    good = chance.random() < 0.5
    method, target, version = (
        ("POST", "/process-event", "HTTP/1.1")
        if good
        else (chance.choice(METHODS), chance.choice(TARGETS), chance.choice(VERSIONS))
    )
    headers = ["Host: connector"] if good else chance.sample(HEADERS, chance.randrange(4))
    if good and chance.random() < 0.3:
        headers.append(chance.choice(HEADERS))
    if chance.random() < 0.9:  # a wrong token would wait for its answer
        headers.append(f"Authorization: Bearer {TOKEN}")
    framing, body = _framed(chance, _body(chance, headers))
    head = "\r\n".join([f"{method} {target} {version}", *headers, *framing, "", ""])
    return head.encode("utf-8", "surrogateescape") + body


def _body(chance: Random, headers: list[str]) -> bytes:
    event = events.minimal(event_id=f"raw-{chance.randrange(10**12)}")
    body = chance.choice(
        [
            json.dumps(event).encode(),
            json.dumps(event).encode(),
            json.dumps(events.full()).encode(),
            b"",
            b"\xef\xbb\xbf{}",
            b"[" * 5000,
            json.dumps(event).encode()[:-1],
            json.dumps(event | {"x": "y" * 70_000}).encode(),
        ]
    )
    if "Content-Encoding: gzip" in headers and chance.random() < 0.8:
        packed = gzip.compress(body)
        return packed[: chance.choice([len(packed), len(packed), len(packed) // 2])]
    if "Content-Encoding: deflate" in headers and chance.random() < 0.8:
        return zlib.compress(body)
    return body


def _framed(chance: Random, body: bytes) -> tuple[list[str], bytes]:
    what = chance.random()
    if what < 0.6:
        return [f"Content-Length: {len(body)}"], body
    if what < 0.7:
        wrong = chance.choice([len(body) + 1, max(0, len(body) - 1), 10**18, -1, "x", "1, 1", "+5", ""])
        return [f"Content-Length: {wrong}"], body
    if what < 0.75:
        return [], body
    size = chance.choice([1000, 70_000])
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    if what < 0.95:
        return ["Transfer-Encoding: chunked"], framed
    return ["Transfer-Encoding: chunked"], framed.replace(b"\r\n", chance.choice([b"\n", b"\r\nzz", b";x=\r\n"]), 1)


def answers(received: bytes) -> list[tuple[int, bytes]]:
    """The final answers in what came back: status and body. Raises ValueError where it is no sequence of answers."""
    found: list[tuple[int, bytes]] = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        if not end or not head.startswith(b"HTTP/1."):
            raise ValueError(f"no answer: {head[:200]!r}")
        status = int(head.split()[1])
        if status < 200:
            continue
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        length = int(fields.get(b"content-length", b"0"))
        if len(received) < length:
            raise ValueError(f"an answer is cut off: {head[:200]!r}")
        body, received = received[:length], received[length:]
        found.append((status, body))
    return found
