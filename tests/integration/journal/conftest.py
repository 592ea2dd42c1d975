"""What the journal's tests share."""

import subprocess
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here; the disk of disk.c stands in for it")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
