"""Many rows in one statement.

The sqlite3 module lets go of the interpreter at every step of a statement. One statement that takes many rows is one
step, so the journal's thread and the event loop do not hand the interpreter to and fro for every row.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

MOST: Final = 64
"""Rows a statement takes at most: there is a statement for each number of rows, and all of them stay prepared."""


def insert_many(
    db: sqlite3.Connection, insert: str, columns: int, rows: Sequence[Sequence[Any]], conflict: str = ""
) -> None:
    """Run ``insert`` (up to and including ``VALUES``) for all rows of ``columns`` values each, then ``conflict``."""
    for part in _parts(rows):
        db.execute(_values(insert, columns, len(part), conflict), [value for row in part for value in row])


def select_values(
    db: sqlite3.Connection, select: str, columns: int, rows: Sequence[Sequence[Any]], rest: str
) -> list[Any]:
    """The rows of ``select`` (up to and including ``VALUES``), then ``rest``, over ``rows`` of ``columns`` values."""
    found: list[Any] = []
    for part in _parts(rows):
        statement = _values(select, columns, len(part), rest)
        found += db.execute(statement, [value for row in part for value in row]).fetchall()
    return found


def select_in(db: sqlite3.Connection, select: str, keys: Sequence[Any]) -> list[Any]:
    """The rows of ``select`` (up to and including ``IN``) for all keys."""
    found: list[Any] = []
    for part in _parts(keys):
        found += db.execute(_in(select, len(part)), part).fetchall()
    return found


def execute_in(db: sqlite3.Connection, statement: str, keys: Sequence[Any]) -> int:
    """Run ``statement`` (up to and including ``IN``) for all keys; how many rows it changed."""
    return sum(db.execute(_in(statement, len(part)), part).rowcount for part in _parts(keys))


def execute_any(db: sqlite3.Connection, statement: str, condition: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run ``statement`` (up to and including ``WHERE``) for what fulfils ``condition`` with the values of any row.

    How many rows it changed.

    ``(a, b) IN (VALUES ...)`` would read the whole table: SQLite finds only each of ``a = ? AND b = ?`` by an index.
    """
    return sum(
        db.execute(_any(statement, condition, len(part)), [value for row in part for value in row]).rowcount
        for part in _parts(rows)
    )


def _parts(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + MOST] for start in range(0, len(rows), MOST))


@cache
def _values(insert: str, columns: int, rows: int, conflict: str) -> str:
    row = "(" + ",".join("?" * columns) + ")"
    return f"{insert} {','.join([row] * rows)} {conflict}"


@cache
def _in(statement: str, keys: int) -> str:
    return f"{statement} ({','.join('?' * keys)})"


@cache
def _any(statement: str, condition: str, rows: int) -> str:
    return f"{statement} {' OR '.join([f'({condition})'] * rows)}"


def touches(lane: str) -> str:
    """The condition that a column of resources has one of a given name, which takes four values, all of them the name.

    The name may leave out the kind of id before the colon, and the environment after the @.
    """
    names = [f"instr(char(10) || {lane} || char(10), {before} || ? || {after}) > 0" for before, after in _ENDS]
    return f"({' OR '.join(names)})"


_ENDS: Final = [(before, after) for before in ("char(10)", "':'") for after in ("char(10)", "'@'")]
