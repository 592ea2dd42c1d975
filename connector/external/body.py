"""The body of a call, in one of its forms, as bytes with their Content-Type."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec

from connector.external.options import BodyOptions, Files, Form

JSON: Final = "application/json"


class Body(msgspec.Struct, frozen=True):
    """What is sent: the bytes, and the Content-Type where the caller names no other."""

    data: bytes
    content_type: str


async def body_of(options: BodyOptions) -> Body | None:
    """The body in the form that is given; None without one. Raises ValueError for two, TypeError for a wrong type."""
    given = [name for name in BodyOptions.__annotations__ if options.get(name) is not None]
    if len(given) > 1 and not (set(given) == {"form", "files"}):
        raise ValueError(f"a call has one body, not {' and '.join(f'{name}=' for name in given)}")
    if (files := options.get("files")) is not None:
        return await _multipart(files, options.get("form") or {})
    if (json := options.get("json")) is not None:
        return Body(msgspec.json.encode(json), JSON)
    if (form := options.get("form")) is not None:
        _expect(form, Mapping, "form", "a mapping of fields")
        return Body(urlencode(form).encode(), "application/x-www-form-urlencoded")
    if (xml := options.get("xml")) is not None:
        return Body(_xml(xml), "application/xml; charset=utf-8")
    if (text := options.get("text")) is not None:
        _expect(text, str, "text", "a text")
        return Body(text.encode(), "text/plain; charset=utf-8")
    if (data := options.get("data")) is not None:
        _expect(data, bytes | bytearray | memoryview, "data", "bytes (for fields of a form: form=, for JSON: json=)")
        return Body(bytes(data), JSON)
    return None


def _xml(xml: "str | ElementTree.Element") -> bytes:
    if isinstance(xml, ElementTree.Element):
        written: bytes = ElementTree.tostring(xml, encoding="utf-8", xml_declaration=True)
        return written
    _expect(xml, str, "xml", "a text or an Element")
    return xml.encode()


async def _multipart(files: Files, form: Form) -> Body:
    _expect(files, Mapping, "files", "a mapping of parts")
    _expect(form, Mapping, "form", "a mapping of fields")
    parts = aiohttp.FormData(default_to_multipart=True)
    for name, value in form.items():
        parts.add_field(name, str(value))
    for name, part in files.items():
        if isinstance(part, str | bytes):
            parts.add_field(name, part, filename=name if isinstance(part, bytes) else None)
        elif isinstance(part, tuple) and len(part) in (2, 3):
            parts.add_field(name, part[1], filename=part[0], content_type=part[2] if len(part) == 3 else None)
        else:
            raise TypeError("files= expects a text, bytes, (name, bytes) or (name, bytes, type) for each part")
    payload = parts()
    return Body(await payload.as_bytes(), payload.headers["Content-Type"])


def _expect(value: object, kind: Any, name: str, what: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name}= expects {what}, not {type(value).__name__}")
