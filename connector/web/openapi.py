"""``GET /openapi.json``: the API as it is, made from the types that decode requests and render answers."""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from connector.events import patterns
from connector.events.body import EventBody
from connector.events.event_types import KINDS
from connector.events.examples import body_of, special_forms
from connector.events.paths import Path
from connector.events.schema import BILL_STATUS, Schema
from connector.version import __version__
from connector.web.responses import ErrorResponse

_REFUSALS = {
    400: "The body is not JSON, or not in the encoding it claims",
    401: "Token missing, malformed or wrong",
    404: "No such path",
    405: "Method not allowed",
    408: "The body did not arrive in time",
    413: "The body is over the limit",
    414: "The request line is over the limit",
    415: "A Content-Encoding other than gzip and deflate",
    417: "An expectation other than 100-continue",
    422: "A field is missing or of the wrong type",
    429: "No room for the event now; send it again later",
    431: "A header is over the limit, or there are too many",
    500: "An error of the connector",
    503: "The event cannot be kept now, or the connector is shutting down; send it again later",
}


_HAS_TEXT: Final = "\\S"
_NOTHING: Final[list[Any]] = [None, "", [], {}]

_ALSO: Final[dict[str, list[dict[str, Any]]]] = {
    "boolean": [{"type": "integer", "enum": [0, 1]}, {"type": "string", "enum": ["Y", "N", "y", "n", "1", "0", ""]}],
    "integer": [{"type": "string", "pattern": "^([+-]?[0-9]{1,18})?$"}],
    "string": [{"type": "number", "minimum": -1e15, "maximum": 1e15}],
    "array": [{"type": "object", "maxProperties": 0}, {"type": "string", "maxLength": 0}],
    "object": [{"type": "array", "maxItems": 0}, {"type": "string", "maxLength": 0}],
}
"""The forms in which PortaBilling, which is Perl, sends a value beside its documented one; ``connector.events.reading``
takes still others."""


class EventResponse(msgspec.Struct):
    """The event is kept."""

    message: str = "Event accepted for processing"


class Status(msgspec.Struct):
    """How the connector is."""

    status: str


def describe(event_path: str, rules: Schema) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a connector that takes events at ``event_path`` under these rules."""
    (_, accepted, refused, status), components = msgspec.json.schema_components(
        [EventBody, EventResponse, ErrorResponse, Status], ref_template="#/components/schemas/{name}"
    )
    answers = {_name(each) for each in (accepted, refused, status)}
    for name, component in components.items():
        component.pop("description", None)  # the texts of classes are for programmers, and python -OO has none
        if name not in answers:
            _take_other_forms(component)
    components[_EVENT] = _required_here(components.pop(_EVENT), rules)
    return {
        "openapi": "3.1.0",
        "info": {"title": "NSPS connector", "version": __version__},
        "paths": {event_path: {"post": _post_event(rules, accepted, refused)}, **_own_pages(status, refused)},
        "components": {
            "schemas": components,
            "securitySchemes": {"HTTPBearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _post_event(rules: Schema, accepted: Any, refused: Any) -> dict[str, Any]:
    return {
        "summary": "Take an event",
        "description": "202 once the event is kept, also for one that was sent before. " + _needs(rules),
        "operationId": "process_event",
        "security": [{"HTTPBearer": []}],
        "requestBody": {"required": True, "content": {"application/json": _request()}},
        "responses": {
            "202": _answer("The event is kept", accepted),
            **{str(code): _answer(text, refused) for code, text in _REFUSALS.items()},
        },
    }


def _own_pages(status: Any, refused: Any) -> dict[str, Any]:
    not_now = _answer("Not now", refused)
    return {
        "/health": _page("health", "Whether the process lives", {"200": _answer("It does", status)}),
        "/ready": _page("ready", "Whether events are wanted", {"200": _answer("They are", status), "503": not_now}),
        "/openapi.json": _page("openapi", "This document", {"200": _answer("This document", {"type": "object"})}),
    }


def _page(name: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "operationId": name, "responses": responses}}


def _answer(text: str, schema: Any) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_EVENT: Final = "EventBody"


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _request() -> dict[str, Any]:
    """The body of a request, with an example of each kind of event and of each special form."""
    types = ("SIM/Updated", "SIM/Created", "SIM/Replaced", "Account/Blocked", "Customer/Updated", "DID/Updated")
    examples = {event_type: {"value": body_of(event_type)} for event_type in types}
    examples |= {name: {"value": body} for name, body in special_forms().items()}
    return {"schema": {"$ref": f"#/components/schemas/{_EVENT}"}, "examples": examples}


def _take_other_forms(component: dict[str, Any]) -> None:
    """Say in which other forms a documented field is taken. A text that is taken only as it came is left alone."""
    for name, field in component.get("properties", {}).items():
        options = field.get("anyOf", [field] if name in ("data", "variables", "pb_data") else [])
        if name in ("event_type", "bill_status", "data") or not options:
            continue
        kinds = {option.get("type", "object" if "$ref" in option else None) for option in options}
        if name == "event_id":
            kinds = {"string"}
        also = [form for kind in sorted(filter(None, kinds)) for form in _ALSO.get(kind, []) if form not in options]
        field["anyOf"] = [*options, *also]


def _required_here(event: dict[str, Any], rules: Schema) -> dict[str, Any]:
    """The event's schema with what this connector requires: by REQUIRED_FIELDS, by type, by handlers."""
    event["properties"]["data"] = {
        "allOf": [event["properties"]["data"], {"properties": {"event_type": {"pattern": _NAME}}}],
    }
    conditions = [_has(path) for path in rules.required if path.is_plain]
    if rules.by_type:
        conditions.append({"anyOf": [_has(Path(BILL_STATUS)), _type_is(_regex_of_kinds())]})
    for pattern, paths in rules.require.items():
        better = [name for name in rules.require if name != pattern and patterns.is_better(name, pattern)]
        applies = _lookahead(pattern, better)
        conditions += [{"anyOf": [_has(path), _type_is(f"^(?!{applies})")]} for path in paths if path.is_plain]
    return {**event, "allOf": conditions} if conditions else event


_NAME: Final = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0\s][^\u0000-\u001f\u007f-\u009f]*$"


def _type_is(regex: str) -> dict[str, Any]:
    return {"properties": {"data": {"properties": {"event_type": {"pattern": regex}}}}}


def _regex_of_kinds() -> str:
    """The event types that are documented without an account."""
    without = [kind.pattern for kind in KINDS if not kind.has_account]
    return f"^({'|'.join(_regex(pattern) for pattern in without)})$"


def _regex(pattern: str) -> str:
    """A type or pattern as a regular expression of ECMA-262 (JSON Schema)."""
    return ".*".join(re.escape(part).replace("\\/", "/") for part in pattern.split("*"))


def _lookahead(pattern: str, better: Sequence[str]) -> str:
    others = "".join(f"(?!{_regex(name)}$)" for name in better)
    return f"{others}{_regex(pattern)}$"


def _has(path: Path) -> dict[str, Any]:
    """That something stands at a plain path."""
    schema: dict[str, Any] = {"pattern": _HAS_TEXT, "not": {"enum": _NOTHING}}
    for step in reversed(path.text.split(".")):
        schema = {"type": "object", "required": [step], "properties": {step: schema}}
    return schema


def _needs(rules: Schema) -> str:
    """What is required here, for a person."""
    texts = [f"Every event needs {', '.join(path.text for path in rules.required)}."] if rules.required else []
    if rules.by_type:
        without = ", ".join(kind.pattern for kind in KINDS if not kind.has_account)
        texts.append(f"{BILL_STATUS} is required of events about an account, which are all but {without}.")
    texts += [
        f"{pattern} needs {', '.join(path.text for path in paths)}."
        for pattern, paths in rules.require.items()
        if paths
    ]
    return " ".join(texts)


class OpenApiPage:
    """Serves the document, made once."""

    def __init__(self, event_path: str, rules: Schema) -> None:
        self._body = orjson.dumps(describe(event_path, rules))

    async def get(self, _: web.Request) -> web.Response:
        """200 with the document."""
        return web.Response(body=self._body, content_type="application/json")
