"""The stand-in external system, spoken to by a real HTTP client."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientConnectionError, ClientError, ClientSession, ClientTimeout

from nsps_simulator.records import APPLIED, DELIVERY, NO_EVENT, REFUSED, UNANSWERED, Body, Delivery, Writer, deliveries
from nsps_simulator.target import CHEERFUL, DOWN, WRONG, Mood, Recorder, Target, Trouble
from nsps_simulator.wire.bodies import Bodies
from nsps_simulator.wire.events import Events
from nsps_simulator.wire.population import Population

EVENTS = Events(1, Population(1, 100))


class Stand:
    """A running target."""

    def __init__(self, url: str, session: ClientSession, path: Path, target: Target) -> None:
        self.url = url
        self.session = session
        self.target = target
        self._path = path

    async def post(self, index: int, key: str | None = None, **more: object) -> int:
        """Deliver an event; give the status."""
        headers = {"Idempotency-Key": EVENTS.event_id(index).decode() if key is None else key}
        arguments = {"data": EVENTS.body(index), "headers": headers, **more}
        async with self.session.post(self.url, **arguments) as answer:  # type: ignore[arg-type]  # as the test says
            return answer.status

    def records(self) -> list[Delivery]:
        """What it noted; complete after the end."""
        return list(deliveries(self._path))


@asynccontextmanager
async def standing(path: Path, mood: Mood = CHEERFUL) -> AsyncIterator[Stand]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    began = time.monotonic()
    writer = Writer(path, DELIVERY)
    recorder = Recorder(EVENTS, Bodies(EVENTS), writer, path.with_name("notes"))
    target = Target(1, mood, recorder, lambda: time.monotonic() - began)
    serving = asyncio.create_task(target.serve(listener))
    async with ClientSession(timeout=ClientTimeout(total=5)) as session:
        yield Stand(f"http://127.0.0.1:{port}/hlr", session, path, target)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    writer.close()


async def test_it_notes_which_event_it_was_told_and_when(tmp_path: Path) -> None:
    async with standing(tmp_path / "file") as stand:
        before = time.monotonic()
        assert [await stand.post(index) for index in (3, 1, 3)] == [200, 200, 200]
    records = stand.records()
    assert [(record.event, record.outcome, record.body) for record in records] == [
        (3, APPLIED, Body.SAME),
        (1, APPLIED, Body.SAME),
        (3, APPLIED, Body.SAME),
    ]
    assert before < records[0].arrived <= records[0].ended < records[1].arrived


async def test_the_key_may_be_quoted_in_capitals_or_missing(tmp_path: Path) -> None:
    key = EVENTS.event_id(5).decode()
    async with standing(tmp_path / "file") as stand:
        for variant in (f'"{key}"', key.upper(), ""):
            await stand.post(5, variant)
    assert [record.event for record in stand.records()] == [5, 5, 5]


async def test_a_body_that_is_another_events_is_noted(tmp_path: Path) -> None:
    async with standing(tmp_path / "file") as stand:
        await stand.post(5, EVENTS.event_id(6).decode())
        await stand.post(5, data=b'{"imsi": "of the connector itself"}')
    assert [(record.event, record.body) for record in stand.records()] == [(6, Body.MIXED_UP), (5, Body.ALTERED)]
    assert "event_id is another event's" in (tmp_path / "notes").read_text()


async def test_a_key_that_is_not_the_event_id_leaves_the_event_to_be_found_elsewhere(tmp_path: Path) -> None:
    event_id = EVENTS.event_id(5).decode()
    async with standing(tmp_path / "file") as stand:
        await stand.post(5, "0f" * 16)
        headers = {"Idempotency-Key": "0f" * 16, "x-event-id": event_id}
        await stand.post(5, headers=headers, data=b'{"a": 1}')
        await stand.post(5, "0f" * 16, data=f'{{"subject": {{"id": "{event_id}"}}}}'.encode())
    assert [record.event for record in stand.records()] == [5, 5, 5]


async def test_an_event_of_nobody_is_noted_as_such(tmp_path: Path) -> None:
    async with standing(tmp_path / "file") as stand:
        assert await stand.post(5, "nonsense", data=b"{}") == 200
        assert await stand.post(5, "", data=b"nonsense") == 200
    assert [record.event for record in stand.records()] == [NO_EVENT, NO_EVENT]


async def test_a_chunked_body_is_read(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        body = EVENTS.body(5)
        for at in range(0, len(body), 100):
            yield body[at : at + 100]

    async with standing(tmp_path / "file") as stand:
        assert await stand.post(5, "", data=pieces()) == 200
        assert await stand.post(6) == 200
    assert [record.event for record in stand.records()] == [5, 6]


async def test_a_client_that_waits_for_100_continue_gets_it(tmp_path: Path) -> None:
    async with standing(tmp_path / "file") as stand:
        assert await stand.post(5, expect100=True) == 200
    assert [record.event for record in stand.records()] == [5]


async def test_a_flaky_target_refuses_and_applies_nothing(tmp_path: Path) -> None:
    async with standing(tmp_path / "file", Mood(flaky=1.0)) as stand:
        assert await stand.post(5) == 503
    assert [record.outcome for record in stand.records()] == [REFUSED]


async def test_a_flaky_target_is_well_again_when_the_load_has_ended(tmp_path: Path) -> None:
    async with standing(tmp_path / "file", Mood(flaky=1.0, heals=0.0)) as stand:
        assert await stand.post(5) == 200


async def test_a_target_that_answers_wrongly_has_applied_the_event(tmp_path: Path) -> None:
    async with standing(tmp_path / "file", Mood(troubles=(Trouble(WRONG, 0, 99, 1.0),))) as stand:
        with pytest.raises(ClientError):
            await stand.post(5)
    assert [(record.event, record.outcome) for record in stand.records()] == [(5, UNANSWERED)]


async def test_a_caller_that_leaves_has_told_it_all_the_same(tmp_path: Path) -> None:
    async with standing(tmp_path / "file", Mood(latency=30.0)) as stand:
        with pytest.raises(TimeoutError):
            await stand.post(5, timeout=ClientTimeout(total=0.2))
    assert [(record.event, record.outcome) for record in stand.records()] == [(5, UNANSWERED)]


async def test_nobody_listens_while_it_is_down_and_it_comes_back(tmp_path: Path) -> None:
    async with standing(tmp_path / "file", Mood(troubles=(Trouble(DOWN, 0.2, 0.5),))) as stand:
        assert await stand.post(1) == 200
        refused = answered = False
        while not answered:
            try:
                answered = await stand.post(2) == 200 and refused
            except ClientConnectionError:
                refused = True
            await asyncio.sleep(0.01)
    assert {record.event for record in stand.records()} == {1, 2}


async def test_a_rate_limit_spaces_the_answers(tmp_path: Path) -> None:
    async with standing(tmp_path / "file", Mood(rate=50)) as stand:
        await asyncio.gather(*(stand.post(index) for index in range(10)))
    ends = sorted(record.ended for record in stand.records())
    assert ends[-1] - ends[0] > 9 / 50 - 0.02


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nContent-Length: much\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"x" * 70_000,
    ],
)
async def test_nonsense_is_refused_and_the_connection_closed(tmp_path: Path, request_bytes: bytes) -> None:
    async with standing(tmp_path / "file") as stand:
        host, port = stand.url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_bytes)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()
    assert stand.records() == []
