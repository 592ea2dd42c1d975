"""``GET /openapi.json``: the API as it is, made from the types that decode requests and render answers."""

from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from connector.events.body import EventBody
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
    500: "A fault of the connector",
    503: "The event cannot be kept now, or the connector is shutting down; send it again later",
}


NUMERIC: Final = "^(0|-?[1-9][0-9]*)$"


class EventResponse(msgspec.Struct):
    """The event is kept."""

    message: str = "Event accepted for processing"


class Status(msgspec.Struct):
    """How the connector is."""

    status: str


def describe(event_path: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a connector that takes events at ``event_path``."""
    (event, accepted, refused, status), components = msgspec.json.schema_components(
        [EventBody, EventResponse, ErrorResponse, Status], ref_template="#/components/schemas/{name}"
    )
    for schema in components.values():
        for described in schema.get("properties", {}).values():
            _take_numeric_strings(described)

    def answer(text: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"description": text, "content": {"application/json": {"schema": schema}}}

    refusals = {str(code): answer(text, refused) for code, text in _REFUSALS.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "NSPS connector", "version": __version__},
        "paths": {
            event_path: {
                "post": {
                    "summary": "Take an event",
                    "description": "202 once the event is kept, also for one that was sent before.",
                    "operationId": "process_event",
                    "security": [{"HTTPBearer": []}],
                    "requestBody": {"required": True, "content": {"application/json": {"schema": event}}},
                    "responses": {"202": answer("The event is kept", accepted), **refusals},
                }
            },
            "/health": {
                "get": {
                    "summary": "Whether the process lives",
                    "operationId": "health",
                    "responses": {"200": answer("It does", status)},
                }
            },
            "/ready": {
                "get": {
                    "summary": "Whether events are wanted",
                    "operationId": "ready",
                    "responses": {"200": answer("They are", status), "503": answer("Not now", refused)},
                }
            },
            "/openapi.json": {
                "get": {
                    "summary": "This document",
                    "operationId": "openapi",
                    "responses": {"200": answer("This document", {"type": "object"})},
                }
            },
        },
        "components": {
            "schemas": components,
            "securitySchemes": {"HTTPBearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _take_numeric_strings(schema: dict[str, Any]) -> None:
    """Say that a number may come as a numeric string, as ids do (``connector.events.event``)."""
    options = schema.get("anyOf", [])
    if {"type": "integer"} in options and not any(option.get("type") == "string" for option in options):
        options.append({"type": "string", "pattern": NUMERIC})


class OpenApiPage:
    """Serves the document, made once."""

    def __init__(self, event_path: str) -> None:
        self._body = orjson.dumps(describe(event_path))

    async def get(self, _: web.Request) -> web.Response:
        """200 with the document."""
        return web.Response(body=self._body, content_type="application/json")
