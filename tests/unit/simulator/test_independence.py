"""The simulator runs against any connector, so it must need nothing of this one."""

from __future__ import annotations

import ast
from pathlib import Path

import connector.simulator

PACKAGE = Path(connector.simulator.__file__).parent


def test_the_simulator_imports_nothing_else_of_the_connector() -> None:
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module or "." * node.level)
            elif isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
    ours = {name for name in imported if name.startswith((".", "connector"))}
    assert ours
    assert all(name.startswith("connector.simulator") for name in ours)
