"""One call as it goes out: its options, checked, made into URL, headers and body.

Whatever is wrong with them is a ``TargetMistake``, raised before anything is sent.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import hdrs
from yarl import URL

from connector.events.event import Event
from connector.external import headers as headers_of
from connector.external import urls
from connector.external.body import JSON, Body, body_of
from connector.external.mistakes import mistake
from connector.external.options import OPTIONS, Options

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")


class Request(msgspec.Struct, frozen=True):
    """A call, ready to be sent. ``shown`` is its path as it may be logged."""

    method: str
    url: URL
    data: bytes | None
    fields: dict[str, str]
    timeout: float | None
    shown: str


async def request_of(
    method: str, base: URL, path: str, values: Mapping[str, urls.Value] | None, options: Options, handler: str
) -> Request:
    """The call that ``Target.request`` is asked for, by ``handler``. Raises TargetMistake."""
    check_names(options, OPTIONS)
    url, shown = _url_of(base, path, values, options.get("params"))
    fields = _fields(options.get("event"), options.get("step", ""), handler, options.get("headers"))
    body = await _body(options)
    if body is not None:
        fields.setdefault(hdrs.CONTENT_TYPE, body.content_type)
    data = None if body is None else body.data
    return Request(method, url, data, fields, _seconds(options.get("timeout")), shown)


def check_names(options: Mapping[str, object], known: frozenset[str]) -> None:
    """Raises TargetMistake where an option is none of the known ones."""
    if not options.keys() <= known:
        raise mistake(f"this call has no option {', '.join(f'{name}=' for name in sorted(options.keys() - known))}")


def _url_of(
    base: URL, path: str, values: Mapping[str, urls.Value] | None, params: Mapping[str, urls.Value] | None
) -> tuple[URL, str]:
    """The URL, and the path as it may be logged."""
    if not path and not values and not params:
        return base, ""
    try:
        filled = urls.fill(path, values or {})
        urls.check(filled)
        return urls.join(base, filled, params), path.partition("?")[0] if values else urls.shown(filled)
    except (urls.PathRefused, AttributeError, TypeError) as error:
        raise mistake(str(error)) from None


def _fields(event: Event | None, step: str, handler: str, headers: Mapping[str, str] | None) -> dict[str, str]:
    if not isinstance(step, str):
        raise mistake(f"step= expects a text, not {type(step).__name__}")
    fields = headers_of.of_event(event, step, handler) if event is not None else {}
    for name, value in (headers or {}).items():
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value) or not _HEADER_NAME.fullmatch(name):
            raise mistake(f"the header {name[:50]!r} cannot be sent: a text on one line is expected")
        fields[name] = value
    return fields


async def _body(options: Options) -> Body | None:
    data = options.get("data")
    if type(data) is bytes and options.keys().isdisjoint(_FORMS_TO_MAKE):
        return Body(data, JSON)  # the forwarder's and most others': nothing is to be made
    try:
        return await body_of(options)
    except (TypeError, ValueError, LookupError, msgspec.EncodeError, OverflowError, RecursionError) as error:
        raise mistake(f"the body cannot be sent: {error}") from None


_FORMS_TO_MAKE: Final = frozenset({"json", "form", "xml", "text", "files"})


def _seconds(timeout: float | None) -> float | None:
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 86400
    ):
        raise mistake(f"timeout={timeout!r}: a number of seconds above 0 is expected")
    return timeout
