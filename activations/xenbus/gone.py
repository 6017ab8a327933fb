"""What a driver owes to those who wait on a device that is gone for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from activations.own import own
from activations.xenbus.handshake import Handshake
from activations.xenbus.states import Phase


@contextmanager
def when_gone(end: Handshake, tell: Callable[[str], object]) -> Iterator[None]:
    """Inside the block, `tell` is called with why the device was closed, or with nothing if it was
    unplugged, once either has happened."""

    async def outlive() -> None:
        await end.reached(Phase.FAILED, Phase.UNPLUGGED)
        tell(end.failure)

    watching = own(asyncio.create_task(outlive(), name=f"{end.device} may go"))
    try:
        yield
    finally:
        watching.cancel()
