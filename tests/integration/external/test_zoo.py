"""Some fifty targets that misbehave beside one that does not: nobody but their own events pays for it."""

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from typing import Any

from tests.conftest import Lines
from tests.integration.external import zoo
from tests.integration.external.delivery import serving
from tests.integration.external.targets import until

GOOD = [(number % 10, number) for number in range(100)]
EACH = 3


KINDS = [*zoo.DONE, *zoo.NOT_DONE, "refused", "nohost"]


def event(kind: str, subscriber: int, number: int) -> dict[str, Any]:
    return {
        "event_id": f"{kind}-{number}",
        "data": {"event_type": f"Zoo/{kind}", "variables": {"n": number}},
        "pb_data": {"account_info": {"bill_status": "open", "i_account": 1000 * KINDS.index(kind) + subscriber}},
    }


async def test_a_zoo_of_targets_costs_those_of_the_good_one_nothing_but_a_moment(log_lines: Lines) -> None:
    told: dict[str, list[bytes]] = defaultdict(list)
    others = [name for name in KINDS if name != "fine"]
    assert len(others) >= 40
    async with zoo.kept(lambda name, body: told[name].append(body)) as urls:
        settings = {f"{name.upper()}_URL": url for name, url in urls.items()}
        async with serving(
            urls["fine"],
            TARGETS=",".join(urls),
            HANDLERS="tests.integration.external.zoo",
            TARGET_TIMEOUT="300ms",
            BREAKER_COOL_DOWN="50ms",
            BREAKER_COOL_DOWN_MAX="200ms",
            RETRY_BASE="50ms",
            WORKERS="16",
            LOG_CALLS="false",
            # A call that is served is not to end for a loaded machine and be made again.
            **{f"{name.upper()}_TIMEOUT": "2s" if name in zoo.DONE else "300ms" for name in urls if name != "fine"},
            FINE_TIMEOUT="30s",
            **settings,
        ) as served:
            for name in others:
                await served.post_all(event(name, number, number) for number in range(EACH))
            await served.post_all(event("fine", subscriber, number) for subscriber, number in GOOD)
            lines: list[dict[str, Any]] = []

            def done() -> Counter[str]:
                lines.extend(log_lines())
                ended = [line for line in lines if line["action"] == "event.processed"]
                return Counter(line["event_type"].partition("/")[2] for line in ended)

            def missing() -> dict[str, int]:
                expected = Counter({name: len(GOOD) if name == "fine" else EACH for name in zoo.DONE})
                return dict(expected - done())

            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(40):
                    await until(lambda: not missing())
            assert not missing()
    assert not done().keys() & zoo.NOT_DONE.keys()
    assert not [line for line in lines if line["action"] == "event.dead"]
    order = defaultdict(list)
    for body in told["fine"]:
        said = json.loads(body)
        order[said["pb_data"]["account_info"]["i_account"]].append(said["data"]["variables"]["n"])
    assert all(numbers == sorted(set(numbers)) for numbers in order.values())
    assert sum(map(len, order.values())) == len(GOOD)
    for name in zoo.DONE:  # each was sent once, and not again since its answer could not be read
        assert len(told[name]) == (len(GOOD) if name == "fine" else EACH), name
