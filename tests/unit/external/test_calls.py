"""What an author writes, and what becomes of it: with a stand-in, that is all of the client but its sockets."""

import asyncio
import json
import threading
from typing import Any
from urllib.parse import parse_qsl
from xml.etree.ElementTree import Element

import pytest

from connector import external
from connector.errors import StartError
from connector.external import (
    Kind,
    TargetDead,
    TargetIgnored,
    TargetMistake,
    TargetResponse,
    TargetRetry,
    TargetUnavailable,
    Verdict,
    attempt,
    from_thread,
    on_response,
    target,
    using,
)
from connector.external.stand_in import StandIn, no_answer, reply
from connector.settings import Settings
from tests.conftest import Lines
from tests.unit.external.events import event

pytestmark = pytest.mark.usefixtures("own_hooks")


async def test_each_form_of_a_body_has_its_content_type() -> None:
    there = StandIn()
    soap = Element("a")
    soap.text = "\N{LATIN SMALL LETTER U WITH DIAERESIS}<"
    await there.post(json={"a": 1})
    await there.post(form={"a": "b c", "d": 1})
    await there.post(xml=soap)
    await there.post(xml="<a/>")
    await there.post(text="plain")
    await there.post(data=b"\x00\xff", headers={"Content-Type": "application/octet-stream"})
    sent = [(call.headers["Content-Type"], call.body) for call in there.calls]
    assert sent == [
        ("application/json", b'{"a":1}'),
        ("application/x-www-form-urlencoded", b"a=b+c&d=1"),
        (
            "application/xml; charset=utf-8",
            b"<?xml version='1.0' encoding='utf-8'?>\n<a>\xc3\xbc&lt;</a>",
        ),
        ("application/xml; charset=utf-8", b"<a/>"),
        ("text/plain; charset=utf-8", b"plain"),
        ("application/octet-stream", b"\x00\xff"),
    ]


async def test_files_go_out_as_a_multipart() -> None:
    there = StandIn()
    await there.post(files={"log": ("a.txt", b"text", "text/plain"), "raw": b"\x00"}, form={"name": "x"})
    (call,) = there.calls
    assert call.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    for part in (b'name="log"; filename="a.txt"', b"text/plain", b'name="raw"', b'name="name"', b"\x00"):
        assert part in call.body


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tiemout": 3}, "no option tiemout="),
        ({"timeout": "3"}, "timeout='3'"),
        ({"timeout": 0}, "timeout=0"),
        ({"json": {}, "form": {}}, "one body, not json= and form="),
        ({"json": object()}, "cannot be sent"),
        ({"json": {"a": {1j}}}, "cannot be sent"),
        ({"data": {"a": 1}}, "data= expects bytes"),
        ({"data": "text"}, "data= expects bytes"),
        ({"text": b"x"}, "text= expects a text"),
        ({"xml": 5}, "xml= expects"),
        ({"form": "a=b"}, "form= expects"),
        ({"files": {"a": 5}}, "files= expects"),
        ({"headers": {"X": 5}}, "the header 'X' cannot be sent"),
        ({"headers": {"X": "a\r\nY: b"}}, "the header 'X' cannot be sent"),
        ({"headers": {"X Y": "a"}}, "the header 'X Y' cannot be sent"),
        ({"outcomes": {409: "Retry"}}, "outcomes={409: 'Retry'}"),
        ({"outcomes": {"409": "retry"}}, "outcomes={'409': 'retry'}"),
        ({"outcomes": {409: "dead "}}, "outcomes={409: 'dead '}"),
        ({"path": "sims"}, "begins with / or ?"),
        ({"path": "/sims/{imsi}"}, "has no value for imsi"),
        ({"path": "/sims/../admin"}, "leads to another folder"),
        ({"path": "/sims/{imsi}", "values": {"imsi": "../x"}}, "the value for imsi"),
        ({"path": 5}, ""),
        ({"values": 5}, ""),
    ],
)
async def test_a_mistake_in_a_call_is_dead_at_once_with_file_and_line(options: dict[str, Any], said: str) -> None:
    there = StandIn()
    with pytest.raises(TargetMistake) as mistake:
        await there.post(**options)
    assert said in str(mistake.value)
    assert "(test_calls.py, line " in str(mistake.value)
    assert there.calls == []


async def test_an_answer_is_read_as_text_bytes_json_or_xml() -> None:
    there = StandIn(reply(json={"a": 1}), reply(text="<a><b>1</b></a>"), reply(body=b"\x00"))
    assert (await there.get()).json() == {"a": 1}
    xml = await there.get()
    assert (xml.text(), xml.xml().findtext("b")) == ("<a><b>1</b></a>", "1")
    assert (await there.get()).body == b"\x00"


BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><a>&b;</a>"""
FILE = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><a>&f;</a>"""


@pytest.mark.parametrize("text", [BOMB, FILE, "<a>", "", "no xml", "<!DOCTYPE a><a/>"])
async def test_xml_that_harms_or_is_none_is_refused(text: str) -> None:
    response = await StandIn(reply(text=text)).get()
    with pytest.raises(TargetRetry, match="XML"):
        response.xml()


async def test_the_answer_of_a_failed_call_is_at_hand() -> None:
    there = StandIn(reply(409, json={"id": 7}))
    with pytest.raises(TargetDead) as dead:
        await there.post(json={})
    assert dead.value.response is not None
    assert (dead.value.status, dead.value.response.json()) == (409, {"id": 7})
    assert (await there.post(json={}, outcomes={409: "done"})).json() == {"id": 7}
    with pytest.raises(TargetIgnored):
        await there.post(json={}, outcomes={409: "ignored"})


async def test_a_hook_turns_a_success_into_an_error_that_the_breaker_knows() -> None:
    @on_response("crm")
    def error_inside(response: TargetResponse) -> Verdict | None:
        error = response.json().get("error")
        return Verdict("retry" if error == "busy" else "dead", error, counts=error == "busy") if error else None

    there = StandIn(
        reply(json={"error": "busy"}),
        reply(json={"error": "no such tariff"}),
        reply(json={"ok": 1}),
        reply(json={"error": "busy"}),
        name="crm",
        BREAKER_FAILURES="2",
        BREAKER_COOL_DOWN="1h",
    )
    with pytest.raises(TargetRetry, match="crm answered 200: busy"):
        await there.post(json={})
    with pytest.raises(TargetDead, match="crm answered 200: no such tariff"):
        await there.post(json={})
    assert (await there.post(json={})).json() == {"ok": 1}
    for _ in range(2):
        with pytest.raises(TargetRetry):
            await there.post(json={})
    with pytest.raises(TargetUnavailable) as held:
        await there.post(json={})
    assert held.value.waits_for == "crm"
    with pytest.raises(TargetDead):
        await StandIn(reply(404), name="crm").post(json={})


async def test_a_hook_for_one_target_is_not_asked_about_another() -> None:
    on_response("crm")(lambda _: Verdict("dead", "never"))
    assert (await StandIn(name="hlr").post(json={})).status == 200


async def test_a_hook_that_gives_something_else_is_a_mistake() -> None:
    on_response()(lambda _: "dead")  # type: ignore[type-var]
    with pytest.raises(TargetMistake, match="gave str and not a Verdict"):
        await StandIn().post(json={})
    with pytest.raises(ValueError, match="an outcome is one of"):
        Verdict("Retry")  # type: ignore[arg-type]


def test_a_hook_for_a_target_that_no_setting_names_stops_the_start() -> None:
    on_response("crn")(lambda _: None)
    targets = external.Targets(Settings.load({"TARGETS": "crm", "CRM_URL": "http://crm.example"}))
    with pytest.raises(StartError, match="@on_response stands for crn"):
        targets.check_hooks()


async def test_the_timeout_of_a_call_counts_for_this_call() -> None:
    there = StandIn(reply(delay=2))
    assert (await there.get()).status == 200
    with pytest.raises(TargetRetry, match="did not answer within 1 s"):
        await there.get(timeout=1)


async def test_a_key_in_a_header_logs_in() -> None:
    there = StandIn(TARGET_AUTH="key", TARGET_TOKEN="key-of-tests", TARGET_KEY_HEADER="X-Key")
    await there.get()
    assert there.calls[0].headers["X-Key"] == "key-of-tests"


async def test_a_token_is_asked_for_with_audience_resource_and_credentials_in_the_body() -> None:
    there = StandIn(
        TARGET_AUTH="oauth2",
        TARGET_TOKEN_URL="http://target.example/token",
        TARGET_CLIENT_ID="id",
        TARGET_CLIENT_SECRET="secret",
        TARGET_AUDIENCE="crm",
        TARGET_RESOURCE="https://crm.example",
        TARGET_CLIENT_AUTH="body",
    ).answer(reply(json={"access_token": "t", "expires_in": 60}), path="/token")
    await there.get("/x")
    token, call = there.calls
    assert dict(parse_qsl(token.body.decode())) == {
        "grant_type": "client_credentials",
        "client_id": "id",
        "client_secret": "secret",
        "audience": "crm",
        "resource": "https://crm.example",
    }
    assert "Authorization" not in token.headers
    assert call.headers["Authorization"] == "Bearer t"


NAMES = {"firstname": "Ann", "lastname": "Tester", "email": "ann@mail.example", "city": "Springfield"}


@pytest.mark.parametrize(
    "said",
    [
        "no subscriber 15550100001",
        "no subscriber +1 (555) 010-0001",
        "IMSI 001010000000001 unknown",
        "Ann Tester has no contract",
        "ANN TESTER of springfield",
        "mail to ann@mail.example failed",
        "you sent Authorization: Bearer hidden-token-of-tests",
        "header was hidden-token-of-tests",
        "token=hidden-token-of-tests",
        '{"error": "no such user Tester"}',
        '{"error": {"message": "Springfield unknown"}}',
        '{"subscriber": {"name": "Tester", "number": 15550100001}}',
    ],
)
async def test_what_a_target_says_names_nobody_and_no_secret(said: str, log_lines: Lines) -> None:
    there = StandIn(reply(422, text=said), TARGET_AUTH="bearer", TARGET_TOKEN="hidden-token-of-tests", LOG_CALLS="true")
    its = event(account_info=NAMES, sim_info={"imsi": "001010000000001", "msisdn": 15550100001})
    attempt.begin(its, "")
    with pytest.raises(TargetDead) as dead:
        await there.put("/sims/{imsi}", {"imsi": "001010000000001"}, json={})
    shown = str(dead.value) + json.dumps(log_lines())
    for hidden in (
        "Ann",
        "ANN",
        "Tester",
        "TESTER",
        "pringfield",
        "0100001",
        "010-0001",
        "0000000001",
        "mail.example",
        "hidden",
    ):
        assert hidden not in shown
    assert dead.value.kind is Kind.REFUSED


async def test_a_call_has_its_line_with_a_path_that_names_nobody(log_lines: Lines) -> None:
    there = StandIn(LOG_CALLS="true")
    await there.put("/sims/{imsi}", {"imsi": 1}, json={}, event=event("event-9"))
    await there.get("/sims/001010000000001?token=x")
    with pytest.raises(TargetRetry):
        await StandIn(no_answer(), LOG_CALLS="true").get()
    first, second, third = log_lines()
    assert (first["action"], first["event_id"], first["path"], first["status"]) == (
        "target.called",
        "event-9",
        "/sims/{imsi}",
        200,
    )
    assert (first["method"], first["host"], first["target"]) == ("PUT", "target.example", "target")
    assert isinstance(first["ms"], int)
    assert second["path"] == "/sims/***"
    assert third["status"] is None


async def test_the_name_of_a_target_finds_it_and_a_wrong_one_says_which_there_are() -> None:
    settings = Settings.load({"TARGETS": "hlr,crm", "HLR_URL": "http://hlr.example", "CRM_URL": "http://crm.example"})
    async with external.running(external.Targets(settings)):
        assert target("hlr").name == "hlr"
        with pytest.raises(
            TargetMistake, match=r"there is no target 'crn'; there is target\(\"crm\"\), target\(\"hlr\"\)"
        ):
            target("crn")
        with pytest.raises(TargetMistake, match="say which target"):
            target()


async def test_the_only_target_needs_no_name() -> None:
    settings = Settings.load({"TARGETS": "hlr", "HLR_URL": "http://hlr.example"})
    async with external.running(external.Targets(settings)):
        assert target() is target("hlr")


async def test_stand_ins_take_the_place_of_several_targets() -> None:
    hlr, crm = StandIn(name="hlr"), StandIn(name="crm")
    with using(hlr=hlr, crm=crm):
        await target("crm").post(json={})
        with pytest.raises(TargetMistake):
            target()
    assert (len(hlr.calls), len(crm.calls)) == (0, 1)


async def test_a_thread_of_an_executor_finds_the_target_and_waits_for_its_calls() -> None:
    settings = Settings.load({"TARGET_URL": "http://hlr.example"})
    targets = external.Targets(settings)
    async with external.running(targets):

        def work() -> str:
            return target().name + from_thread(asyncio.sleep(0, threading.current_thread().name))

        found = await asyncio.get_running_loop().run_in_executor(None, work)
        assert found.startswith("targetasyncio")
        with pytest.raises(RuntimeError, match="await the call"):
            from_thread(asyncio.sleep(0))


async def test_a_call_in_another_event_loop_says_what_to_do() -> None:
    settings = Settings.load({"TARGET_URL": "http://hlr.example"})
    async with external.running(external.Targets(settings)):
        here = target()

        def elsewhere() -> str:
            with pytest.raises(TargetMistake, match="from_thread"):
                asyncio.run(here.get())
            return "said"

        assert await asyncio.to_thread(elsewhere) == "said"


async def test_a_stand_in_answers_by_method_and_path_in_turn() -> None:
    there = StandIn().answer(404, reply(json={"id": 1}), method="GET", path="/subscribers/*")
    with pytest.raises(TargetDead):
        await there.get("/subscribers/{id}", {"id": 1})
    assert (await there.get("/subscribers/{id}", {"id": 1})).json() == {"id": 1}
    assert (await there.post("/subscribers", json={})).status == 200
    assert [call.method for call in there.calls] == ["GET", "GET", "POST"]


def test_a_stand_in_serves_more_than_one_event_loop() -> None:
    there = StandIn()
    for _ in range(2):
        assert asyncio.run(there.get()).status == 200
