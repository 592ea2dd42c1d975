"""docs/guarantees.md and docs/security.md name the tests that prove them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = [
    found
    for page in ("guarantees.md", "security.md")
    for found in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / page).read_text())
]


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_no_promise_stands_without_the_test_it_names(file: str, name: str) -> None:
    assert re.search(rf"^((async )?def {name}\(|{name} = )", (ROOT / file).read_text(), re.MULTILINE)


def test_every_promise_is_there() -> None:
    headings = re.findall(r"^## (\d)\. ", (ROOT / "docs" / "guarantees.md").read_text(), re.MULTILINE)
    assert headings == list("1234567")
    assert len(NAMED) > 30
