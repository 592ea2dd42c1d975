"""Made-up events: every name, number and address in them is invented."""

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

Json = dict[str, Any]

TYPES = (
    "SIM/Updated",
    "SIM/Created",
    "SIM/Replaced",
    "SIM/Deleted",
    "Account/Blocked",
    "Account/Unblocked",
    "Subscriber/Updated",
    "Bundle/Renewed",
)
WITHOUT_ACCOUNT = ("SIM/Created", "SIM/Deleted")  # a card that nobody has yet, or any more
BILL_STATUSES = ("open", "suspended", "inactive", "terminated", "blocked")


class Sample(NamedTuple):
    """A body and the status that the protocol gives it."""

    body: bytes
    status: int
    event_type: str


def minimal(event_type: str = "SIM/Updated", **fields: Any) -> Json:
    """The smallest event that the default REQUIRED_FIELDS let pass, and ``fields`` beside."""
    return {"data": {"event_type": event_type}, "pb_data": {"account_info": {"bill_status": "open"}}, **fields}


def of_subscriber(i_account: int, event_id: str, event_type: str = "SIM/Updated") -> Json:
    """An event of one subscriber."""
    event = minimal(event_type, event_id=event_id)
    event["pb_data"]["account_info"]["i_account"] = i_account
    return event


def full(event_id: str = "a3d1c0de-0000-4000-8000-000000000001") -> Json:
    """An event with every documented field."""
    return {
        "event_id": event_id,
        "data": {
            "event_type": "SIM/Replaced",
            "variables": {
                "i_env": 3,
                "i_event": "700001",
                "i_account": "4711",
                "event_time": "2025-09-01 10:20:30",
                "curr_status": "used",
                "prev_status": "active",
            },
        },
        "pb_data": {
            "account_info": {
                "i_account": 4711,
                "i_customer": 51,
                "i_master_account": 4000,
                "i_product": 88,
                "i_vd_plan": 12,
                "id": "99900004711@msisdn",
                "bill_status": "open",
                "billing_model": "debit_account",
                "blocked": False,
                "status": "active",
                "product_name": "Made-up Mobile M",
                "firstname": "Given-4711",
                "lastname": "Family-4711",
                "email": "subscriber-4711@example.invalid",
                "phone1": "99900004711",
                "zip": "ZIP-4711",
                "time_zone_name": "Europe/Vienna",
                "assigned_addons": [
                    {
                        "i_product": 89,
                        "i_vd_plan": 13,
                        "i_product_group": 2,
                        "name": "Made-up Roaming",
                        "description": "abroad",
                        "addon_priority": 20,
                        "addon_effective_from": "2025-08-01T00:00:00",
                        "addon_effective_to": "2025-10-01T00:00:00",
                    }
                ],
                "service_features": [
                    {
                        "name": "netaccess_policy",
                        "effective_flag_value": "Y",
                        "attributes": [{"name": "access_policy", "effective_value": "31"}],
                    }
                ],
            },
            "sim_info": card(9001, "active"),
            "prev_sim_info": card(9000, "disposed"),
            "access_policy_info": policy(31),
            "product_info": {"i_product": 88, "name": "Made-up Mobile M", "description": "", "addon_priority": 0},
            "full_vd_counter_info": [counter(1, 10), counter(2, "N/A")],
        },
        "handler_id": "made-up-handler",
        "created_at": "2025-09-01T10:20:31.000001+00:00",
        "updated_at": "2025-09-01T12:20:35.500000+02:00",
        "status": "received",
    }


def card(number: int, status: str) -> Json:
    """A SIM card; IMSIs begin with the test network 001-01."""
    return {
        "i_sim_card": number,
        "i_account": 4711,
        "iccid": f"8900000000000{number:06d}",
        "imsi": f"00101{number:010d}",
        "msisdn": f"999{number:08d}",
        "status": status,
    }


def policy(number: int) -> Json:
    """An access policy."""
    attributes = [{"group_name": "lte.made-up", "name": name, "value": f"{name}-{number}"} for name in ("cs", "eps")]
    return {"i_access_policy": number, "name": f"Made-up policy {number}", "attributes": attributes}


def counter(number: int, remaining: float | str | None) -> Json:
    """A bundle's counter."""
    return {
        "service_name": "Data",
        "vdp_name": f"Made-up bundle {number}",
        "i_vd_plan": number,
        "i_dest_group": number + 1,
        "addon_priority": 10,
        "i_vd_dg": number + 2,
        "remaining": remaining,
        "i_service": 106,
        "dg_name": f"DG{number}",
        "discount_info": "0..10 - 100%",
        "unit": "megabyte",
        "allocated_amount": 10,
    }


def encode(event: Json, *, ascii_only: bool = True) -> bytes:
    """The body that carries ``event``."""
    return json.dumps(event, ensure_ascii=ascii_only).encode()


def generate(seed: int, count: int, *, subscribers: int = 5000, largest: int = 1_000_000) -> Iterator[Sample]:
    """``count`` bodies as NSPS may send them: one in twenty is faulty, one in fifty large (up to ``largest`` bytes).

    Ids are distinct, types and subscribers mixed; about one in six events is a bare one of 0.3 KB.
    """
    chance = random.Random(seed)
    for number in range(count):
        event = _event(chance, number, subscribers)
        event_type = event["data"]["event_type"]
        if chance.random() < 0.05:
            yield _faulty(chance, event)
            continue
        if chance.random() < 0.02:
            _grow(chance, event, int(10 ** chance.uniform(4, len(str(largest)) - 1)))
        yield Sample(encode(event, ascii_only=chance.random() < 0.5), 202, event_type)
        if largest and number == count // 2:
            yield Sample(encode(_exactly(_event(chance, count, subscribers), largest)), 202, "SIM/Updated")


def _event(chance: random.Random, number: int, subscribers: int) -> Json:
    event_type = chance.choice(TYPES)
    subscriber = min(int(chance.paretovariate(0.6)), subscribers)
    event_id = str(UUID(int=chance.getrandbits(128), version=4))
    if chance.random() < 0.17:
        event = of_subscriber(subscriber, event_id, event_type)
        event["data"]["variables"] = {"i_env": 1, "i_event": number, "event_time": "2025-09-01 10:00:00"}
    else:
        event = full(event_id)
        event["data"]["event_type"] = event_type
        event["data"]["variables"] |= {"i_event": number, "i_account": chance.choice((subscriber, str(subscriber)))}
        event["pb_data"]["account_info"] |= {
            "i_account": chance.choice((subscriber, str(subscriber))),
            "id": f"999{subscriber:08d}@msisdn",
            "bill_status": chance.choice(BILL_STATUSES),
            "blocked": chance.choice((True, False, None)),
            "product_name": chance.choice(("Mobile S", "Größe L", "продукт", "套餐", "Tarif 📶", 'the "best" \\ plan')),
        }
        if event_type != "SIM/Replaced":
            del event["pb_data"]["prev_sim_info"]
        if chance.random() < 0.2:
            event["pb_data"]["access_policy_info"] = [event["pb_data"]["access_policy_info"]]
        for part in ("sim_info", "product_info", "full_vd_counter_info", "access_policy_info"):
            if chance.random() < 0.1:
                event["pb_data"][part] = None
    if chance.random() < 0.05:
        event["undocumented"] = {"nested": [chance.random(), None, {"deep": "er"}]}
    if chance.random() < 0.03:
        event.pop("event_id")
    return event


def _grow(chance: random.Random, event: Json, size: int) -> None:
    parts = event["pb_data"]
    each = len(encode(counter(1, 1)))
    parts["full_vd_counter_info"] = [
        counter(n, chance.choice((n, 0.5, "N/A", None))) for n in range(size * 9 // 10 // each)
    ]


def _exactly(event: Json, size: int) -> Json:
    event["data"]["event_type"] = "SIM/Updated"
    event["padding"] = ""
    event["padding"] = "x" * (size - len(encode(event)))
    return event


def _faulty(chance: random.Random, event: Json) -> Sample:
    event_type = event["data"]["event_type"]
    status = 422
    match chance.randrange(6):
        case 0:
            event["data"].pop("event_type")
        case 1:
            event["pb_data"]["account_info"]["bill_status"] = chance.choice(("", None))
            status = 202 if event_type in WITHOUT_ACCOUNT else 422
        case 2:
            event["pb_data"] = chance.choice(([], "text", 7, True))
            status = 202 if event_type in WITHOUT_ACCOUNT else 422
        case 3:
            event["event_id"] = chance.choice(([], {}, False))
        case 4:
            body = encode(event)
            return Sample(body[: chance.randrange(1, len(body))], 400, event_type)
        case _:
            return Sample(chance.choice((b"", b"event", b"\xff\xfe{}", b"{'a': 1}", b"\x00" * 40)), 400, event_type)
    return Sample(encode(event), status, event_type)
