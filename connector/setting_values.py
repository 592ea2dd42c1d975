"""How the values of settings are written, one reader a kind: each takes the text and gives the value.

Raises ValueError with what is expected. No reader knows which setting it is for, and none shows a secret.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, Literal, cast, get_args
from urllib.parse import urlsplit

from connector.events import paths
from connector.events.resources import Order

StatusOutcome = Literal["done", "retry", "dead", "ignored"]

Network = IPv4Network | IPv6Network

RESERVED_PATHS: Final = ("/health", "/ready", "/openapi.json")

QUOTES: Final = frozenset("'\"")

_SIZE = re.compile(r"(\d+)\s*([kmg]i?b?)?", re.IGNORECASE)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_TIME_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 3650 * 86400.0  # the event loop's timers cannot wait forever


def text(value: str) -> str:
    """Any text, without the white space around it."""
    return value.strip()


def words(value: str) -> tuple[str, ...]:
    """Words, separated by commas."""
    return tuple(word.strip() for word in value.split(",") if word.strip())


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """A whole number within these bounds."""

    def parse(value: str) -> int:
        number = int(value) if re.fullmatch(r"-?\d+", value.strip()) else None
        if number is None or not lowest <= number <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest} is expected")
        return number

    return parse


def size(lowest: int) -> Callable[[str], int]:
    """Bytes, such as ``2097152`` or ``2MiB``."""

    def parse(value: str) -> int:
        found = _SIZE.fullmatch(value.strip())
        size = int(found[1]) * _SIZE_UNITS[(found[2] or "")[:1].lower()] if found else -1
        if size < lowest:
            raise ValueError(f"a size in bytes of at least {lowest} is expected, such as 2097152 or 2MiB")
        return size

    return parse


def seconds(text: str) -> float | None:
    """A time such as ``30``, ``500ms``, ``5m`` or ``35d`` in seconds, which is also its unit where none stands.

    None if it is no time. The command line reads ages by the same grammar.
    """
    found = _TIME.fullmatch(text.strip())
    return float(found[1]) * _TIME_UNITS[(found[2] or "s").lower()] if found else None


def time(lowest: float) -> Callable[[str], float]:
    """As ``seconds``, of at least ``lowest``."""

    def parse(value: str) -> float:
        time = seconds(value)
        if time is None or not lowest <= time <= _LONGEST:
            raise ValueError(f"a time in seconds from {lowest:g} to ten years is expected, such as 30, 500ms, 5m, 35d")
        return time

    return parse


def switch(value: str) -> bool:
    """true or false, in the usual words."""
    word = value.strip().lower()
    if word not in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
        raise ValueError("true or false is expected")
    return word in {"1", "true", "yes", "on"}


def choice(*names: str) -> Callable[[str], str]:
    """One of these names, in any case."""

    def parse(value: str) -> str:
        if value.strip().lower() not in {name.lower() for name in names}:
            raise ValueError(f"one of {', '.join(names)} is expected")
        return next(name for name in names if name.lower() == value.strip().lower())

    return parse


def url_path(value: str) -> str:
    """The path of a URL that is none of our own."""
    path = value.strip()
    if not re.fullmatch(r"/|(/(?!\.{1,2}(/|$))[\w\-.~]+)+/?", path, re.ASCII):
        raise ValueError("a path such as /process-event or / is expected")
    if path.rstrip("/") in RESERVED_PATHS:
        raise ValueError(f"{path} is one of the connector's own paths: {', '.join(RESERVED_PATHS)}")
    return path


def field_paths(value: str) -> tuple[str, ...] | None:
    """Paths into an event, separated by commas; None without any."""
    named = [path.strip() for path in paths.split(value, ",") if path.strip()]
    for each in named:
        paths.path(each)
    return tuple(named) or None


def order(value: str) -> str:
    """A rule of order (``events.resources``)."""
    return Order(value).text


def tokens(value: str) -> tuple[str, ...]:
    """Bearer tokens, separated by commas or lines."""
    return tuple(map(token, words(value.replace("\n", ","))))


def token(token: str) -> str:
    """A Bearer token. Raises ValueError, which never shows it."""
    token = token.strip()
    if re.match(r"bearer\b", token, re.IGNORECASE):
        raise ValueError("a token without the word Bearer is expected: that is added where it is sent")
    if token[:1] in QUOTES or token[-1:] in QUOTES:
        raise ValueError("a token without quotes is expected; `docker run --env-file` takes quotes for a part of it")
    if not re.fullmatch(r"[\x21-\x7e]*", token):
        raise ValueError("tokens are printable ASCII without spaces, separated by commas")
    return token


def journal_url(value: str) -> str:
    """Where the journal is; the path of a file is made absolute."""
    url = value.strip()
    if url != "memory://" and not re.fullmatch(r"sqlite:///.+", url):
        raise ValueError("sqlite:///data/journal.db (relative), sqlite:////var/lib/journal.db or memory:// is expected")
    kind, _, path = url.partition(":///")
    return f"sqlite:///{Path(path).absolute()}" if kind == "sqlite" else url


def file_path(value: str) -> str:
    """A path, made absolute; empty where there is none."""
    return str(Path(value.strip()).absolute()) if value.strip() else ""


def networks(value: str) -> tuple[Network, ...]:
    """Addresses and networks, separated by commas."""
    try:
        return tuple(ip_network(word, strict=False) for word in words(value))
    except ValueError:
        raise ValueError("addresses or networks such as 10.0.0.7, 10.0.0.0/8 or fd00::/8 are expected") from None


def number(lowest: float, highest: float) -> Callable[[str], float]:
    """A number within these bounds."""

    def parse(value: str) -> float:
        number = float(value) if re.fullmatch(r"\d+(\.\d+)?", value.strip()) else -1.0
        if not lowest <= number <= highest:
            raise ValueError(f"a number from {lowest:g} to {highest:g} is expected")
        return number

    return parse


def http_url(value: str) -> str:
    """A URL of http or https; empty where there is none."""
    url = value.strip()
    if not url:
        return url
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        whole = False
    if not whole or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("a URL such as https://hlr.example:8443/api is expected")
    if parts.username is not None or parts.fragment:
        raise ValueError("a URL without user, password and fragment is expected (for a user: TARGET_AUTH)")
    host = (parts.hostname or "").rstrip(".")
    if ":" not in host and not re.fullmatch(r"(?=.{1,253}\Z)(?!-)[\w-]{1,63}(?<!-)(\.(?!-)[\w-]{1,63}(?<!-))*", host):
        raise ValueError("its host name cannot be one: parts of 1 to 63 letters, digits and hyphens are expected")
    return url


def target_names(value: str) -> tuple[str, ...]:
    """Names of targets, separated by commas."""
    names = tuple(word.lower() for word in words(value))
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", name) or name == "target":
            raise ValueError("names such as hlr,crm are expected: letters, digits and _")
    if len(set(names)) < len(names):
        raise ValueError("a name stands there twice")
    return names


def header_name(value: str) -> str:
    """The name of a header."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", value.strip()):
        raise ValueError("the name of a header such as X-Api-Key is expected")
    return value.strip()


def secret(value: str) -> str:
    """A text on one line."""
    if not value.isprintable():
        raise ValueError("it has characters that cannot be sent, such as a line break")
    return value.strip()


def statuses(value: str) -> dict[int, StatusOutcome]:
    """``404=done,409=retry``: what statuses mean."""
    outcomes: dict[int, StatusOutcome] = {}
    for entry in words(value):
        found = re.fullmatch(r"([1-5]\d\d)\s*=\s*(\w+)", entry)
        if found is None or found[2] not in get_args(StatusOutcome):
            raise ValueError("entries such as 404=done,409=retry are expected; done, retry, dead or ignored")
        outcomes[int(found[1])] = cast("StatusOutcome", found[2])
    return outcomes
