"""The ten cases of NSPS's acceptance plan, held against a connector one by one.

Cases 4, 8 and 9 of the plan speak of what the external system answered. A connector that answers 202 at once cannot
show that in its answer; it shows it by what it does afterwards, and the words beside the case say so.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from nsps_simulator.records import APPLIED
from nsps_simulator.running.child import Child, ChildFailed
from nsps_simulator.target import CHEERFUL, Mood, Observer, Target, Told
from nsps_simulator.wire.endpoint import Endpoint, Tls
from nsps_simulator.wire.events import Events

PASSED, FAILED, NOT_TRIED = "passed", "failed", "not tried"
WITHIN = 10.0  # seconds for an answer
ARRIVES_WITHIN = 30.0  # seconds until the target must have been told
STOPPED_EVENTS = 50
AT_ONCE = 32


@dataclass(frozen=True)
class Result:
    """How one case went, and why."""

    number: int
    title: str
    word: str
    words: str


@dataclass(frozen=True)
class Answer:
    """An answer of the connector; body is None when it is no JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class _Failed(Exception):
    """The case failed, for the reason given."""


class _NotTried(Exception):
    """The case could not be tried, for the reason given."""


class Heard(Observer):
    """Remembers which events were applied, and how many calls there were."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self.calls = 0
        self.applied: set[int] = set()

    def look(self, told: Told) -> None:
        """Count a call."""
        self.calls += 1

    def note(self, told: Told) -> None:
        """Remember an event."""
        if told.outcome == APPLIED:
            try:
                index = self._events.index_of(json.loads(told.text)["event_id"].encode())
            except (ValueError, KeyError, TypeError, AttributeError):
                return
            if index is not None:
                self.applied.add(index)


class Plan:
    """Carries out the plan. target: None when the connector tells nobody; child: None when it was started elsewhere.
    burst: how many events are sent to see a 429.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        tls: Tls,
        events: Events,
        target: Target | None,
        heard: Heard,
        child: Child | None,
        burst: int,
    ) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._events = events
        self._target = target
        self._heard = heard
        self._child = child
        self._burst = burst
        self._next = 0

    async def carry_out(self) -> list[Result]:
        """Try the ten cases in turn."""
        cases: tuple[tuple[str, Callable[[], Awaitable[str]]], ...] = (
            ("health", self._health),
            ("a valid event", self._valid),
            ("a bad or missing token", self._token),
            ("an unknown resource (404)", self._unknown),
            ("a wrong method (405)", self._method),
            ("a malformed event (422)", self._malformed),
            ("rate limit (429)", self._limit),
            ("an internal error (500)", self._error),
            ("the external system is down (503)", self._down),
            ("a graceful stop loses nothing", self._stop),
        )
        results = []
        for number, (title, case) in enumerate(cases, 1):
            try:
                word, words = PASSED, await case()
            except _Failed as error:
                word, words = FAILED, str(error)
            except _NotTried as error:
                word, words = NOT_TRIED, str(error)
            except (OSError, TimeoutError, ValueError) as error:
                word, words = FAILED, f"no answer: {error or type(error).__name__}"
            results.append(Result(number, title, word, words))
        return results

    # -- the cases --

    async def _health(self) -> str:
        answer = await self._ask("GET", "/health", b"", token=None)
        _demand(answer.status == 200, f"GET /health answers {answer.status}, not 200 (without a token)")
        return "GET /health answers 200 without a token"

    async def _valid(self) -> str:
        index, answer = await self._send()
        _demand(200 <= answer.status < 300, f"it answers {answer.status}, not 202")
        if self._target is None:
            return f"answers {answer.status}; there is no target to be told"
        _demand(await self._arrives({index}), f"it answers {answer.status}, and the target was not told of the event")
        return f"answers {answer.status}, and the target was told"

    async def _token(self) -> str:
        wrong = {
            "none": None,
            "a wrong one": "Bearer wrong",
            "no Bearer": f"Basic {self._endpoint.token}",
            "empty": "Bearer ",
        }
        for name, token in wrong.items():
            answer = await self._ask("POST", self._endpoint.path, self._events.body(self._draw()), token=token)
            _demand(answer.status == 401, f"token {name}: it answers {answer.status}, not 401")
            _demand_error(answer, "AUTHENTICATION_ERROR")
        return f"401 for {len(wrong)} kinds"

    async def _unknown(self) -> str:
        answer = await self._ask("POST", "/no-such-path", b"{}")
        _demand(answer.status == 404, f"POST /no-such-path answers {answer.status}, not 404")
        _demand_error(answer, None)
        return "404 with an ErrorResponse"

    async def _method(self) -> str:
        answer = await self._ask("DELETE", self._endpoint.path, b"")
        _demand(answer.status == 405, f"DELETE {self._endpoint.path} answers {answer.status}, not 405")
        _demand("allow" in answer.headers, "the 405 has no Allow header")
        _demand_error(answer, None)
        return f"405, Allow: {answer.headers['allow']}"

    async def _malformed(self) -> str:
        for body, wanted in (
            (b"not JSON", {400, 422}),
            (b"{}", {422}),
            (b"[]", {422}),
            (b'{"data":{"event_type":7}}', {422}),
        ):
            answer = await self._ask("POST", self._endpoint.path, body)
            _demand(answer.status in wanted, f"{body.decode()} is answered {answer.status}, not 422")
            _demand_error(answer, "VALIDATION_ERROR")
        return "422 for 3 kinds, 400 or 422 for what is no JSON"

    async def _limit(self) -> str:
        """Send until it says that there is no more room, at the most `burst` events, with a target that is slow."""
        self._be(Mood(latency=5.0))
        statuses: list[int] = []
        refused: list[Answer] = []

        async def send(count: int) -> None:
            for _ in range(count):
                if refused:
                    return
                _, answer = await self._send()
                statuses.append(answer.status)
                if answer.status == 429:
                    refused.append(answer)

        try:
            await asyncio.gather(*(send(self._burst // AT_ONCE) for _ in range(AT_ONCE)))
        finally:
            self._be(CHEERFUL)
        if not refused:
            raise _NotTried(
                f"it took {len(statuses):,} events without a 429: its limit is higher (--burst, its settings)"
            )
        _demand("retry-after" in refused[0].headers, "the 429 has no Retry-After header")
        _demand_error(refused[0], "RATE_LIMIT_ERROR")
        return f"429 with Retry-After after {len(statuses):,} events"

    async def _error(self) -> str:
        if self._target is None:
            raise _NotTried("there is no target that could fail")
        self._be(Mood(flaky=1.0))
        try:
            index, answer = await self._send()
        finally:
            self._be(CHEERFUL)
        if answer.status >= 500:
            _demand_error(answer, None)
            return f"{answer.status} when the target fails"
        _demand(200 <= answer.status < 300, f"it answers {answer.status} when the target fails")
        _demand(await self._arrives({index}), "it answers 202, and did not try again when the target had failed")
        return "answers 202 before the outcome is known; it tried again, and the target was told"

    async def _down(self) -> str:
        if self._target is None:
            raise _NotTried("there is no target that could be down")
        self._target.refusing = True
        try:
            index, answer = await self._send()
            await asyncio.sleep(1)
        finally:
            self._target.refusing = False
        if answer.status >= 500:
            _demand(answer.status == 503, f"it answers {answer.status} when the target is down, not 503")
            _demand_error(answer, "CONNECTION_ERROR")
            return "503 CONNECTION_ERROR"
        _demand(200 <= answer.status < 300, f"it answers {answer.status} when the target is down")
        _demand(await self._arrives({index}), "it answers 202, and the event did not arrive when the target was back")
        return "answers 202 before the outcome is known; the event arrived when the target was back"

    async def _stop(self) -> str:
        if self._child is None or self._target is None:
            raise _NotTried("it needs --connector and a target")
        self._be(Mood(latency=0.2))
        sent = await asyncio.gather(*(self._send() for _ in range(STOPPED_EVENTS)))
        taken = {index for index, answer in sent if 200 <= answer.status < 300}
        try:
            await self._child.terminate()
            self._be(CHEERFUL)
            await self._child.start()
        except ChildFailed as error:
            raise _Failed(str(error)) from error
        _demand(bool(taken), "it accepted none of the events")
        arrived = await self._arrives(taken)
        _demand(arrived, f"{len(taken - self._heard.applied)} of {len(taken)} accepted events were lost")
        return f"SIGTERM with {len(taken)} events in hand: all of them arrived, before it or after the next start"

    # -- helpers --

    def _be(self, mood: Mood) -> None:
        if self._target is not None:
            self._target.mood = replace(mood)

    def _draw(self) -> int:
        self._next += 1
        return self._next - 1

    async def _send(self) -> tuple[int, Answer]:
        index = self._draw()
        return index, await self._ask("POST", self._endpoint.path, self._events.body(index))

    async def _arrives(self, wanted: set[int]) -> bool:
        until = time.monotonic() + ARRIVES_WITHIN
        while not wanted <= self._heard.applied and time.monotonic() < until:  # noqa: ASYNC110  # others are told
            await asyncio.sleep(0.05)
        return wanted <= self._heard.applied

    async def _ask(self, method: str, path: str, body: bytes, *, token: str | None = "right") -> Answer:  # noqa: S107
        """Send one request. token: the whole Authorization header; `right` stands for the right one."""
        endpoint = self._endpoint
        said = f"Bearer {endpoint.token}" if token == "right" else token  # noqa: S105  # a name, no secret
        head = f"{method} {path} HTTP/1.1\r\nHost: {endpoint.host_header.decode()}\r\nConnection: close\r\n"
        head += "" if said is None else f"Authorization: {said}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        async with asyncio.timeout(WITHIN):
            context = self._tls.context() if endpoint.tls else None
            reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
            try:
                writer.write(head.encode() + body)
                return _answer(await reader.read())
            finally:
                writer.close()


def _answer(data: bytes) -> Answer:
    """Read an answer. Raises ValueError for what is no HTTP."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[1].isdigit():
        raise ValueError("the answer is no HTTP")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    return Answer(int(parts[1]), headers, said)


def _demand(holds: bool, words: str) -> None:
    if not holds:
        raise _Failed(words)


def _demand_error(answer: Answer, kind: str | None) -> None:
    """Demand NSPS's ErrorResponse, of a type if there is one."""
    body = answer.body
    _demand(
        isinstance(body, dict) and all(isinstance(body.get(name), str) for name in ("message", "error", "type")),
        f"the {answer.status} is no ErrorResponse: message, error and type must stand at the top of the body",
    )
    if kind is not None:
        _demand(body["type"].upper() == kind, f"the type of the {answer.status} is {body['type']}, not {kind}")
