"""Answers that quote what their request did not bring."""

from __future__ import annotations

from nsps_simulator.records import NO_EVENT
from nsps_simulator.wire.events import Events
from nsps_simulator.wire.leaks import Leaks
from nsps_simulator.wire.population import Population

EVENTS = Events(3, Population(3, 50))
OTHER = next(index for index in range(1, 50) if EVENTS.subscriber(index) != EVENTS.subscriber(0))


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 422 Unprocessable\r\nContent-Type: application/json\r\n\r\n" + body


def test_an_answer_may_quote_its_own_event_and_nothing_else() -> None:
    leaks = Leaks(EVENTS)
    own, other = EVENTS.body(0), EVENTS.body(OTHER)
    for quoted, index, found in ((own, 0, False), (other, 0, True), (own, NO_EVENT, True), (b"{}", NO_EVENT, False)):
        assert leaks.found(answer(b'{"error":' + quoted + b"}"), index) == found


def test_an_id_or_a_personal_field_alone_is_enough() -> None:
    leaks = Leaks(EVENTS)
    subscriber = EVENTS.subscriber(OTHER)
    for said in (
        EVENTS.event_id(OTHER),
        EVENTS.event_id(OTHER).upper(),
        b"subscriber-%d@example.invalid" % subscriber,
        b"IMSI 00101%010d" % (subscriber * 1000 + 1),
        b"ICCID 89999010%011d" % (subscriber * 1000 + 1),
    ):
        assert leaks.found(answer(b"not valid: " + said), 0), said


def test_a_foreign_id_is_no_leak() -> None:
    assert not Leaks(EVENTS).found(answer(b"request 3e84c79f-ab6f-4546-8e27-0b6ab866f1fb"), 0)
