from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from connector.web.trace import MAX_TRACE_ID, TRACE, Trace, trace


async def traced(**headers: str) -> Trace:
    request = make_mocked_request("POST", "/", headers={name.replace("_", "-"): text for name, text in headers.items()})

    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    await trace(request, handler)
    return request[TRACE]


async def test_the_ids_that_nsps_sent_are_not_swapped() -> None:
    assert await traced(X_B3_TraceId="b3", X_Request_ID="unique") == Trace(request_id="b3", unique_id="unique")


async def test_each_missing_id_is_made_and_no_two_are_the_same() -> None:
    ids = [*await traced(), *await traced(), (await traced(x_b3_traceid="b3")).unique_id]
    assert len({UUID(text) for text in ids}) == 5


@pytest.mark.parametrize("sent", ["", "\x01\x02", "\x01 \x02", "ü"])
async def test_an_id_that_no_log_can_hold_is_replaced(sent: str) -> None:
    assert UUID((await traced(x_b3_traceid=sent)).request_id)


async def test_an_id_cannot_forge_or_flood_a_log_line() -> None:
    found = (await traced(x_b3_traceid="a\tb\x1b[31m" + "c" * 500)).request_id
    assert found.startswith("ab[31mc")
    assert len(found) == MAX_TRACE_ID
