"""What a call to the external system gives: a ``TargetResponse``, or a ``TargetFailed`` that is raised.

The status decides what a call means (``failures``); a body or headers that cannot be read change nothing in that. So a
response carries what was read and a note on what was not, and only a handler that needs the body meets an error.

::

    TargetFailed            any of these; has kind, status, response
      TargetRetry           (a Retry) the event is tried again
      TargetDead            (a DeadLetter) the event is dead
        TargetMistake       the call itself is wrong: the handler has a mistake
      TargetIgnored         (an Ignored) there was nothing to do
      TargetUnavailable     (a Postponed) no call can be made now: the event is given back and spends no attempt
        TargetBusy          ... because the call's turn is too far away (rate or concurrency)
"""

import codecs
import re
from enum import StrEnum
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

import msgspec
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring
from multidict import CIMultiDict, CIMultiDictProxy

from connector.outcome import DeadLetter, Ignored, Postponed, Retry

_STATUS_LINE: Final = re.compile(rb"HTTP/\d(?:\.\d)? ([1-9]\d\d)(?:[ \t][^\r\n]*)?\r?\n")
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)
_MOST_HEADERS: Final = 100

NO_HEADERS: Final[CIMultiDictProxy[str]] = CIMultiDictProxy(CIMultiDict())


class Kind(StrEnum):
    """How a call failed, for whoever has to answer for it.

    ``DOWN``  no answer, or one that says that the target is not available.  ``FAILED``  an error of the target's own.
    ``REFUSED``  it does not want this request.  ``RATE_LIMITED``  too many calls.  ``NOT_FOUND``  no such resource.
    """

    DOWN = "down"
    FAILED = "failed"
    REFUSED = "refused"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"


class TargetResponse(msgspec.Struct, frozen=True):
    """What the target answered.

    ``status``   the status code; it decides what becomes of the event
    ``headers``  names in any case
    ``body``     its bytes, decompressed; what of it could be read where ``note`` is set, None where that is nothing
    ``note``     empty, or what could not be read and why
    """

    status: int
    headers: CIMultiDictProxy[str] = NO_HEADERS
    body: bytes | None = b""
    note: str = ""

    def json(self) -> Any:
        """The body's JSON; None for an empty body, as with 204.

        A byte order mark is left out; UTF-8 is expected, else the charset of Content-Type, else Latin-1 (RFC 8259, 8.1
        asks for UTF-8; not all targets know). Raises TargetRetry where the body is no JSON or was not read whole.
        """
        body = self._whole().removeprefix(codecs.BOM_UTF8)
        if not body.strip():
            return None
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        try:
            return msgspec.json.decode(self._decoded(body).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"))
        except (msgspec.DecodeError, UnicodeEncodeError):
            raise TargetRetry(
                f"the target answered {self.status} with a body that is no JSON", Kind.FAILED, self
            ) from None

    def text(self) -> str:
        """The body as text, by the charset of Content-Type, else UTF-8, else Latin-1.

        Raises TargetRetry where it was not read whole.
        """
        return self._decoded(self._whole().removeprefix(codecs.BOM_UTF8))

    def xml(self) -> Element:
        """The body's XML. Raises TargetRetry where it is none, was not read whole, or has entities or a DTD in it."""
        try:
            root: Element = fromstring(self._whole(), forbid_dtd=True)
        except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
            what = "forbidden XML" if isinstance(error, DefusedXmlException) else "no XML"
            raise TargetRetry(
                f"the target answered {self.status} with a body that is {what}", Kind.FAILED, self
            ) from None
        return root

    def _whole(self) -> bytes:
        if self.note or self.body is None:
            raise TargetRetry(
                f"the target answered {self.status}, but its body is needed and {self.note or 'there is none'}",
                Kind.FAILED,
                self,
            )
        return self.body

    def _decoded(self, body: bytes) -> str:
        found = _CHARSET.search(self.headers.get("Content-Type", ""))
        for charset in (found[1] if found else "utf-8", "utf-8"):
            try:
                return body.decode(charset)
            except (UnicodeDecodeError, LookupError):
                continue
        return body.decode("latin-1")


class TargetFailed(Exception):
    """A call to the target did not go well.

    ``kind``      how, see ``Kind``
    ``response``  the answer, None where there was none
    """

    kind: Kind = Kind.FAILED
    response: TargetResponse | None = None

    @property
    def status(self) -> int | None:
        """The answer's status, None where there was no answer."""
        return None if self.response is None else self.response.status


class TargetRetry(TargetFailed, Retry):
    """The event is to be tried again, by the usual backoff; not within ``after`` seconds if the target said so.

    The wait is never shorter than the backoff would have been: a target's clock spends no attempts.
    """

    may_be_sooner = False

    def __init__(
        self, reason: str, kind: Kind, response: TargetResponse | None = None, *, after: float | None = None
    ) -> None:
        Retry.__init__(self, reason, after=after)
        self.kind, self.response = kind, response


class TargetDead(TargetFailed, DeadLetter):
    """The target will never take this event."""

    def __init__(self, reason: str, kind: Kind, response: TargetResponse | None = None) -> None:
        DeadLetter.__init__(self, reason)
        self.kind, self.response = kind, response


class TargetMistake(TargetDead):
    """The call itself is wrong, as the handler's author wrote it, or with what the event put into its path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, Kind.FAILED)


class TargetIgnored(TargetFailed, Ignored):
    """The answer means, as a setting or the handler says, that there was nothing to do."""

    def __init__(self, reason: str, kind: Kind, response: TargetResponse | None = None) -> None:
        Ignored.__init__(self, reason)
        self.kind, self.response = kind, response


class TargetUnavailable(TargetFailed, Postponed):
    """No call can be made now: the event is given back, spends no attempt, and waits for ``waits_for``."""

    def __init__(self, reason: str, kind: Kind = Kind.DOWN, *, waits_for: str | None = None) -> None:
        Postponed.__init__(self, reason)
        self.kind, self.waits_for = kind, waits_for


class TargetBusy(TargetUnavailable):
    """The call's turn does not come in time (rate or concurrency)."""

    def __init__(self, reason: str, *, waits_for: str | None = None) -> None:
        super().__init__(reason, Kind.RATE_LIMITED, waits_for=waits_for)


def salvage(raw: bytes, why: str) -> TargetResponse | None:
    """What can be read of an answer that the HTTP library refused, from its first bytes; None without a status line.

    ``why`` says what is wrong with it. Interim answers (1xx) are passed over.
    """
    status, rest = 100, raw
    while 100 <= status < 200:
        found = _STATUS_LINE.match(rest)
        if found is None:
            return None
        status, rest = int(found[1]), rest[found.end() :]
        head, *more = _END_OF_HEAD.split(b"\n" + rest, maxsplit=1)
        rest = more[0] if more else b""
    headers = _headers_in(head)
    if not more:
        return TargetResponse(status, headers, None, why)
    lengths = {length.strip() for length in headers.getall("Content-Length", ())}
    plain = "Transfer-Encoding" not in headers and "Content-Encoding" not in headers
    length = lengths.pop() if plain and len(lengths) == 1 else ""
    if length.isdecimal() and length.isascii() and len(length) < 10 and len(rest) >= int(length):
        return TargetResponse(status, headers, rest[: int(length)])
    return TargetResponse(status, headers, None, why)


def _headers_in(head: bytes) -> CIMultiDictProxy[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    for line in head.split(b"\n")[: _MOST_HEADERS + 1]:
        name, colon, value = line.strip().partition(b":")
        if colon and name and not name.endswith((b" ", b"\t")) and name.isascii():
            headers.add(name.decode("ascii"), value.strip().decode("utf-8", "replace"))
    return CIMultiDictProxy(headers)
