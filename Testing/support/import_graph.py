"""The library's import graph, read from its source: modules, packages, arrows between them, cycles, upward imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

FLOORS = (
    ("errors", "hardware", "storage", "core"),
    ("interfaces", "files", "measure", "imaging", "guard", "fact_check"),
    ("environment", "endpoints", "reliability", "exports", "execution", "models"),
    ("reports", "model_store", "healthy", "patient", "tasks", "scene"),
    ("engine", "batch", "training", "api", "cli"),
)
"""Packages and top-level modules of MedFMLib, from the lowest floor up; each imports from its own floor or lower ones."""

Graph = dict[str, set[str]]


def modules(library: Path) -> dict[str, Path]:
    """Return dotted name, without the library's own → file, for every module of a library folder."""
    found = {}
    for path in sorted(library.rglob("*.py")):
        parts = path.relative_to(library).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imports(name: str, path: Path, known: Iterable[str]) -> Iterator[str]:
    """Yield the modules of the library that a module imports, wherever in its file."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "MedFMLib":
            base = node.module.split(".")[1:]
        else:
            continue
        for alias in node.names:
            if (inner := ".".join([*base, alias.name])) in known:
                yield inner
            elif (outer := ".".join(base)) in known:
                yield outer


def graph(library: Path) -> Graph:
    """Return module → modules of the library that it imports."""
    found = modules(library)
    return {name: set(imports(name, path, found)) - {name} for name, path in found.items()}


def package(module: str) -> str:
    """Return the package or top-level module that a module belongs to."""
    return module.partition(".")[0]


def packages(arrows: Graph) -> Graph:
    """Return package → other packages that it imports."""
    made: Graph = {package(name): set() for name in arrows}
    for name, targets in arrows.items():
        made[package(name)] |= {package(target) for target in targets} - {package(name)}
    return made


def cycles(arrows: Graph) -> list[list[str]]:
    """Return the groups of nodes that import each other in a circle (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in sorted(arrows.get(node, ())):
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(arrows):
        if node not in number:
            visit(node)
    return found


def upward(arrows: Graph, floors=FLOORS) -> list[str]:
    """Return "importer imports target" for every import of a package on a higher floor."""
    floor = {name: n for n, names in enumerate(floors) for name in names}
    return [
        f"{name} imports {target}"
        for name, targets in sorted(arrows.items())
        for target in sorted(targets)
        if floor.get(package(target), 0) > floor.get(package(name), len(floors))
    ]
