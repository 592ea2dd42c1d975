"""The body of a call, in one of its forms, as bytes with their Content-Type."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import msgspec

Form = Mapping[str, str | int]
"""Fields of a form, ``application/x-www-form-urlencoded``."""

Files = Mapping[str, str | bytes | tuple[str, bytes] | tuple[str, bytes, str]]
"""Parts of a ``multipart/form-data``: a text, bytes, (file name, bytes) or (file name, bytes, content type)."""


JSON: Final = "application/json"


class Body(msgspec.Struct, frozen=True):
    """What is sent: the bytes, and the Content-Type where the caller names no other."""

    data: bytes
    content_type: str


async def body_of(
    json: Any, form: Form | None, xml: "str | ElementTree.Element | None", text: str | None,
    data: bytes | None, files: Files | None,
) -> Body | None:  # fmt: skip
    """The body in the form that is given; None without one. Raises ValueError for two, TypeError for a wrong type."""
    given = [
        name
        for name, value in (
            ("json", json), ("form", form), ("xml", xml), ("text", text), ("data", data), ("files", files),
        )
        if value is not None
    ]  # fmt: skip
    if len(given) > 1 and not (set(given) == {"form", "files"}):
        raise ValueError(f"a call has one body, not {' and '.join(f'{name}=' for name in given)}")
    if files is not None:
        return await _multipart(files, form or {})
    if json is not None:
        return Body(msgspec.json.encode(json), JSON)
    if form is not None:
        _expect(form, Mapping, "form", "a mapping of fields")
        return Body(urlencode(form).encode(), "application/x-www-form-urlencoded")
    if xml is not None:
        return Body(_xml(xml), "application/xml; charset=utf-8")
    if text is not None:
        _expect(text, str, "text", "a text")
        return Body(text.encode(), "text/plain; charset=utf-8")
    if data is not None:
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
