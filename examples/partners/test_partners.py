"""The tests that an author writes: with ``connector.testing`` alone, without a socket, and nothing waits."""

import asyncio
from typing import Any

import pytest

from connector.testing import StandIn, Trial, example, no_answer, reply, using
from examples.partners import chat, crm, pcrf

OAUTH = {
    "TARGET_AUTH": "oauth2", "TARGET_TOKEN_URL": "http://login.example/token",
    "TARGET_CLIENT_ID": "nsps", "TARGET_CLIENT_SECRET": "secret-of-the-crm",
}  # fmt: skip


def the_crm(*answers: Any) -> StandIn:
    """A CRM that gives a token and then these answers."""
    return StandIn(*answers, name="crm", **OAUTH).answer(
        reply(json={"access_token": "t1", "token_type": "Bearer", "expires_in": 3600}), path="/token"
    )


def soap(code: str, text: str = "") -> Any:
    """An answer of the PCRF: always 200."""
    return reply(
        text='<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
        f'<r xmlns="urn:example:pcrf"><resultCode>{code}</resultCode><resultText>{text}</resultText></r>'
        "</e:Body></e:Envelope>"
    )


def test_a_notice_waits_as_long_as_the_chat_asks_and_is_said_once() -> None:
    room, trial = StandIn(reply(429, headers={"Retry-After": "90"}), 503, 200), Trial(chat.notice)
    with using(chat=room):
        assert asyncio.run(trial.deliver(example("Account/Blocked"))).state == "done"
    assert [outcome.state for outcome in trial.attempts] == ["waiting", "waiting", "done"]
    assert [call.json for call in room.calls] == [{"text": "Account 1001 is blocked"}] * 3
    assert len({call.headers["Idempotency-Key"] for call in room.calls}) == 1


@pytest.mark.parametrize(
    ("answers", "said", "calls"),
    [
        ([200], "Updated", ["PATCH /contacts/porta-1001"]),
        ([404, 201], "Created", ["PATCH /contacts/porta-1001", "POST /contacts"]),
        (
            [404, reply(409, json={"id": 7}), 200],
            "Updated contact 7, which was there without our key",
            ["PATCH /contacts/porta-1001", "POST /contacts", "PATCH /contacts/7"],
        ),
    ],
)
def test_a_contact_is_updated_or_created(answers: list[Any], said: str, calls: list[str]) -> None:
    there = the_crm(*answers)
    with using(crm=there):
        assert asyncio.run(Trial(crm.contact).deliver(example("Account/New"))).reason == said
    assert [f"{call.method} {call.path}" for call in there.calls[1:]] == calls
    assert {call.headers["Authorization"] for call in there.calls[1:]} == {"Bearer t1"}


def test_an_older_state_never_reaches_the_crm_after_a_newer_one() -> None:
    there, trial = the_crm(no_answer(), 500, 200), Trial(crm.contact)
    new, old = (
        example("Account/Blocked", {"event_id": day, "updated_at": f"2026-01-{day}T00:00:00Z"}) for day in ("02", "01")
    )
    with using(crm=there):
        assert [asyncio.run(trial.deliver(event)).state for event in (new, old)] == ["done", "superseded"]
    assert len(there.calls) == 4


def test_what_stands_in_a_200_of_the_pcrf_decides() -> None:
    there, trial = (
        StandIn(soap("5001", "overloaded"), soap("0"), soap("5030", "no such user"), name="pcrf"),
        Trial(pcrf.policy),
    )
    with using(pcrf=there):
        for card in ("1", "2"):
            asyncio.run(trial.deliver(example("SIM/Updated", {"event_id": card, "pb_data.sim_info.i_sim_card": card})))
    assert [outcome.state for outcome in trial.attempts] == ["waiting", "done", "dead"]
    assert trial.attempts[2].reason == "pcrf answered 200: no such user"
    assert b"001010000000001</" in there.calls[0].body


def test_the_retry_of_an_event_for_two_systems_goes_on_with_the_one_that_failed() -> None:
    room, there = StandIn(), the_crm(503, 200)
    with using(chat=room, crm=there):
        assert asyncio.run(Trial(chat.notice, crm.contact).deliver(example("Account/Blocked"))).state == "done"
    assert (len(room.calls), len(there.calls)) == (1, 3)
