"""What the published HLR/HSS connector sends for an event, call by call, as it was observed beside this one."""

import asyncio
import os
from typing import Any, Final

import pytest

os.environ |= {
    "WTL_IMSI_REGEXP": "^00101",
    "WTL_DEFAULT_CS_PROFILE": "cs-barred",
    "WTL_DEFAULT_EPS_PROFILE": "ps-barred",
}

from connector.testing import StandIn, Trial, example, reply, using
from examples.partners import wtl

PLAIN: Final[dict[str, Any]] = {
    "imsi": "001010000000001", "subscriber_status": "serviceGranted", "msisdn": ["15550100001"],
    "cs_profile": "cs-example", "eps_profile": "eps-example", "action": "update",
}  # fmt: skip
BARRED: Final[dict[str, Any]] = {"subscriber_status": "operatorDeterminedBarring"}
CLOSED: Final[dict[str, Any]] = BARRED | {"msisdn": []}
ACCOUNT, POLICY = "pb_data.account_info", "pb_data.access_policy_info"


def profiles(*values: tuple[str, str]) -> dict[str, Any]:
    return {f"{POLICY}.attributes": [{"group_name": "lte", "name": name, "value": value} for name, value in values]}


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({}, {}),
        ({f"{ACCOUNT}.blocked": True}, BARRED),
        ({f"{ACCOUNT}.blocked": None}, {}),
        ({f"{ACCOUNT}.blocked": ...}, {}),
        *[({f"{ACCOUNT}.bill_status": status}, CLOSED) for status in ("suspended", "terminated", "inactive")],
        ({f"{ACCOUNT}.bill_status": "suspended", f"{ACCOUNT}.blocked": True}, CLOSED),
        ({f"{ACCOUNT}.id": "1555@voip", f"{ACCOUNT}.bill_status": "terminated"}, CLOSED),
        ({f"{ACCOUNT}.id": None, f"{ACCOUNT}.bill_status": "terminated"}, CLOSED),
        ({f"{ACCOUNT}.id": "1@msisdn@msisdn"}, {"msisdn": ["1"]}),
        ({POLICY: None}, {"cs_profile": "cs-barred", "eps_profile": "ps-barred"}),
        (profiles(), {"cs_profile": "cs-barred", "eps_profile": "ps-barred"}),
        (profiles(("cs_profile", "")), {"cs_profile": "cs-barred", "eps_profile": "ps-barred"}),
        (
            profiles(("cs_profile", "gold"), ("cs_profile", "silver")),
            {"cs_profile": "gold", "eps_profile": "ps-barred"},
        ),
    ],
)
def test_the_call_is_theirs(changes: dict[str, Any], sent: dict[str, Any]) -> None:
    hlr = StandIn(name="wtl", TARGET_AUTH="bearer", TARGET_TOKEN="secret")
    with using(wtl=hlr):
        assert asyncio.run(Trial(wtl.update).deliver(example("SIM/Updated", changes))).state == "done"
    (call,) = hlr.calls
    assert (call.method, call.path, call.headers["Authorization"]) == ("POST", "/prov", "Bearer secret")
    assert call.json == PLAIN | sent


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"pb_data.sim_info.imsi": ""}, "ignored"),
        ({"pb_data.sim_info": None}, "ignored"),
        ({"pb_data.sim_info.imsi": "901700000000001"}, "ignored"),
        ({"pb_data.sim_info.imsi": "00101000000001"}, "dead"),
        ({"pb_data.sim_info.imsi": "00101000000abcd"}, "dead"),
        ({f"{ACCOUNT}.id": "1555@voip"}, "dead"),
        (profiles(("cs_profile", "1 gold")), "dead"),
    ],
)
def test_where_they_call_nobody_nor_do_we(changes: dict[str, Any], state: str) -> None:
    with using(wtl=(hlr := StandIn(name="wtl"))):
        assert asyncio.run(Trial(wtl.update).deliver(example("SIM/Updated", changes))).state == state
    assert not hlr.calls


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        ({"result": True}, True),
        ({}, True),
        ({"result": None}, True),
        ({"message": "ok"}, True),
        ({"result": True, "error": "x"}, True),
        ({"result": False, "error": "locked"}, False),
        ({"error": "x"}, False),
        ({"error": ""}, False),
    ],
)
def test_an_answer_means_what_it_means_to_them(answer: dict[str, Any], well: bool) -> None:
    with using(wtl=StandIn(reply(json=answer), name="wtl")):
        assert asyncio.run(Trial(wtl.update).deliver(example(), most=1)).state == ("done" if well else "waiting")
