"""Every setting: name, type, default, unit and meaning. All errors are reported at once.

The names are the environment's (and ``.env``'s) and part of the product. A new setting is one entry of ``Settings``,
and its meaning and default in ``.env.example`` (a test compares the two).

A secret may also stand in a file of its own, whose path is in its name with ``_FILE`` at the end. Paths are made
absolute here, once: what changes the working directory later changes no setting.
"""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, cast

from connector import env_file
from connector import setting_values as kind
from connector.errors import StartError
from connector.setting_values import Network, StatusOutcome

FORWARDER = "connector.handlers.forward"

MAX_SECRET_FILE = 2**16
"""Bytes of a file that holds a secret."""

SHORTEST_TOKEN = 16
"""Characters; a shorter token can be guessed."""


def _setting(default: str, parse: Callable[[str], Any], meaning: str, *, secret: bool = False) -> Any:
    return field(
        default_factory=lambda: parse(default),
        metadata={"default": default, "parse": parse, "meaning": meaning, "secret": secret},
        repr=not secret,
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one connector. Sizes are bytes and times seconds; a field's meaning is its metadata."""

    api_token: tuple[str, ...] = _setting(
        "",
        kind.tokens,
        "Bearer tokens that NSPS may use; several, comma-separated, for rotation. "
        "Unset: one is made at start and printed to stderr.",
        secret=True,
    )
    host: str = _setting("0.0.0.0", kind.text, "Address to listen on.")  # noqa: S104 - a container's address is not known
    port: int = _setting("3000", kind.whole(0, 65535), "Port to listen on; 0 takes a free one.")
    event_path: str = _setting("/process-event", kind.url_path, "Path that NSPS posts events to; / is legal.")
    required_fields: tuple[str, ...] | None = _setting(
        "",
        kind.field_paths,
        "Fields without which an event of any type is refused (422), comma-separated. Unset: bill_status, of those "
        "types that come with an account (docs/nsps.md).",
    )
    order_by: str = _setting(
        "",
        kind.order,
        "What an event touches: roles or fields, such as account+card+previous_card. Events that share one run in "
        "order. Unset: the table of event types in docs/nsps.md.",
    )
    newest_by: str = _setting(
        "updated_at",
        kind.choice("updated_at", "event_time"),
        "With latest_only: what decides between snapshots whose updated_at are within the 5 s that NSPS caches.",
    )
    max_body_bytes: int = _setting("2MiB", kind.size(1024), "Largest body, after inflating (413 above it).")
    body_timeout: float = _setting("30s", kind.time(0.01), "How long a body may take to arrive (408 after it).")
    bodies_bytes: int = _setting(
        "64MiB", kind.size(1024), "Bytes of bodies under way at the same time; who comes later waits, then gets 429."
    )
    max_connections: int = _setting(
        "2000", kind.whole(1, 60_000), "Connections at the same time; fewer where the limit of descriptors is lower."
    )
    max_connections_per_address: int = _setting(
        "500",
        kind.whole(1, 60_000),
        "Connections of one address over which no good token came; at most half of MAX_CONNECTIONS.",
    )
    keepalive_timeout: float = _setting(
        "75s", kind.time(1), "How long an idle connection is kept; longer than the balancer in front keeps it."
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "", kind.networks, "Addresses or networks of proxies whose X-Forwarded-For is believed, comma-separated."
    )
    tls_cert_file: str = _setting("", kind.file_path, "Certificate chain (PEM) for TLS on PORT. Unset: no TLS.")
    tls_key_file: str = _setting(
        "", kind.file_path, "Its key (PEM, without a password). Unset: it is in TLS_CERT_FILE."
    )
    handlers: tuple[str, ...] = _setting(
        "", kind.words, "Modules with your handlers, comma-separated import paths. Unset: every event is logged."
    )
    handler_timeout: float = _setting("60s", kind.time(0.01), "When an attempt to handle an event is cut off.")
    max_attempts: int = _setting(
        "0",
        kind.whole(0, 1_000_000),
        "Attempts until an event is dead, the first included; 0: as many as fit in MAX_AGE.",
    )
    max_age: float = _setting("7d", kind.time(0), "Age at which an event that still fails is dead.")
    retry_base: float = _setting("1s", kind.time(0.001), "Wait after the first failed attempt; it doubles each time.")
    retry_max: float = _setting("10m", kind.time(0.001), "Longest wait between two attempts.")
    on_dead: str = _setting(
        "continue",
        kind.choice("continue", "hold"),
        "What a dead event does to its subscriber: continue with the next one, or hold until an operator decides.",
    )
    workers: int = _setting("8", kind.whole(1, 1000), "How many events are handled at the same time.")
    queue_size: int = _setting("1000", kind.whole(1, 1_000_000), "How many events are held in memory.")
    queue_bytes: int = _setting(
        "64MiB", kind.size(1024), "How many bytes of their bodies are held in memory; more wait in the journal."
    )
    journal_url: str = _setting(
        "sqlite:///data/journal.db",
        kind.journal_url,
        "Where accepted events are kept: sqlite:///relative or sqlite:////absolute path; memory:// keeps nothing.",
    )
    max_backlog: int = _setting("1000000", kind.whole(1, 1_000_000_000), "Events that may be open (429 above it).")
    max_backlog_bytes: int = _setting(
        "10GiB",
        kind.size(1024),
        "Bytes of the bodies of open events (429 above it); with memory:// they are in memory.",
    )
    min_free_disk: int = _setting(
        "256MiB", kind.size(0), "Room on the journal's disk that is left alone (429 below it)."
    )
    keep_done: float = _setting("3d", kind.time(0), "How long an event that ended well can be looked at and replayed.")
    keep_dead: float = _setting("35d", kind.time(0), "How long a dead event can be looked at and replayed.")
    keep_ids: float = _setting("35d", kind.time(0), "How long an event id is remembered, so that it is not repeated.")
    keep_newest: float = _setting(
        "365d", kind.time(0), "How long it is known which snapshot a latest_only handler has applied last."
    )
    response: str = _setting(
        "accepted",
        kind.choice("accepted", "outcome"),
        "When a request is answered: once its event is kept, or once its outcome is known. See docs/outcome-mode.md.",
    )
    outcome_timeout: float = _setting(
        "20s", kind.time(0.01), "With RESPONSE=outcome: when a request is answered 202 although its event still runs."
    )
    drain_delay: float = _setting(
        "0", kind.time(0), "How long a stop goes on accepting, so that a balancer can forget this connector first."
    )
    drain_timeout: float = _setting("25s", kind.time(0), "How long a stop waits for events that are being handled.")
    target_url: str = _setting(
        "",
        kind.http_url,
        "Base URL of the external system, with a path and a query or without. Unset: there is none.",
        secret=True,
    )
    targets: tuple[str, ...] = _setting(
        "",
        kind.target_names,
        "Names of several external systems, such as hlr,crm. Each has all of TARGET_* and BREAKER_* under its own "
        "name: HLR_URL, HLR_AUTH, HLR_BREAKER_FAILURES, ... (BREAKER_* alone is the default of all).",
    )
    target_auth: str = _setting(
        "none",
        kind.choice("none", "basic", "bearer", "key", "oauth2"),
        "How to log in at the target: none, basic, bearer, key, oauth2.",
    )
    target_user: str = _setting("", kind.text, "User for TARGET_AUTH=basic.")
    target_password: str = _setting("", kind.secret, "Password for TARGET_AUTH=basic.", secret=True)
    target_token: str = _setting("", kind.token, "Token for TARGET_AUTH=bearer, key for TARGET_AUTH=key.", secret=True)
    target_key_header: str = _setting("X-Api-Key", kind.header_name, "Header for TARGET_AUTH=key.")
    target_token_url: str = _setting("", kind.http_url, "Token server for TARGET_AUTH=oauth2.")
    target_client_id: str = _setting("", kind.text, "Client id for TARGET_AUTH=oauth2.")
    target_client_secret: str = _setting("", kind.secret, "Client secret for TARGET_AUTH=oauth2.", secret=True)
    target_refresh_token: str = _setting(
        "", kind.secret, "Refresh token for TARGET_AUTH=oauth2. Unset: client credentials are used.", secret=True
    )
    target_scope: str = _setting("", kind.text, "Scope to ask for with TARGET_AUTH=oauth2, words separated by spaces.")
    target_audience: str = _setting("", kind.text, "Audience to ask for with TARGET_AUTH=oauth2.")
    target_resource: str = _setting("", kind.text, "Resource to ask for with TARGET_AUTH=oauth2 (RFC 8707).")
    target_client_auth: str = _setting(
        "basic",
        kind.choice("basic", "body"),
        "Where client id and secret stand in a request for a token: HTTP Basic, or the body.",
    )
    target_timeout: float = _setting(
        "20s", kind.time(0.01), "How long a call may take in all; less than HANDLER_TIMEOUT."
    )
    target_connect_timeout: float = _setting("5s", kind.time(0.01), "How long connecting may take.")
    target_rate: float = _setting("0", kind.number(0, 1_000_000), "Calls a second to the target at most; 0: no limit.")
    target_burst: int = _setting("0", kind.whole(0, 1_000_000), "Calls at once after a rest; 0: those of a second.")
    target_concurrency: int = _setting(
        "0", kind.whole(0, 10_000), "Calls at the same time at most; 0: as many as WORKERS."
    )
    target_ca_file: str = _setting("", kind.file_path, "Certificates (PEM) to trust. Unset: those of the system.")
    target_cert_file: str = _setting("", kind.file_path, "Client certificate (PEM), if the target asks for one.")
    target_key_file: str = _setting(
        "", kind.file_path, "Its key (PEM, without a password). Unset: it is in TARGET_CERT_FILE."
    )
    target_status: Mapping[int, StatusOutcome] = _setting(
        "",
        kind.statuses,
        "What a status means where it is not the usual: 404=done,409=retry (done, retry, dead, ignored).",
    )
    breaker_failures: int = _setting(
        "10",
        kind.whole(0, 1_000_000),
        "Subscribers whose calls fail, one after the other, until calls are held; 0: off.",
    )
    breaker_share: float = _setting(
        "50", kind.number(0, 100), "Percentage of failures among the last BREAKER_CALLS with the same effect; 0: off."
    )
    breaker_calls: int = _setting("50", kind.whole(1, 100_000), "How many calls BREAKER_SHARE looks at.")
    breaker_cool_down: float = _setting(
        "1s", kind.time(0.001), "Wait until a target that is held is tried; it doubles while it stays unavailable."
    )
    breaker_cool_down_max: float = _setting("10s", kind.time(0.001), "Longest wait until it is tried again.")
    forward_types: tuple[str, ...] = _setting(
        "", kind.words, "Event types that connector.handlers.forward posts, comma-separated. Unset: all."
    )
    forward_mapping: str = _setting(
        "", kind.file_path, "TOML or JSON file that says what it posts. Unset: the event as it came."
    )
    log_level: str = _setting("INFO", kind.choice("DEBUG", "INFO", "WARNING", "ERROR"), "Least level that is logged.")
    access_log: bool = _setting("false", kind.switch, "Also log a line for each HTTP request.")
    log_calls: bool = _setting("true", kind.switch, "Log a line for each call to the external system.")
    named_targets: Mapping[str, "Settings"] = field(default_factory=dict)

    @property
    def journal_path(self) -> Path | None:
        """The file of an SQLite journal; None for another kind of journal."""
        kind, _, path = self.journal_url.partition(":///")
        return Path(path) if kind == "sqlite" else None

    @property
    def of_targets(self) -> Mapping[str, "Settings"]:
        """The settings as each external system sees them: its own under the names TARGET_* and BREAKER_*."""
        return ({"target": self} if self.target_url else {}) | dict(self.named_targets)

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings in ``environment``. Raises StartError with every error, one a line; never shows a value."""
        errors: list[str] = []
        environment = {**environment, **_from_files(environment, errors)}
        values = _parse(environment, errors)
        for name in values.get("targets", ()):
            values.setdefault("named_targets", {})[name] = _of_target(name, environment, values, errors)
        settings = cls(**values)
        _add_contradictions(settings, errors)
        if errors:
            raise StartError("\n".join(errors))
        return settings


def _parse(environment: Mapping[str, str], errors: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for each in _declared():
        name = each.name.upper()
        text = environment.get(name, "")
        if not text.strip():
            continue
        try:
            values[each.name] = each.metadata["parse"](text)
        except ValueError as error:
            errors.append(f"{name}: {error}")
    return values


def _declared() -> list[Field[Any]]:
    return [each for each in fields(Settings) if each.metadata]


def secret_files(environment: Mapping[str, str]) -> dict[str, Path]:
    """The secrets that stand in files of their own: the setting's name, and the path that its ``NAME_FILE`` gives."""
    secrets = {each.name.upper() for each in _declared() if each.metadata["secret"]}
    for target in kind.words(environment.get("TARGETS", "")):
        secrets |= {name for name, plain in target_settings(target).items() if plain in secrets}
    found = {name: environment.get(f"{name}_FILE", "").strip() for name in sorted(secrets)}
    return {name: Path(path).absolute() for name, path in found.items() if path}


def _from_files(environment: Mapping[str, str], errors: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, path in secret_files(environment).items():
        if environment.get(name, "").strip():
            errors.append(f"{name}_FILE: {name} is set as well; keep one of them")
            continue
        try:
            values[name] = _secret_in(path)
        except ValueError as error:
            errors.append(f"{name}_FILE: {error}")
        except OSError as error:
            errors.append(f"{name}_FILE: {path} cannot be read: {error.strerror}")
    return values


def _secret_in(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    with path.open("rb") as file:
        data = file.read(MAX_SECRET_FILE + 1)
    if len(data) > MAX_SECRET_FILE:
        raise ValueError(f"{path} is over {MAX_SECRET_FILE} bytes")
    try:
        text = data.decode("utf-8-sig").strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no UTF-8 text") from None
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text


def _add_contradictions(settings: Settings, errors: list[str]) -> None:
    wrong = {error.partition(":")[0] for error in errors}
    for names, text in _contradictions(settings):
        if wrong.isdisjoint(names):
            errors.append(f"{', '.join(names)}: {text}")


def target_settings(name: str) -> dict[str, str]:
    """The settings of a target from TARGETS: their names in the environment, and the names of which they are."""
    prefix = f"{name.upper()}_"
    own = {each.name.upper() for each in _declared()}
    return {
        prefix + each.removeprefix("TARGET_"): each for each in sorted(own) if each.startswith(("TARGET_", "BREAKER_"))
    }


def _of_target(name: str, environment: Mapping[str, str], values: Mapping[str, Any], errors: list[str]) -> Settings:
    names = target_settings(name)
    if taken := sorted(names.keys() & {each.name.upper() for each in _declared()}):
        errors.append(f"TARGETS: {name} cannot be a name here: {taken[0]} is another setting")
        return Settings()
    mine: list[str] = []
    own = _parse({plain: environment[each] for each, plain in names.items() if each in environment}, mine)
    rest = {each: value for each, value in values.items() if not each.startswith(("target", "named"))}
    settings = Settings(**(rest | own))
    if not settings.target_url and not any(error.startswith("TARGET_URL:") for error in mine):
        mine.append(f"TARGET_URL: TARGETS names {name}, so it is needed")
    _add_contradictions(settings, mine)
    as_set = {plain: each for each, plain in names.items()}
    pattern = re.compile(r"\b(" + "|".join(sorted(as_set, key=len, reverse=True)) + r")\b")
    errors.extend(pattern.sub(lambda found: as_set[found[1]], error) for error in mine)
    return settings


def _contradictions(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with settings that are right each by itself: their names, the one to change first, and why."""
    if settings.tls_key_file and not settings.tls_cert_file:
        yield ("TLS_CERT_FILE", "TLS_KEY_FILE"), "a key needs its certificate"
    if not settings.target_url:
        if FORWARDER in settings.handlers and not settings.targets:
            yield ("TARGET_URL", "HANDLERS"), f"{FORWARDER} needs a TARGET_URL to post to"
        return
    yield from _credentials(settings)
    if settings.target_timeout >= settings.handler_timeout:
        yield ("TARGET_TIMEOUT", "HANDLER_TIMEOUT"), "a call must end before its handler is cut off"
    if settings.target_key_file and not settings.target_cert_file:
        yield ("TARGET_CERT_FILE", "TARGET_KEY_FILE"), "a key needs its certificate"


def _credentials(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    needed = {
        "none": (),
        "basic": ("target_user",),
        "bearer": ("target_token",),
        "key": ("target_token",),
        "oauth2": ("target_token_url", "target_client_id"),
    }[settings.target_auth]
    for name in needed:
        if not getattr(settings, name):
            yield (name.upper(), "TARGET_AUTH"), f"TARGET_AUTH={settings.target_auth} needs it"
    if settings.target_auth == "oauth2" and not (settings.target_client_secret or settings.target_refresh_token):
        yield ("TARGET_CLIENT_SECRET", "TARGET_REFRESH_TOKEN"), "TARGET_AUTH=oauth2 needs one of them"
    if settings.target_auth == "none":
        for name in ("target_password", "target_token", "target_client_secret", "target_refresh_token"):
            if getattr(settings, name):
                yield (name.upper(), "TARGET_AUTH"), "it is set, but TARGET_AUTH=none makes no use of it"


def only(environment: Mapping[str, str], *names: str) -> dict[str, str]:
    """Of these variables those of these settings, with those that begin so where a name ends with ``_``.

    For what uses no other setting: a mistake in another one is no matter then, nor a secret's file that is just being
    replaced.
    """
    whole = [name for name in names if not name.endswith("_")]
    begun = tuple(name for name in names if name.endswith("_"))
    return {name: text for name, text in environment.items() if name in whole or name.startswith(begun)}


OF_JOURNAL: Final = ("JOURNAL_", "KEEP_", "MIN_FREE_DISK", "RETRY_MAX")
"""What operators' commands use."""


def environment() -> dict[str, str]:
    """The process's environment, and ``.env`` in the working directory where it is silent. Raises StartError."""
    return {**env_file.read(Path.cwd() / ".env"), **os.environ}


def warnings(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """What is legal and probably a mistake, a line each: for the start and for ``check``. Never shows a value."""
    for number, token in enumerate(settings.api_token, 1):
        which = "API_TOKEN" if len(settings.api_token) == 1 else f"API_TOKEN (token {number})"
        if _PLACEHOLDER.fullmatch(token):
            yield f"{which}: this is the placeholder of a guide, which everybody knows; {_MAKE_ONE}"
        elif len(token) < SHORTEST_TOKEN:
            yield f"{which}: a token of under {SHORTEST_TOKEN} characters can be guessed; {_MAKE_ONE}"
    for each in _declared():
        text = environment.get(each.name.upper(), "").strip()
        if each.name == "api_token" or not text:
            continue
        if each.metadata["secret"] and _PLACEHOLDER.fullmatch(text):
            yield f"{each.name.upper()}: this is the placeholder of a guide; set the real one"
        if len(text) > 1 and text[0] == text[-1] and text[0] in kind.QUOTES:
            yield f"{each.name.upper()}: it begins and ends with a quote, which is taken for a part of it"
    file = Path.cwd() / ".env"
    if env_file.is_open_to_others(file) and any(
        each.metadata["secret"] and env_file.read(file).get(each.name.upper(), "").strip() for each in _declared()
    ):
        yield f"{file} has secrets and every user of this machine can read it: chmod 600 {file}"
    yield from _unknown_names(environment)


_PLACEHOLDER = re.compile(
    r"<.*>|your[-_ ].*|(secure|random|secret)[-_].*(token|secret|key|password)"
    r"|change[-_]?me|(api[-_]?)?token|secret|password",
    re.IGNORECASE,
)
_MAKE_ONE = "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
_OUR_PREFIXES = ("API_TOKEN", "TARGET_", "BREAKER_", "JOURNAL_", "FORWARD_", "RETRY_", "KEEP_")
_NOT_OURS = re.compile(r"JOURNAL_STREAM|SSL_CERT_FILE|.*_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP).*)?)")
"""Names of systemd, OpenSSL and Kubernetes."""


def _unknown_names(environment: Mapping[str, str]) -> Iterator[str]:
    """Names that look like settings and are none."""
    known = {each.name.upper() for each in _declared()}
    known |= {f"{each.name.upper()}_FILE" for each in _declared() if each.metadata["secret"]}
    targets = kind.words(environment.get("TARGETS", ""))
    ours = known | {f"{name}{end}" for target in targets for name in target_settings(target) for end in ("", "_FILE")}
    for name in sorted(environment.keys() - ours):
        if _NOT_OURS.fullmatch(name):
            continue
        near = difflib.get_close_matches(name.upper().replace("-", "_"), sorted(ours), 1, 0.84)
        if near:
            yield f"{name} is not a setting; did you mean {near[0]}?"
        elif name.startswith("WTL_") and "wtl" not in targets:
            yield f"{name} is a setting of PortaOne's example, not of this connector: see TARGET_URL in .env.example"
        elif name.startswith(_OUR_PREFIXES):
            yield f"{name} is not a setting of this connector: see .env.example"


def describe() -> list[tuple[str, str, str]]:
    """Every setting as (name, default as it would stand in ``.env``, meaning), in the order of declaration."""
    return [
        (each.name.upper(), cast("str", each.metadata["default"]), cast("str", each.metadata["meaning"]))
        for each in _declared()
    ]
