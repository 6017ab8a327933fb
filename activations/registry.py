"""Which backends are installed: the packages that offer one under an entry-point group.

So this package imports no backend, and anybody can add one. Those that come with it are known by
name: to look through all that is installed takes as long as to import asyncio.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from activations.errors import BackendError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

PROTOCOL_VERSION = 1
"""Of everything that `activations` and its backends ask of each other."""

ENTRY_POINT_GROUP = "activations.backends"
OWN = {"lab": "xen_lab", "linux": "xen_linux", "sim": "xen_sim"}
"""The packages of the backends that come with this one, by name; each has it as `backend`."""


def names() -> list[str]:
    """The names of the installed backends, in alphabetical order."""
    return sorted({point.name for point in _offered()})


@cache
def find(name: str) -> Any:
    """The backend of this name, an `activations.backend.Backend`. Raises `BackendError` if there
    is none that fits."""
    if (own := _own(name)) is not None:
        return own
    for point in _offered().select(name=name):
        backend = point.load()
        if backend.protocol_version != PROTOCOL_VERSION:
            raise BackendError(
                f"backend {name!r} ({point.value}) speaks protocol {backend.protocol_version}, "
                f"this is activations with protocol {PROTOCOL_VERSION}: upgrade the older one"
            )
        return backend
    raise BackendError(f"unknown backend {name!r}; installed: {', '.join(names()) or 'none'}")


def _own(name: str) -> Any:
    """One of `OWN`; None where its package is not there, or is another one of that name."""
    package = OWN.get(name, "")
    try:
        return getattr(import_module(package), "backend", None) if package else None
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        return None


def _offered() -> EntryPoints:
    from importlib.metadata import entry_points

    return entry_points(group=ENTRY_POINT_GROUP)
