"""Bodies that cost more than they should, or never come whole."""

import asyncio
import gzip
import zlib

import pytest

from connector.web import bodies as bodies_module
from connector.web.bodies import MAX_MEMBERS
from tests import events
from tests.conftest import Lines, Reported
from tests.serving import serving
from tests.wire import ask, connect, post

BODY = events.encode(events.minimal())
BOMB = gzip.compress(bytes(50 * 2**20))


@pytest.fixture
def inflaters(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was made to inflate bodies."""
    made: list[object] = []
    make = zlib.decompressobj

    def note(bits: int) -> object:
        made.append(make(bits))
        return made[-1]

    monkeypatch.setattr(zlib, "decompressobj", note)
    return made


async def test_a_bomb_without_a_good_token_is_not_inflated(inflaters: list[object]) -> None:
    async with serving() as (_, port):
        answer = await ask(port, post(BOMB, "Content-Encoding: gzip", token="wrong"))
    assert answer.status == 401
    assert inflaters == []


async def test_a_bomb_with_a_good_token_is_inflated_to_the_limit_and_no_further(inflaters: list[object]) -> None:
    async with serving(MAX_BODY_BYTES="100k") as (_, port):
        assert (await ask(port, post(BOMB, "Content-Encoding: gzip"))).status == 413
    assert len(inflaters) == 1


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "deflate"])
async def test_every_name_of_an_encoding_is_taken(encoding: str) -> None:
    body = zlib.compress(BODY) if encoding == "deflate" else gzip.compress(BODY)
    async with serving() as (_, port):
        assert (await ask(port, post(body, f"Content-Encoding: {encoding}"))).status == 202


async def test_deflate_without_the_head_of_zlib_is_taken() -> None:
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    async with serving() as (_, port):
        answer = await ask(port, post(raw.compress(BODY) + raw.flush(), "Content-Encoding: deflate"))
    assert answer.status == 202


async def test_gzip_in_several_members_is_read_whole() -> None:
    body = gzip.compress(BODY[:20]) + gzip.compress(b"") + gzip.compress(BODY[20:])
    async with serving() as (_, port):
        assert (await ask(port, post(body, "Content-Encoding: gzip"))).status == 202


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)[:-4], "cut short"),
        ("gzip", gzip.compress(BODY, mtime=0)[:12], "cut short"),
        ("gzip", b"", "cut short"),
        ("deflate", zlib.compress(BODY)[:-1], "cut short"),
        ("gzip", gzip.compress(BODY, mtime=0) + b"more", "not gzip"),
        ("deflate", zlib.compress(BODY) + b"more", "follow the end"),
        ("gzip", gzip.compress(b"", mtime=0) * (MAX_MEMBERS + 1), "members"),
        ("gzip", BODY, "not gzip"),
    ],
)
async def test_a_compressed_body_that_is_damaged_is_refused_with_what_is_wrong(
    encoding: str, body: bytes, text: str
) -> None:
    async with serving() as (_, port):
        answer = await ask(port, post(body, f"Content-Encoding: {encoding}"))
    assert answer.status == 400
    assert text in answer.json()["error"]


@pytest.mark.parametrize("how", ["length", "chunks"])
async def test_a_body_that_ends_too_early_is_said_with_how_many_of_how_many_bytes(how: str, log_lines: Lines) -> None:
    async with serving() as (_, port), connect(port) as wire:
        if how == "length":
            await wire.send(post(b"{", "x-b3-traceid: b3", length=100))
        else:
            await wire.send(post(b"", "x-b3-traceid: b3", "Transfer-Encoding: chunked", length=-1) + b"5\r\n{")
        wire.send_eof()
        answer = await wire.answer()
        assert (answer.status, answer.json()["type"]) == (400, "VALIDATION_ERROR")
        assert "1 bytes" in answer.json()["error"]
        assert await wire.rest() == b""
    (line,) = [line for line in log_lines() if line["action"] == "request.broken_off"]
    assert (line["received"], line["expected"]) == (1, 100 if how == "length" else None)
    assert (line["request_id"], line["remote"]) == ("b3", "127.0.0.1")


async def test_a_client_that_goes_in_its_body_is_said(reported: Reported) -> None:
    async with serving() as (_, port):
        async with connect(port) as wire:
            await wire.send(post(b'{"data":', length=1000))
            await asyncio.sleep(0)
            assert (await ask(port, post(method="GET", path="/health", token=None))).status == 200
            wire.reset()
        (line,) = await reported("request.broken_off")
    assert (line["received"], line["expected"]) == (8, 1000)


async def test_large_bodies_wait_for_the_room_that_others_take() -> None:
    large = BODY + b" " * 60_000
    async with serving(MAX_BODY_BYTES="100k", BODIES_BYTES="100k") as (_, port), connect(port) as first:
        await first.send(post(large[:-1], length=len(large)))
        assert (await ask(port, post(BODY))).status == 202  # a small one finds its room
        async with connect(port) as second:
            await second.send(post(large[:50_000], length=len(large)))
            assert (await ask(port, post(BODY))).status == 202
            await first.send(large[-1:])
            assert (await first.answer()).status == 202
            await second.send(large[50_000:])
            assert (await second.answer()).status == 202


async def test_who_finds_no_room_in_time_is_sent_away_and_not_taken_for_slow() -> None:
    large = BODY + b" " * 90_000
    async with serving(MAX_BODY_BYTES="100k", BODIES_BYTES="100k", BODY_TIMEOUT="200ms") as (connector, port):
        room = connector.accept._bodies._room
        await room.enter(90_000)
        answer = await ask(port, post(large[:-1], length=len(large)))
        assert answer.status == 429
        assert answer.headers["Retry-After"]
        room.leave(90_000)
        assert (await ask(port, post(large))).status == 202


async def test_no_room_is_lost_by_whatever_is_refused_or_broken_off() -> None:
    async with serving(MAX_BODY_BYTES="100k", BODY_TIMEOUT="50ms") as (connector, port):
        for request in (
            post(b"{}"),
            post(b"no json"),
            post(BOMB[:90_000], "Content-Encoding: gzip"),
            post(gzip.compress(BODY), "Content-Encoding: gzip"),
            post(BODY[:-1], length=len(BODY)),
            post(b"", "Transfer-Encoding: chunked", length=-1) + b"zz\r\n",
            post(BODY),
        ):
            await ask(port, request)
        async with connect(port) as wire:
            await wire.send(post(b"{", length=100))
            wire.send_eof()
            await wire.answer()
        assert connector.accept._bodies._room.used == 0


async def test_a_room_is_given_in_the_order_of_arrival_and_not_lost_by_who_gives_up() -> None:
    room = bodies_module._Room(10)
    await room.enter(8)
    first = asyncio.ensure_future(room.enter(5))
    second = asyncio.ensure_future(room.enter(1))
    await asyncio.sleep(0)
    assert not first.done()
    assert not second.done()  # though it would fit
    first.cancel()
    await asyncio.wait({first, second})
    assert room.used == 9
    room.leave(8)
    room.leave(1)
    assert room.used == 0


async def test_a_body_larger_than_the_whole_room_is_still_taken_alone() -> None:
    room = bodies_module._Room(10)
    await room.enter(20)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await room.enter(1)
    room.leave(20)
    await room.enter(1)
