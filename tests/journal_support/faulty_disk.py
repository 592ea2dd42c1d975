"""``disk.c`` built and put under a process: faults on command, and what a power cut would leave."""

import shutil
import subprocess
from enum import Enum
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A folder that no disk slows down, where there is one: for tests that write much and need no real disk."""

SOURCE = Path(__file__).with_name("disk.c")


class Fault(Enum):
    """What fails; the letter is what ``disk.c`` looks for."""

    SYNC = "S"
    WRITE = "W"
    FULL = "F"


@cache
def library() -> Path:
    """The shared object; the test is skipped where there is no C compiler."""
    if not (compiler := shutil.which("gcc") or shutil.which("cc")):
        pytest.skip("no C compiler for the disk that fails on command")
    target = Path(mkdtemp(prefix="faulty-disk-")) / "disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", target, SOURCE, "-ldl", "-lpthread"], check=True)
    return target


class FaultyDisk:
    """The disk under the files of one directory, for processes that are started with ``environment``."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "files"
        self.shadow = folder / "shadow"
        self._flag = folder / "fault"
        self.files.mkdir()
        self.shadow.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """What puts a process on this disk."""
        return {
            "LD_PRELOAD": str(library()),
            "DISK_DIR": str(self.files),
            "DISK_FAULT": str(self._flag),
            "DISK_SHADOW": str(self.shadow),
        }

    def fail(self, fault: Fault) -> None:
        """From now on ``fault`` is what the process gets."""
        self._flag.write_text(fault.value)

    def heal(self) -> None:
        """All is well again."""
        self._flag.unlink()
