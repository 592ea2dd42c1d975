"""A mistake in a call, as its author made it: dead at once, with file and line, since no retry mends it."""

import sys
from pathlib import Path
from typing import Final

from connector.external.response import TargetMistake

_HERE: Final = str(Path(__file__).parent)


def mistake(text: str) -> TargetMistake:
    """What to raise: the text, and the place of the call outside this package."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_HERE) and frame.f_back is not None:
        frame = frame.f_back
    return TargetMistake(f"{text} ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})")
