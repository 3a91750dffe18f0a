"""Imports point down only, and within a floor without circles."""

import ast
from pathlib import Path

import pytest

import eyebright

ROOT = Path(eyebright.__file__).parent
FLOORS = (
    ("errors", "random", "device", "files", "tensors", "kernels"),
    ("data", "layers"),
    ("models",),
    ("classifier",),
    ("evaluation",),
    ("training", "engines"),
    ("transfer",),
    ("inspection",),
    ("curation",),
    ("doctor",),
    ("lab",),
    ("road",),
    ("crossvalidation", "transferring"),
    ("cli",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules():
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py"
    }


def imports(path):
    """Modules of eyebright that a file imports, at its top or inside functions, as "data.split"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eyebright"):
            base = (node.module or "").removeprefix("eyebright").lstrip(".")
            for alias in node.names:
                whole = f"{base}.{alias.name}".lstrip(".")
                yield whole if whole in modules() else base


def test_every_module_has_a_floor():
    assert {name.split(".")[0] for name in modules()} == set(FLOOR_OF)


@pytest.mark.parametrize("name", modules())
def test_imports_point_down(name):
    room = name.split(".")[0]
    for other in imports(modules()[name]):
        below = other.split(".")[0]
        if below and below != room:
            assert FLOOR_OF[below] < FLOOR_OF[room] or (FLOOR_OF[below] == FLOOR_OF[room] == 0), f"{name} → {other}"


def test_there_are_no_circles():
    graph = {name: {other for other in imports(path) if other in modules()} for name, path in modules().items()}
    done: set[str] = set()
    while ready := {name for name in graph.keys() - done if graph[name] <= done}:
        done |= ready
    assert graph.keys() - done == set()


def test_there_are_no_utils():
    assert not [name for name in modules() if "util" in name or "helper" in name or "misc" in name]
