"""Kinds of bodies that senders of PortaBilling's events really send, with what is expected of each: the answer, what
reads where, what cannot be read, what is touched. Every value is made up; the kinds are from PortaOne's guide and API
answers, from receivers that others have published, and from what Perl and PHP make of a value."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from connector.events.event_types import DOCUMENTED
from connector.events.examples import CARD, POLICY, PREVIOUS_CARD, body_of, put, special_forms
from tests.events import Json


class Kind(NamedTuple):
    """A kind of body.

    ``status``      what it is answered with: 202, 400 or 422
    ``reads``       what stands at a path of the event; of a refused one, where the error is
    ``unreadable``  the paths that read as null though something stands there
    ``touches``     its resources, where they are of interest
    ``why``         why it is refused, or what is special about it
    """

    name: str
    body: bytes
    status: int = 202
    reads: Mapping[str, Any] = {}
    unreadable: tuple[str, ...] = ()
    touches: tuple[str, ...] | None = None
    why: str = ""


def changed(event_type: str = "SIM/Updated", /, **changes: Any) -> Json:
    """The example of a type with changes; ``__`` stands for the dots of a path."""
    body = body_of(event_type)
    for path, value in changes.items():
        put(body, path.replace("__", "."), value)
    return body


def encoded(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def taken(name: str, body: Any, reads: Mapping[str, Any] | None = None, **more: Any) -> Kind:
    return Kind(name, body if isinstance(body, bytes) else encoded(body), 202, reads or {}, **more)


def refused(name: str, body: Any, where: str, why: str) -> Kind:
    return Kind(name, body if isinstance(body, bytes) else encoded(body), 422, {where: None}, why=why)


def not_json(name: str, body: bytes, why: str) -> Kind:
    return Kind(name, body, 400, why=why)


def anything(*values: Any) -> tuple[Any, ...]:
    """Values of any type."""
    return values


ACCOUNT = "pb_data.account_info"
SIM = "pb_data.sim_info"
CS_PROFILE = "attribute(pb_data, 'cs_profile')"
LONG_NUMBER = 2**64 + 1


def nested(depth: int) -> bytes:
    """The example event with lists in each other in an undocumented field."""
    return encoded(body_of())[:-1] + b',"new":' + b"[" * depth + b"]" * depth + b"}"


def one_field(name: str, path: str, value: Any, read: Any, *, unreadable: bool = False) -> Kind:
    """The example event with ``value`` in one field, which then reads as ``read``."""
    body = body_of()
    put(body, path, value)
    return taken(name, body, {path: read}, unreadable=(path,) if unreadable else ())


FLAGS = [
    one_field(f"a flag as {value!r}", f"{ACCOUNT}.blocked", value, read)
    for value, read in [
        *[(each, True) for each in anything(True, "Y", "y", "yes", "true", "TRUE", " Y ", 1, "1", 1.0)],
        *[(each, False) for each in anything(False, "N", "n", "no", "false", 0, "0", 0.0)],
        *[(each, None) for each in anything(None, "", " ", [], {}, "undefined")],
    ]
] + [
    one_field(f"a flag that is none: {value!r}", f"{ACCOUNT}.blocked", value, None, unreadable=True)
    for value in anything("maybe", 2, -1, [True], {"Y": 1})
]

NUMBERS = [
    one_field(f"a number as {value!r}", f"{ACCOUNT}.i_master_account", value, read)
    for value, read in [
        *[(each, 7) for each in anything(7, "7", "007", " 7 ", "+7", 7.0, "7.0", "7.")],
        *[(-7, -7), ("-7", -7), ("9" * 30, int("9" * 30)), (2**64 + 1, 2**64 + 1)],
        *[(each, None) for each in anything(None, "", " ", [], {}, "undefined", "null", "NaN")],
    ]
] + [
    one_field(f"a number that is none: {value!r}", f"{ACCOUNT}.i_master_account", value, None, unreadable=True)
    for value in anything(True, False, 7.5, "7.5", "seven", "7 8", "0x7", [7], {"i": 7})
]

TEXTS = [
    one_field(f"a text as {value!r}", f"{ACCOUNT}.zip", value, read)
    for value, read in [
        *[("40004", "40004"), (40004, "40004"), (40004.0, "40004"), (0.5, "0.5"), (0, "0"), ("", ""), ("Ж", "Ж")],
        *[(2**64 + 1, str(2**64 + 1)), (None, None), ([], None), ({}, None)],
    ]
] + [
    one_field(f"a text that is none: {value!r}", f"{ACCOUNT}.zip", value, None, unreadable=True)
    for value in anything(True, False, ["40004"], {"zip": "40004"})
]

OBJECTS = [
    one_field(f"{path} as {value!r}", path, value, None)
    for path in ("pb_data.product_info", "pb_data.prev_sim_info", SIM)
    for value in anything(None, [], "", "null")
] + [
    taken("an object in a list of one", changed(pb_data__sim_info=[CARD]), {f"{SIM}.imsi": CARD["imsi"]}),
    one_field("an object that is a text", SIM, "none at all", None, unreadable=True),
    one_field("an object that is a number", "pb_data.product_info", 7, None, unreadable=True),
    one_field("an object that is false", "pb_data.product_info", False, None, unreadable=True),
    one_field("an object that is a list of texts", "pb_data.product_info", ["a", "b"], None, unreadable=True),
    taken("pb_data as an empty list, of a customer", changed("Customer/Updated", pb_data=[]), {SIM: None}),
    taken("pb_data as an empty text, of a number", changed("DID/Updated", pb_data=""), {SIM: None}),
    taken("variables as an empty list", changed(data__variables=[]), {"data.variables.i_account": None}),
    taken("variables as null", changed(data__variables=None), {f"{ACCOUNT}.i_account": 1001}),
]

LISTS = [
    one_field(f"a list as {value!r}", "pb_data.full_vd_counter_info", value, None)
    for value in anything(None, [], "", {}, "undefined")
] + [
    taken(
        "a list of one as an object",
        changed(pb_data__full_vd_counter_info={"i_vd_plan": "204", "remaining": "N/A"}),
        {"pb_data.full_vd_counter_info[0].i_vd_plan": 204, "pb_data.full_vd_counter_info[0].remaining": "N/A"},
    ),
    taken(
        "a list as an object with numbers for names",
        changed(pb_data__account_info__assigned_addons={"1": {"name": "b"}, "0": {"name": "a"}}),
        {f"{ACCOUNT}.assigned_addons[*].name": ["a", "b"]},
    ),
    taken(
        "a list with nothing in it between",
        changed(pb_data__account_info__assigned_addons=[None, {"i_product": "31"}, [], ""]),
        {f"{ACCOUNT}.assigned_addons[0].i_product": 31},
    ),
    taken(
        "a list with what is no item",
        changed(pb_data__account_info__assigned_addons=[{"i_product": 31}, 7, {"i_product": "x"}]),
        {f"{ACCOUNT}.assigned_addons[0].i_product": 31},
        unreadable=(f"{ACCOUNT}.assigned_addons[1]", f"{ACCOUNT}.assigned_addons[2].i_product"),
    ),
    one_field("a list that is a text", "pb_data.full_vd_counter_info", "ten", None, unreadable=True),
    one_field("a list that is an object of others", "pb_data.full_vd_counter_info", {"a": 1}, None, unreadable=True),
]

POLICIES = [
    taken(
        f"access policies {name}", changed(pb_data__access_policy_info=form), {"attribute(pb_data, 'cs_profile')": read}
    )
    for name, form, read in [
        ("as an object", POLICY, "cs-example"),
        ("as a list of one", [POLICY], "cs-example"),
        ("as a list, the second has the attribute", [{"name": "other", "attributes": []}, POLICY], "cs-example"),
        ("with a list of values", {"attributes": [{"name": "cs_profile", "values": ["first", "second"]}]}, "first"),
        ("with an empty list of values", {"attributes": [{"name": "cs_profile", "values": []}]}, None),
        ("with value and values", {"attributes": [{"name": "cs_profile", "value": "one", "values": ["two"]}]}, "one"),
        ("with a number as value", {"attributes": [{"name": "cs_profile", "value": 7}]}, "7"),
        ("as an empty list", [], None),
        ("as an empty object", {}, None),
        ("as null", None, None),
    ]
]

STATUSES = [
    taken(
        f"bill_status {status!r}",
        changed(pb_data__account_info__bill_status=status),
        {"in_service(pb_data.account_info)": read, f"{ACCOUNT}.bill_status": status},
    )
    for status, read in [
        *[("open", True), ("active", True), ("O", True), ("OPEN", True), (" open ", True)],
        *[("suspended", False), ("inactive", False), ("terminated", False), ("S", False), ("C", False), ("new", False)],
    ]
] + [
    refused(
        f"bill_status {status!r} of an account",
        changed(pb_data__account_info__bill_status=status),
        f"{ACCOUNT}.bill_status",
        "an event about an account has to say its billing status, as a text",
    )
    for status in anything(None, "", " ", [], {}, 7, True, ["open"], ...)
]

CARDS = [
    one_field(f"an IMSI of {len(imsi)} digits", f"{SIM}.imsi", imsi, imsi)
    for imsi in ("001010", "00101000000001", "310150123456789")
] + [
    one_field("an IMSI as a number", f"{SIM}.imsi", 310150123456789, "310150123456789"),
    one_field("an ICCID of 22 digits", f"{SIM}.iccid", "8900000000000000000001", "8900000000000000000001"),
    one_field("an ICCID as a number past 64 bits", f"{SIM}.iccid", 89014103211118510720, "89014103211118510720"),
    taken("an eSIM with fields of its own", changed(pb_data__sim_info__eid="89000000"), {f"{SIM}.eid": "89000000"}),
    taken(
        "custom fields of an account",
        changed(pb_data__account_info__custom_fields={"market.place": "x"}),
        {f'{ACCOUNT}.custom_fields."market.place"': "x"},
    ),
    taken(
        "a card removed from its account",
        special_forms()["a card that was removed from its account"],
        {SIM: None, "pb_data.prev_sim_info.imsi": CARD["imsi"]},
        touches=("i_account:1001@1", f"imsi:{CARD['imsi']}"),
    ),
    taken(
        "a card that was replaced",
        changed("SIM/Replaced"),
        touches=("i_account:1001@1", f"imsi:{CARD['imsi']}", f"imsi:{PREVIOUS_CARD['imsi']}"),
    ),
    taken("a new card of no account", changed("SIM/Created"), touches=(f"imsi:{CARD['imsi']}",)),
    taken("a card taken from the inventory", changed("SIM/Deleted"), {SIM: None}, touches=(f"imsi:{CARD['imsi']}",)),
]

TYPES = [
    taken(f"{event_type} as it is documented", changed(event_type), {"data.event_type": event_type})
    for event_type in DOCUMENTED
] + [
    taken("a type that nobody has documented", changed("Bundle/Renewed"), {f"{ACCOUNT}.i_account": 1001}),
    refused(
        "a type that nobody has documented, without an account",
        {"event_id": "e", "data": {"event_type": "Bundle/Renewed"}},
        f"{ACCOUNT}.bill_status",
        "what is not known to have no account has to bring one (the seed's rule)",
    ),
    refused("SIM/Updated without enrichment", changed(pb_data=...), f"{ACCOUNT}.bill_status", "the guide's case 6"),
    refused("no event type", changed(data__event_type=...), "data.event_type", "nobody could be given the event"),
    refused("no data", {"event_id": "e"}, "data.event_type", "as above"),
    refused("data as a list", {"event_id": "e", "data": []}, "data.event_type", "as above"),
    *(
        refused(f"event type {value!r}", changed(data__event_type=value), "data.event_type", "a type is a text")
        for value in anything(None, "", " ", 7, True, ["SIM/Updated"], {"a": 1}, "x" * 256, "SIM/\u0000")
    ),
]

IDS = (
    [
        taken(f"an id as {value!r}", changed(event_id=value), {"event_id": read})
        for value, read in [
            ("e-1", "e-1"),
            (7, "7"),
            (7.0, "7"),
            (2**64 + 1, str(2**64 + 1)),
            ("x" * 255, "x" * 255),
            ("Ж", "Ж"),
        ]
    ]
    + [
        taken(f"an id that says nothing: {value!r}", changed(event_id=value))
        for value in anything(None, "", "  ", "undefined", "null", "None", ...)
    ]
    + [
        refused(
            f"an id that is none: {str(value)[:20]!r}",
            changed(event_id=value),
            "event_id",
            "too long, or neither text nor number",
        )
        for value in anything(True, False, [], {}, ["e"], {"id": "e"}, "x" * 256, 10**300)
    ]
)

DOCUMENTS = [
    taken("a byte order mark", b"\xef\xbb\xbf" + encoded(body_of()), {f"{SIM}.imsi": CARD["imsi"]}),
    taken("white space around", b" \r\n\t" + encoded(body_of()) + b"\n", {f"{SIM}.imsi": CARD["imsi"]}),
    taken("letters as escapes", json.dumps(changed(pb_data__sim_info__eid="Ж 📶")).encode(), {f"{SIM}.eid": "Ж 📶"}),
    taken("a name twice", b'{"event_id":"a","event_id":"b","data":{"event_type":"DID/New"}}', {"event_id": "b"}),
    taken("an undocumented number past a double", encoded(body_of())[:-1] + b',"new":1e400}', {"new": "1e400"}),
    taken("an undocumented number past 64 bits", changed(new=2**64 + 1), {"new": 2**64 + 1}),
    taken("a hundred levels deep", nested(99)),
    taken("many shallow lists", changed(new=[[] for _ in range(1000)], text="[" * 500)),
    refused("over a hundred levels deep", nested(100), "", "no part could be sure to read it"),
    *(refused(f"no object: {body!r}", body, "", "an event is one") for body in (b"[]", b"null", b"7", b'"x"', b"[{}]")),
    not_json("nothing", b"", "empty"),
    not_json("half an event", encoded(body_of())[:100], "cut off"),
    not_json("NaN", b'{"data":{"event_type":"DID/New"},"x":NaN}', "JSON has no NaN (RFC 8259, 6)"),
    not_json("not UTF-8", b'{"data":{"event_type":"DID/New"},"x":"\xff"}', "RFC 8259, 8.1"),
    not_json("UTF-16", json.dumps(body_of()).encode("utf-16"), "RFC 8259, 8.1"),
    not_json("half a surrogate pair", rb'{"data":{"event_type":"DID/New"},"x":"\ud800"}', "no UTF-8 can say it"),
    not_json("a form", b"event_id=1&data=2", "not JSON"),
]  # fmt: skip

ENVELOPE = [
    one_field(f"{name} as {value!r}", name, value, read)
    for name in ("handler_id", "status", "updated_at", "created_at")
    for value, read in zip(anything(7, None, [], ""), anything("7", None, None, ""), strict=True)
]

CORPUS: tuple[Kind, ...] = (
    *FLAGS, *NUMBERS, *TEXTS, *OBJECTS, *LISTS, *POLICIES, *STATUSES, *CARDS, *TYPES, *IDS, *DOCUMENTS, *ENVELOPE,
    *(taken(name, body) for name, body in special_forms().items()),
)  # fmt: skip
