"""The short connectors: their own tests without sockets, and all of them in one process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from connector.events.examples import body_of
from tests.integration.external.targets import Seen, Standin, standing
from tests.process import ROOT, environment, running
from tests.wire import ask, post

OK = (
    '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>'
    '<r xmlns="urn:example:pcrf"><resultCode>0</resultCode></r></e:Body></e:Envelope>'
)


def test_their_tests_pass_without_a_socket_and_without_sleeping() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.no_waiting", "examples/partners"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert "passed" in ran.stdout


def test_a_test_that_waits_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "test_slow.py").write_text("import time\n\n\ndef test_slow():\n    time.sleep(0)\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.no_waiting", str(tmp_path)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert "time.sleep" in ran.stdout
    assert ran.returncode == 1


def body(event_type: str, number: int) -> bytes:
    """An event of a subscriber of its own."""
    document: dict[str, Any] = body_of(event_type)
    document["event_id"] = f"{event_type}-{number}"
    document["pb_data"]["account_info"]["i_account"] = number
    document["pb_data"]["sim_info"] |= {"i_sim_card": number, "i_account": number, "imsi": f"00101{number:010d}"}
    document["pb_data"].pop("prev_sim_info", None)
    document["data"]["variables"] = {"i_account": number}
    return json.dumps(document).encode()


class Crm:
    """A CRM with its token server; ``up`` or not."""

    def __init__(self) -> None:
        self.up = False

    async def answer(self, seen: Seen) -> web.Response:
        if seen.path == "/token":
            return web.json_response({"access_token": "token-of-the-crm", "token_type": "Bearer", "expires_in": 3600})
        return web.json_response({"id": 1}, status=200 if self.up else 503)


async def soap(_: Seen) -> web.Response:
    return web.Response(text=OK, content_type="text/xml")


def logins(there: Standin) -> set[str]:
    return {seen.headers.get("Authorization", "none") for seen in there.seen if seen.path != "/token"}


async def test_a_token_reaches_its_system_alone_and_an_outage_holds_its_events_alone(tmp_path: Path) -> None:
    accounts = range(1, 13)
    async with standing() as chat, standing() as crm, standing() as pcrf:
        behind, pcrf.answer = Crm(), soap
        crm.answer = behind.answer
        settings = {
            "HANDLERS": "examples.partners.chat,examples.partners.crm,examples.partners.pcrf",
            "TARGETS": "chat,crm,pcrf", "CHAT_URL": f"{chat.url}/hooks/1", "PCRF_URL": f"{pcrf.url}/soap",
            "CRM_URL": f"{crm.url}/api", "CRM_AUTH": "oauth2", "CRM_TOKEN_URL": f"{crm.url}/token",
            "CRM_CLIENT_ID": "nsps", "CRM_CLIENT_SECRET": "secret-of-the-crm", "BREAKER_COOL_DOWN": "200ms",
            "BREAKER_COOL_DOWN_MAX": "200ms", "RETRY_BASE": "50ms", "RETRY_MAX": "200ms",
            "JOURNAL_URL": f"sqlite:///{tmp_path / 'journal.db'}",
        }  # fmt: skip
        async with running(tmp_path, **settings) as server:
            for number in accounts:
                assert (await ask(server.port, post(body("Account/Blocked", number)))).status == 202
            await server.line("breaker.opened", target="crm")
            for number in accounts:  # of others: those of before wait, in order
                assert (await ask(server.port, post(body("SIM/Updated", 100 + number)))).status == 202
                assert (await ask(server.port, post(body("SIM/Replaced", 200 + number)))).status == 202
            await server.until(lambda: len(pcrf.seen) == 2 * len(accounts), "all policies")
            await server.until(lambda: len(chat.seen) == 2 * len(accounts), "all notices")
            await server.reached("event.processed", 2 * len(accounts))
            assert server.counts["event.processed"] == 2 * len(accounts)
            assert {line["target"] for line in server.lines if line["action"] == "breaker.opened"} == {"crm"}
            behind.up = True
            await server.reached("event.processed", 3 * len(accounts))
    assert (logins(chat), logins(crm), logins(pcrf)) == ({"none"}, {"Bearer token-of-the-crm"}, {"none"})
    assert len(chat.seen) == 2 * len(accounts), "no notice is said twice"
