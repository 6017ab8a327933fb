"""Whether a program is to tell `activations top` of itself: what it tells is in `telling`.

Only where it is asked for: by `ACTIVATIONS_TOP` in the environment, by `run --top`, or inside
`asked()`. Elsewhere a loop looks once whether it is, and that is all it costs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from activations.loop import EventLoop

ASKED = "ACTIVATIONS_TOP"
"""In the environment, not empty: programs tell of themselves."""

_asking = 0


@contextmanager
def asked(whether: bool = True) -> Iterator[None]:
    """Loops that are made in the block tell of themselves, if they are to."""
    global _asking
    _asking += whether
    try:
        yield
    finally:
        _asking -= whether


def watch(loop: EventLoop) -> Callable[[], None]:
    """Have this new loop tell of itself, if it is to; give what ends that."""
    if not (_asking or os.environ.get(ASKED)):
        return _nothing
    from activations import telling

    telling.begin(loop)
    return lambda: telling.end(loop)


def _nothing() -> None:
    """There is no one to tell."""
