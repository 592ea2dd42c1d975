"""A target for tests of handlers: all of the client but its sockets.

::

    crm = StandIn(reply(404), reply(201, json={"id": 7}))
    with using(crm):
        outcome = await run(provision, example("SIM/Updated"))
    assert [(call.method, call.path, call.json) for call in crm.calls] == [...]

Paths, bodies, headers, ``outcomes=``, ``@on_response``, OAuth, the table of failures and, where the settings switch it
on, the breaker are the real ones, so that a mistake in a call fails the test as it would fail the event. Nothing waits:
an answer with a ``delay`` longer than the call's timeout is a timeout at once, and a shorter one comes at once; the
time of rates, tokens, ``Retry-After`` and the breaker is the stand-in's own, and passes by ``elapse``.
"""

import asyncio
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from connector.external.client import SWEEP, Target
from connector.external.limits import RateLimit
from connector.external.response import TargetResponse
from connector.external.wire import NoAnswer
from connector.settings import Settings

URL_OF_STAND_INS: Final = "http://target.example"


class Reply(msgspec.Struct, frozen=True):
    """An answer that takes ``delay`` seconds; with a ``lost`` text there is no answer, and that is why."""

    response: TargetResponse
    delay: float = 0.0
    lost: str = ""


class Call(msgspec.Struct, frozen=True):
    """A call that was made: the path behind TARGET_URL, still encoded, and what went along."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON. Raises ValueError where it is none."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise ValueError(f"the body of {self.method} {self.path} is no JSON: {error}") from None


def reply(
    status: int = 200,
    *,
    json: Any = None,
    text: str | None = None,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    delay: float = 0.0,
    note: str = "",
) -> Reply:
    """An answer with this status and, if given, a body. ``note``: why its body could not be read whole."""
    fields = CIMultiDict(headers or {})
    if json is not None:
        body = msgspec.json.encode(json)
        fields.setdefault("Content-Type", "application/json")
    elif text is not None:
        body = text.encode()
    return Reply(TargetResponse(status, CIMultiDictProxy(fields), body, note), delay)


def no_answer(why: str = "closed the connection instead of answering") -> Reply:
    """No answer at all, such as from a target that is down."""
    return Reply(TargetResponse(0), lost=why)


Answer = Reply | int | Callable[[Call], Reply | int]
"""A reply, a status, or a function of the call that gives one."""


class StandIn(Target):
    """A target that answers ``answers`` one after the other, the last one again and again; 200 without any.

    ``name``      which target it is, for ``@on_response``
    ``settings``  as in the environment, under TARGET_* and BREAKER_*; the breaker is off unless they switch it on
    """

    def __init__(self, *answers: Answer, name: str = "target", **settings: str) -> None:
        quiet = {"BREAKER_FAILURES": "0", "BREAKER_SHARE": "0", "LOG_CALLS": "false"}
        loaded = Settings.load({"TARGET_URL": URL_OF_STAND_INS, "API_TOKEN": "of-a-test", **quiet, **settings})
        self._scripted = _Scripted(loaded.target_timeout, list(answers) or [200])
        self._now = 0.0
        self._timers: list[_Timer] = []
        super().__init__(loaded, clock=self._time, name=name, chance=lambda: 0.5, wire=self._scripted)
        self._rate = RateLimit(
            loaded.target_rate, loaded.target_burst or round(loaded.target_rate), self._time, self._sleep
        )

    @property
    def calls(self) -> list[Call]:
        """The calls that were made, in order, those to a token server too."""
        return self._scripted.calls

    def answer(self, *answers: Answer, method: str = "*", path: str = "*") -> "StandIn":
        """Answer calls of this method and path (``*`` for anything) so, from now on; the latest that fits counts."""
        self._scripted.routes.insert(0, (method, path, list(answers)))
        return self

    @property
    def held_for(self) -> float:
        """Seconds after which a call that cannot be made now may be tried again."""
        return max(min((timer.at for timer in self._timers), default=self._now + SWEEP) - self._now, 0.0)

    def elapse(self, seconds: float) -> None:
        """Let time pass for this target: tokens expire, and what a ``Retry-After`` or the breaker holds goes on."""
        end = self._now + seconds
        while due := [timer for timer in self._timers if timer.at <= end]:
            timer = min(due, key=lambda each: each.at)
            self._now = max(self._now, timer.at)
            timer.cancel()
            timer.call()
        self._now = max(self._now, end)

    def _time(self) -> float:
        return self._now

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.elapse(seconds)

    def _later(self, wait: float, call: Callable[[], None]) -> "_Timer":
        timer = _Timer(self._now + wait, call, self._timers)
        self._timers.append(timer)
        return timer


class _Timer:
    """What is called at a time of the stand-in, unless it is called off."""

    def __init__(self, at: float, call: Callable[[], None], timers: "list[_Timer]") -> None:
        self.at, self.call, self._timers = at, call, timers

    def cancel(self) -> None:
        """Call it off."""
        if self in self._timers:
            self._timers.remove(self)


class _Scripted:
    def __init__(self, timeout: float, answers: list[Answer]) -> None:
        self.calls: list[Call] = []
        self.routes: list[tuple[str, str, list[Answer]]] = [("*", "*", answers)]
        self._timeout = timeout

    async def open(self) -> None:
        """There is nothing to open."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def send(
        self,
        method: str,
        url: URL,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> TargetResponse:
        fields = CIMultiDictProxy(CIMultiDict(headers or {}))
        call = Call(method, url.raw_path, dict(url.query), fields, data or b"")
        self.calls.append(call)
        answers = next(answers for verb, path, answers in self.routes if self._fits(call, verb, path))
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        given = answer(call) if callable(answer) else answer
        said = reply(given) if isinstance(given, int) else given
        limit = self._timeout if timeout is None else timeout
        if said.delay >= limit:
            raise NoAnswer(f"did not answer within {limit:g} s")
        if said.lost:
            raise NoAnswer(said.lost)
        return said.response

    def _fits(self, call: Call, method: str, path: str) -> bool:
        return fnmatch.fnmatchcase(call.method, method.upper()) and fnmatch.fnmatchcase(call.path, path)
