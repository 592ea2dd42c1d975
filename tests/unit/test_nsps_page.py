"""docs/nsps.md is true: its tests exist, its tables are those of the code."""

import re
from pathlib import Path

import pytest

from connector.events.event_types import KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "nsps.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_no_line_of_the_page_stands_without_the_test_it_names(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_the_table_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([\w/*]+)` \| (yes|no) \| ([\w, ]+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [
        (kind.pattern, "yes" if kind.has_account else "no", ", ".join(kind.roles) or "nothing", kind.source)
        for kind in KINDS
    ]


def test_every_other_page_that_it_names_is_there() -> None:
    assert all((ROOT / name).exists() for name in re.findall(r"`(docs/[\w-]+\.md|Dockerfile)`", PAGE))
