"""Which module imports which: arrows point down only, and nowhere in a circle.

What is imported for types alone (`if TYPE_CHECKING`) does not count, nor what a function imports
when it is called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.places import HOME

pytestmark = pytest.mark.once

SOURCES = (HOME, HOME / "backends")
PACKAGES = ("activations", "xen_sim", "xen_linux", "xen_lab", "xen_kernel")
BACKENDS = PACKAGES[1:]


def modules() -> dict[str, Path]:
    """Every module of ours, by name."""
    return {
        ".".join(file.relative_to(source).with_suffix("").parts).removesuffix(".__init__"): file
        for source in SOURCES
        for package in PACKAGES
        for file in (source / package).rglob("*.py")
    }


def imported(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, str]]:
    """What is imported when these are run: a module, and a name of it or nothing."""
    for node in nodes:
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from imported(node.orelse)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                pass
            case ast.Import():
                yield from ((alias.name, "") for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield from ((module, alias.name) for alias in node.names)
            case _:
                yield from imported(ast.iter_child_nodes(node))


def imports_of(source: str, known: Iterable[str]) -> set[str]:
    """Which of the known modules this source imports."""
    found = set()
    for module, name in imported(ast.parse(source).body):
        part = f"{module}.{name}"  # a package's part, or else what it has of its own
        found |= {part if part in known else module}
    return found & set(known)


def graph() -> dict[str, set[str]]:
    files = modules()
    return {name: imports_of(file.read_text(), files) for name, file in files.items()}


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """A circle of modules, each imported by the next; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle_in(graph()) == []


def test_a_circle_is_found_and_one_for_types_alone_is_none() -> None:
    known = ("a", "b")
    for_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from b import thing\n"
    later = "def f():\n    import b\n"
    assert imports_of(for_types, known) == imports_of(later, known) == set()
    assert imports_of("try:\n    from b import thing\nexcept ImportError: pass", known) == {"b"}
    assert sorted(set(circle_in({"a": {"b"}, "b": {"a"}}))) == ["a", "b"]


def test_the_upper_half_imports_no_backend_and_the_ground_imports_nothing() -> None:
    imports = graph()
    upper = {name: found for name, found in imports.items() if name.startswith("activations")}
    assert not [n for n, found in upper.items() if any(f.split(".")[0] in BACKENDS for f in found)]
    ground = {name: found for name, found in imports.items() if name.startswith("activations.abi.")}
    assert ground
    assert not any(ground.values())
