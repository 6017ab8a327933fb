"""Network devices of this kernel's are brought up, and put into a bridge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from pyroute2 import AsyncIPRoute, NetlinkError
from support.needs import leave_out

from activations.cli.links import LinkError, bring_up
from activations.drivers.net import Tap

UP = 1


@pytest.fixture
def tap() -> Tap:
    try:
        return Tap()
    except OSError as error:
        leave_out("TAP devices", f"cannot be made here: {error.strerror}")


def is_up(name: str) -> bool:
    flags = Path("/sys/class/net", name, "flags").read_text()
    return bool(int(flags, 16) & UP)


def bridge_of(name: str) -> str:
    return Path("/sys/class/net", name, "master").resolve().name


def with_a_bridge(use: Callable[[str], Awaitable[None]]) -> None:
    async def main() -> None:
        bridge = "activations-br"
        async with AsyncIPRoute() as netlink:
            try:
                await netlink.link("add", ifname=bridge, kind="bridge")
            except NetlinkError as error:
                leave_out("bridges", f"cannot be made here: {error}")
            try:
                await use(bridge)
            finally:
                await netlink.link("del", ifname=bridge)

    asyncio.run(main())


def test_a_device_is_brought_up(tap: Tap) -> None:
    with tap:
        assert not is_up(tap.name)
        asyncio.run(bring_up(tap.name))
        assert is_up(tap.name)


def test_a_device_is_put_into_a_bridge(tap: Tap) -> None:
    async def use(bridge: str) -> None:
        await bring_up(tap.name, bridge)
        assert is_up(tap.name)
        assert bridge_of(tap.name) == bridge

    with tap:
        with_a_bridge(use)


def test_what_is_not_there_or_is_no_bridge_is_said(tap: Tap) -> None:
    with tap:
        with pytest.raises(LinkError, match="no network device nowhere here"):
            asyncio.run(bring_up(tap.name, "nowhere"))
        with pytest.raises(LinkError, match="lo is a network device, but not a bridge"):
            asyncio.run(bring_up(tap.name, "lo"))
        assert not is_up(tap.name)
    with pytest.raises(LinkError, match=f"no network device {tap.name} here"):
        asyncio.run(bring_up(tap.name))
