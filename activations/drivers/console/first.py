"""A guest's first console: its back end, in place of xenconsoled.

There is no handshake. The toolstack has granted the page under a reserved reference and made the
port before the guest boots, and the console is there for as long as the guest is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from activations.abi import console as abi
from activations.abi.xenstore_paths import home
from activations.domain import Domain
from activations.drivers.console.line import mapped
from activations.drivers.console.stream import Console
from activations.own import ended, own


@asynccontextmanager
async def serve_first(xen: Domain, domid: int) -> AsyncIterator[Console]:
    """The back end of a guest's first console, hvc0, in place of xenconsoled; until the block is
    left, or the guest is gone.

    Waits until the toolstack has made one. Raises `XenError` if Xen refuses: EINVAL where
    xenconsoled serves it.
    """
    node = f"{home(domid)}/console/{abi.PORT}"
    number = int(await xen.store.wait_for(node, str.isdecimal))
    async with serve_page(xen, domid, abi.GNTTAB_RESERVED_CONSOLE, number) as console:
        watching = own(asyncio.create_task(_end_with(xen, node, console), name=f"hvc0 of {domid}"))
        try:
            yield console
        finally:
            watching.cancel()
            await ended(watching)


@asynccontextmanager
async def serve_page(xen: Domain, domid: int, ref: int, number: int) -> AsyncIterator[Console]:
    """The back end of a console whose page domain `domid` has granted as `ref`, and whose port is
    `number`. Raises `XenError` for what Xen refuses."""
    console = Console()
    line = mapped(xen, domid, ref, number)
    try:
        console.connect(line)
        yield console
    finally:
        await console.aclose()
        line.page.close()


async def _end_with(xen: Domain, node: str, console: Console) -> None:
    """The guest is gone when its node is."""
    async with xen.store.watch(node) as changes:
        async for _ in changes:
            if not await xen.store.exists(node):
                console.disconnect()
                console.end()
                return
