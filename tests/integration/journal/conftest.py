"""What the journal's tests share."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.journal_support.faulty_disk import IN_MEMORY


@pytest.fixture
def memory_disk() -> Iterator[Path]:
    """A folder in memory where there is one, for tests that write much and do not need a real disk."""
    with TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)
