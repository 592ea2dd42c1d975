"""The simulator runs against any connector, so it must need nothing of this one."""

from __future__ import annotations

import ast
from pathlib import Path

import nsps_simulator

PACKAGE = Path(nsps_simulator.__file__).parent


def test_the_simulator_imports_nothing_else_of_the_connector() -> None:
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module or "." * node.level)
            elif isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
    assert any(name.startswith("nsps_simulator") for name in imported)
    assert not [name for name in imported if name.startswith((".", "connector"))]


ROOMS = ("records", "wire", "sending", "target", "judging", "running", "reporting", "command")


def test_imports_point_downwards_through_the_rooms() -> None:
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room not in ROOMS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nsps_simulator."):
                used = (node.module or "").split(".")[1]
                assert ROOMS.index(used) <= ROOMS.index(room), f"{path.name} imports {node.module}"
