"""Which packages import which: never in a circle, and commands only from the top."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = [*(ROOT / "pmtool").rglob("*.py"), *(ROOT / "export").glob("*.py")]
FILES += (ROOT / "kernels").glob("*.py")
MODELS_AND_ENGINES = {"backends", "export"}
"""A backend runs what `pmtool.export` builds, and an export is checked in a backend."""


def package(module: str) -> str:
    """The part of ``pmtool`` that a module belongs to."""
    return module.split(".")[1] if "." in module else "pmtool"


def module_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "pmtool" else ("pmtool", *parts))


MODULES = set(map(module_of, FILES))


@cache
def imported(file: Path) -> set[str]:
    """Modules of pmtool that a file imports, at its top or in a function, but not for types."""
    tree = ast.parse(file.read_text())
    for statement in tree.body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            statement.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= below & MODULES or {node.module}
    return {name for name in names if name.split(".")[0] == "pmtool"}


def test_packages_do_not_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for file in FILES:
        one = package(module_of(file))
        for other in map(package, imported(file)):
            if other != one and {one, other} != MODELS_AND_ENGINES:
                graph.setdefault(one, set()).add(other)
    assert len(list(TopologicalSorter(graph).static_order())) > 15


def test_modules_do_not_import_each_other() -> None:
    graph = {module_of(file): imported(file) for file in FILES}
    assert len(list(TopologicalSorter(graph).static_order())) > 200


def test_only_commands_know_the_console() -> None:
    """Library code neither prints nor reads a command line."""
    commands = {"pmtool.main", "pmtool.cli"}
    for file in FILES:
        module = module_of(file)
        if module.split(".")[-1] != "cli" and package(module) not in ("cli", "main", "__main__"):
            assert not [name for name in imported(file) if name.startswith("pmtool.cli")], module
            assert not imported(file) & commands, module
