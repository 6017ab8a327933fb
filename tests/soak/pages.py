"""Memory that two domains share, in one process."""

from __future__ import annotations

PAGE = 4096


def page(pages: int = 1) -> memoryview:
    return memoryview(bytearray(pages * PAGE))


def ignore() -> None:
    """A bell that nobody hears."""
