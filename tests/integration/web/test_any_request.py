"""Whatever comes is answered or said: never a bug, never a hang, never silence."""

import json
from random import Random
from typing import get_args

import pytest

from connector.web import listener
from connector.web.responses import ErrorType
from tests.conftest import Lines
from tests.raw_requests import Raw, answers, raw
from tests.serving import serving
from tests.wire import connect

COUNT = 60


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_comes_is_answered_or_said(seed: int, log_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEAD_TIMEOUT", 1.0)
    chance = Random(seed)
    async with serving(BODY_TIMEOUT="2s", MAX_BODY_BYTES="64k") as (_, port):
        log_lines()
        for _ in range(COUNT):
            sent = raw(chance)
            async with connect(port) as wire:
                await wire.send(sent.data)
                wire.send_eof()
                received = await wire.rest()
            _check(sent, received, {line["action"] for line in log_lines()})


def _check(sent: Raw, received: bytes, actions: set[str]) -> None:
    found = answers(received)
    assert "request.failed" not in actions, sent
    for status, body in found:
        assert status < 500 or status == 503, (sent, status)
        if status >= 400:
            said = json.loads(body)
            assert {"message", "error", "type"} <= set(said) <= {"message", "error", "type", "details"}, (sent, body)
            assert said["type"] in get_args(ErrorType)
    if not found:
        silent = not sent.data.strip(b"\r\n")
        assert silent or actions & {"request.broken_off", "request.refused"}, sent
