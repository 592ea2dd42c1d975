"""The corpus against the real server: each kind is answered as expected, and each that is taken is handled."""

from tests.conftest import Lines
from tests.corpus import CORPUS
from tests.serving import serving
from tests.wire import ask, post


async def test_every_kind_of_body_is_answered_as_expected_and_what_is_taken_is_handled(log_lines: Lines) -> None:
    async with serving(QUEUE_SIZE="1000") as (_, port):
        answers = {kind.name: (await ask(port, post(kind.body))).status for kind in CORPUS}
    assert answers == {kind.name: kind.status for kind in CORPUS}
    assert {line["action"] for line in log_lines()} & {"request.failed", "server.fault"} == set()
