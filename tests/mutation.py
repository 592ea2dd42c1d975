"""Bodies that were events once: seeded damage to bytes, to JSON texts and to values."""

import random
from collections.abc import Callable
from typing import Final

_TOKENS: Final = (
    b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"null", b"true",
    b"NaN", b"-Infinity", b"1e999", b"-0.0", b"1E+2", b"0x1", b"9" * 320, b"9" * 4400, b'"' + b"9" * 4400 + b'"',
    b"\x00", b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\r\n", b"/*",
    b"[" * 1100, b'{"a":' * 1100,
)  # fmt: skip
_VALUES: Final = (b"[]", b"{}", b"0", b"-1", b"1.5", b'""', b'"x"', b"null", b"true", b"[[]]", b'{"":{}}', b"1e400")


def _flip(body: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 8)):
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)


def _replace(body: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 4)):
        body[chance.randrange(len(body))] = chance.randrange(256)


def _cut(body: bytearray, chance: random.Random) -> None:
    del body[chance.randrange(len(body)) :]


def _remove(body: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(body))
    del body[start : start + chance.randint(1, 40)]


def _repeat(body: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(body))
    part = body[start : start + chance.randint(1, 60)]
    body[start:start] = part * chance.randint(1, 5)


def _insert(body: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(body) + 1)
    body[at:at] = chance.choice(_TOKENS)


def _put_value(body: bytearray, chance: random.Random) -> None:
    """Another value after one of the colons: legal JSON more often than not."""
    colons = [at for at, byte in enumerate(body) if byte == 0x3A]
    if colons:
        at = chance.choice(colons) + 1
        end = min((found for mark in b",}]" if (found := body.find(mark, at)) > 0), default=len(body))
        body[at:end] = chance.choice(_VALUES + _TOKENS)


def _rename(body: bytearray, chance: random.Random) -> None:
    quotes = [at for at, byte in enumerate(body) if byte == 0x22]
    if quotes:
        at = chance.choice(quotes) + 1
        body[at:at] = chance.choice((b"x", b"\\u00e9", b"\xc3\xa9", b"\\n", b"i_", b"\\u0000"))


OPERATIONS: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    _flip, _replace, _cut, _remove, _repeat, _insert, _put_value, _rename,
)  # fmt: skip

STRUCTURAL: Final = (_put_value, _rename)
"""Those that often leave JSON behind."""


def mutate(
    body: bytes, chance: random.Random, operation: Callable[[bytearray, random.Random], None] | None = None
) -> bytes:
    """``body`` damaged by this operation, or by one to four at random."""
    damaged = bytearray(body)
    for change in [operation] if operation else chance.choices(OPERATIONS, k=chance.randint(1, 4)):
        if damaged:
            change(damaged, chance)
    return bytes(damaged)
