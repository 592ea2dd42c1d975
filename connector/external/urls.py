"""Where a call goes: TARGET_URL and a path behind it, which cannot leave it.

A part of a path that comes from data stands in braces and is given as a value::

    put("/sims/{imsi}", {"imsi": imsi})

It is percent-encoded. A value that could be read as more than one segment or as another folder (``..``, a slash, a
backslash, a control character, nothing at all) is refused, encoded or not, since servers decode before they look; and
so is a whole path with such a part in it, whoever wrote it.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, quote_plus, unquote

from yarl import URL

Value = str | int | None
"""What may stand in a path or a query. None is refused in a path, and left out of a query."""

_PLACE: Final = re.compile(r"\{(\w+)\}")
_AS_WRITTEN: Final = "/%:@!$&'()*+,;=~"
"""Characters of a path that are sent as they are (RFC 3986, 3.3), the percent sign of what is encoded already too."""


class PathRefused(ValueError):
    """A path that may not be called; the text never repeats a value."""


def fill(path: str, values: Mapping[str, Value]) -> str:
    """``path`` with each ``{name}`` replaced by its value, percent-encoded. Raises PathRefused."""
    names = set(_PLACE.findall(path))
    if missing := sorted(names - values.keys()):
        raise PathRefused(f"the path {path} has no value for {', '.join(missing)}")
    if unused := sorted(values.keys() - names):
        raise PathRefused(f"the path {path} has no place for {', '.join(unused)}")
    return _PLACE.sub(lambda place: _segment(place[1], values[place[1]], path), path)


def check(path: str) -> None:
    """Raises PathRefused for a path that could lead out of TARGET_URL's."""
    if path and not path.startswith(("/", "?")):
        raise PathRefused("a path is put after TARGET_URL and begins with / or ?")
    plain, _, _ = path.partition("?")
    segments = plain.split("/")[1:]
    for number, segment in enumerate(segments):
        if not segment and number < len(segments) - 1:
            raise PathRefused("the path has an empty part (//)")
        if why := _climbs(segment):
            raise PathRefused(f"the path {why}")
    if "#" in path or not path.isprintable():
        raise PathRefused("the path has a character that cannot be sent in it")


def join(base: URL, path: str, params: Mapping[str, Value] | None = None) -> URL:
    """The URL of a call: the base's path, then ``path``; the base's query, then that of ``path``, then ``params``.

    Raises PathRefused.
    """
    for name, value in (params or {}).items():
        if not isinstance(name, str) or not isinstance(value, str | int | None):
            raise PathRefused(f"params= takes texts and whole numbers, and {name} is {type(value).__name__}")
    plain, _, query = path.partition("?")
    query = quote(query, safe=_AS_WRITTEN + "?")
    more = "&".join(
        f"{quote_plus(name)}={quote_plus(str(value))}" for name, value in (params or {}).items() if value is not None
    )
    whole = "&".join(part for part in (base.raw_query_string, query, more) if part)
    folder = base.raw_path.rstrip("/") if plain else base.raw_path
    text = f"{base.scheme}://{base.raw_authority}{folder}{quote(plain, safe=_AS_WRITTEN)}"
    return URL(f"{text}?{whole}" if whole else text, encoded=True)


def shown(path: str) -> str:
    """A path as it may stand in a log: its query left out, and every part of it that has a digit masked."""
    plain = path.partition("?")[0]
    return "/".join("***" if any(c.isdigit() for c in part) and len(part) > 3 else part for part in plain.split("/"))


def without_secrets(url: str) -> str:
    """A URL of the settings as a person may see it: the values of its query are masked."""
    plain, mark, query = url.partition("?")
    return plain + mark + re.sub(r"=[^&]*", "=***", query)


def _segment(name: str, value: object, path: str) -> str:
    if value is None:
        raise PathRefused(f"the value for {name} in the path {path} is missing")
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise PathRefused(f"the value for {name} in the path {path} is neither text nor a whole number")
    text = str(value)
    if not text.strip():
        raise PathRefused(f"the value for {name} in the path {path} is empty")
    if why := _climbs(text):
        raise PathRefused(f"the value for {name} in the path {path} {why}")
    return quote(text, safe="")


def _climbs(segment: str) -> str:
    """What is wrong with one part of a path, as it stands or decoded, once or more."""
    for _ in range(4):
        if segment.strip() in (".", "..") or segment.partition(";")[0].strip() in (".", ".."):
            return "leads to another folder (..)"
        if "/" in segment or "\\" in segment:
            return "has a slash or backslash inside a part"
        if any(ord(c) < 0x20 or ord(c) == 0x7F for c in segment):
            return "has a control character in it"
        decoded = unquote(segment)
        if decoded == segment:
            return ""
        segment = decoded
    return "is encoded too often"
