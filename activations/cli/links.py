"""Network devices of this kernel's, by netlink: what the program `ip` does.

pyroute2 is imported where it is used: that takes three times as long as importing asyncio.
"""

from __future__ import annotations

from errno import EOPNOTSUPP
from typing import TYPE_CHECKING

from activations.errors import ActivationsError

if TYPE_CHECKING:
    from pyroute2 import AsyncIPRoute


class LinkError(ActivationsError):
    """The kernel has no such network device, or will not do with it what was asked."""


async def bring_up(name: str, bridge: str | None = None) -> None:
    """Put a network device into a bridge, if one is named, and let frames through it. Raises
    `LinkError`."""
    from pyroute2 import AsyncIPRoute, NetlinkError

    try:
        async with AsyncIPRoute() as netlink:
            device = await _index(netlink, name)
            if bridge is not None:
                await netlink.link("set", index=device, master=await _index(netlink, bridge))
            await netlink.link("set", index=device, state="up")
    except NetlinkError as error:
        if bridge is not None and error.code == EOPNOTSUPP:
            raise LinkError(
                f"{bridge} is a network device, but not a bridge (`ip link show type bridge` lists "
                "the bridges)"
            ) from None
        raise LinkError(f"{name} cannot be brought up: {error.args[1]}") from None


async def _index(netlink: AsyncIPRoute, name: str) -> int:
    found = await netlink.link_lookup(ifname=name)
    if not found:
        raise LinkError(f"there is no network device {name} here (`ip link` lists them)")
    return int(found[0])
