"""What lies below an event loop, exchanged while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from activations import EventLoop


def exchange(loop: EventLoop, **methods: Callable[..., Any]) -> None:
    """Have `loop` call these from its next turn on, in place of its lower half's methods of these
    names: the accelerator has taken those when the loop was made, and takes these anew."""
    for name, method in methods.items():
        setattr(loop._lower, name, method)
    loop._slow_down()
    loop._turn = loop._accelerated()
    if not loop.get_debug():
        loop._quicken()
