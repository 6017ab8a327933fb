"""Several checkouts of this package in one process, so that they can be measured in turn.

A module is imported once a checkout, and stands in `sys.modules` while that checkout is in use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = frozenset({"activations", "xen_sim", "xen_linux", "xen_lab"})


class Checkout:
    """A folder with the package in it, as a context in which that is what is imported."""

    def __init__(self, folder: Path, *, pure: bool = False) -> None:
        self.paths: tuple[str, ...] = (str(folder), str(folder / "backends"))
        """Where its packages are."""
        self._modules: dict[str, ModuleType] = {}
        self._others: dict[str, ModuleType] = {}
        with self, _environment(ACTIVATIONS_PURE="1" if pure else "0"):
            found = Path(str(import_module("activations").__file__))
            self.Machine: Any = import_module("xen_sim").Machine
            """What a benchmark uses of the package most."""
            self.accelerated = _accelerated()
        if not found.is_relative_to(folder):
            raise SystemExit(f"{folder} is no checkout: `activations` came from {found.parent}")

    def __enter__(self) -> None:
        self._others = _take_out()
        sys.modules.update(self._modules)
        sys.path[:0] = self.paths

    def __exit__(self, *_: object) -> None:
        self._modules = _take_out()
        sys.modules.update(self._others)
        for path in self.paths:
            sys.path.remove(path)

    def within(self, benchmark: Callable[[Checkout], float]) -> float:
        """What this benchmark takes with the package as it is here."""
        with self:
            return benchmark(self)


def _accelerated() -> bool:
    """Whether this checkout has an accelerator, and uses it."""
    try:
        return import_module("activations.accelerator").accelerator is not None
    except ImportError:  # an older one
        return False


@contextmanager
def _environment(**names: str) -> Iterator[None]:
    """These variables, for what is imported inside the block."""
    before = dict(os.environ)
    os.environ.update(names)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _take_out() -> dict[str, ModuleType]:
    ours = {name: sys.modules[name] for name in sys.modules if name.partition(".")[0] in PACKAGES}
    for name in ours:
        del sys.modules[name]
    return ours
