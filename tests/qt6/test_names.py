"""Every name that the plugin takes from Qt exists in Qt 6 too.

No QGIS on Qt 6 can be installed here; PyQt6 can. PyQt6 has enums only by their full names, moved
some classes, and dropped others: all of that is seen in the source.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = [
    *sorted((ROOT / "qgis_mmearth").rglob("*.py")),
    ROOT / "tools" / "demo.py",
    *sorted((ROOT / "tests" / "plugin").rglob("*.py")),
]
# Where QGIS's own layer (qgis.PyQt) puts a class of Qt 6 back to where Qt 5 had it.
BROUGHT_BACK = {("QtWidgets", "QAction"): "QtGui", ("QtCore", "QVariant"): "QtCore"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_names_exist(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    known = dict(_imported(tree))
    missing = [
        f"line {line}: {'.'.join(chain)}"
        for line, chain in _chains(tree)
        if chain[0] in known and not _resolves(known[chain[0]], chain[1:])
    ]
    assert missing == []


def test_a_short_enum_would_be_found() -> None:
    """The check itself: what PyQt5 takes and PyQt6 does not."""
    tree = ast.parse("from qgis.PyQt.QtCore import Qt\nQt.UserRole\nQt.ItemDataRole.UserRole")
    known = dict(_imported(tree))
    found = [_resolves(known[chain[0]], chain[1:]) for _, chain in _chains(tree)]
    assert found == [False, True]


def test_code_names_no_binding() -> None:
    """PyQt5 and PyQt6 are reached through qgis.PyQt alone."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [n for n in names if n.startswith(("PyQt5", "PyQt6"))], path


def _imported(tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield the local name and the class of each import from qgis.PyQt."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qgis.PyQt.")):
            continue
        module = node.module.removeprefix("qgis.PyQt.")
        for alias in node.names:
            place = BROUGHT_BACK.get((module, alias.name), module)
            yield alias.asname or alias.name, _find(place, alias.name)


def _find(module: str, name: str) -> Any:
    found = importlib.import_module(f"PyQt6.{module}")
    return getattr(found, name, None)


def _chains(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the parts of each dotted name, the longest of each place only."""
    inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
            parts: list[str] = []
            part: ast.expr = node
            while isinstance(part, ast.Attribute):
                parts.insert(0, part.attr)
                part = part.value
            if isinstance(part, ast.Name):
                yield node.lineno, [part.id, *parts]


def _resolves(owner: Any, names: list[str]) -> bool:
    for name in names:
        if owner is None or not hasattr(owner, name):
            return False
        owner = getattr(owner, name)
    return owner is not None
