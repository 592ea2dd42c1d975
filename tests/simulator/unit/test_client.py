"""The lean client: where an answer ends, however it is cut into pieces."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from nsps_simulator.records import NO_ANSWER
from nsps_simulator.wire.client import Connection


class Wire(asyncio.Transport):
    """Stands in for a socket, since a real one does not let a test say where the bytes are cut."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: object) -> None:
        self.written = data

    def abort(self) -> None:
        self.aborted = True


class Talk:
    """A connection with a request under way."""

    def __init__(self) -> None:
        self.ends: list[tuple[int, bool]] = []
        self.lost = 0
        self.connection = Connection(lambda one, status: self.ends.append((status, one.open)), self._count)
        self.wire = Wire()
        self.connection.connection_made(cast("asyncio.BaseTransport", self.wire))
        self.connection.send(b"request")

    def _count(self, _: Connection) -> None:
        self.lost += 1


COMPLETE = [
    (b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhello", 202, True),
    (b"HTTP/1.1 202 Accepted\r\ncontent-length:5\r\n\r\nhello", 202, True),
    (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True),
    (b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 429, False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, False),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n", 200, True),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0\r\n\r\n56789\r\n0\r\nTrailer: x\r\n\r\n", 200, True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Away\r\nContent-Length: 1\r\n\r\nx", 503, True),
]


@pytest.mark.parametrize(("answer", "status", "stays"), COMPLETE)
def test_an_answer_ends_where_it_should_wherever_it_is_cut(answer: bytes, status: int, stays: bool) -> None:
    for cut in range(len(answer)):
        talk = Talk()
        if cut:
            talk.connection.data_received(answer[:cut])
            assert not talk.ends, f"ended after {answer[:cut]!r}"
        talk.connection.data_received(answer[cut:])
        assert talk.ends == [(status, stays)], f"cut at {cut}"


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    talk = Talk()
    talk.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nsome of it")
    assert not talk.ends
    talk.connection.connection_lost(None)
    assert talk.ends == [(200, False)]


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-something\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: much\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_nonsense_breaks_the_connection_off(answer: bytes) -> None:
    talk = Talk()
    talk.connection.data_received(answer)
    assert talk.wire.aborted
    talk.connection.connection_lost(None)
    assert talk.ends == [(NO_ANSWER, False)]


@pytest.mark.parametrize(
    "partial", [b"", b"HTTP/1.1 202 Acc", b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\nhel"]
)
def test_a_lost_connection_is_no_answer(partial: bytes) -> None:
    talk = Talk()
    if partial:
        talk.connection.data_received(partial)
    talk.connection.connection_lost(ConnectionResetError())
    assert talk.ends == [(NO_ANSWER, False)]


def test_a_connection_lost_while_idle_ends_no_request() -> None:
    talk = Talk()
    talk.connection.data_received(b"HTTP/1.1 204 Done\r\n\r\n")
    talk.connection.connection_lost(None)
    assert talk.ends == [(204, True)]
    assert talk.lost == 1


def test_bytes_nobody_asked_for_break_an_idle_connection_off() -> None:
    talk = Talk()
    talk.connection.data_received(b"HTTP/1.1 204 Done\r\n\r\n")
    talk.connection.data_received(b"HTTP/1.1 408 Too slow\r\nContent-Length: 0\r\n\r\n")
    assert talk.wire.aborted
    assert len(talk.ends) == 1
