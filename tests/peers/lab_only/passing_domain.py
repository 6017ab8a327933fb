"""A domain that comes and goes, as xenstore tells of it.

In a simulation no domain makes another: `test_xenstored_watches.py` looks at the simulated
xenstored by itself.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from contextlib import suppress

from patience import patience

from activations import Domain, Scenario

NAME = "activations-passing"
CONFIG = (f'name="{NAME}"', 'type="pv"', "memory=128", 'kernel="/dev/vda"')
PATIENCE = patience(120)

passing = Scenario("who may hear is told of a domain that comes and goes")


@passing.domain("dom0")
async def dom0(xen: Domain) -> None:
    store = xen.store
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}/data"
    async with (
        asyncio.timeout(PATIENCE),
        store.watch("@introduceDomain") as introduced,
        store.watch("@releaseDomain") as released,
    ):
        await store.set_perms("@releaseDomain", "n0", f"r{guest}")
        await store.write(f"{home}/may-hear", "1")
        await store.wait_for(f"{home}/hears")
        assert await anext(introduced) == "@introduceDomain"
        assert await anext(released) == "@releaseDomain"

        await xl("create", "-p", "/dev/null", *CONFIG)
        assert await anext(introduced) == "@introduceDomain"
        domid = await xen.find(NAME)
        await xl("destroy", str(domid))
        assert await anext(released) == "@releaseDomain"

        await store.write(f"{home}/gone", "1")
        await store.wait_for(f"{home}/heard")
        await store.set_perms("@releaseDomain", "n0")


async def xl(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec("xl", *arguments, stdout=PIPE, stderr=PIPE)
    printed = await process.communicate()
    assert process.returncode == 0, printed


@passing.domain("guest")
async def guest(xen: Domain) -> None:
    """It may hear of domains that go, and not of those that come."""
    store = xen.store
    await store.wait_for("data/may-hear")
    async with (
        asyncio.timeout(PATIENCE),
        store.watch("@introduceDomain") as introduced,
        store.watch("@releaseDomain") as released,
    ):
        assert await anext(introduced) == "@introduceDomain"
        assert await anext(released) == "@releaseDomain"
        await store.write("data/hears", "1")
        assert await anext(released) == "@releaseDomain"
        await store.wait_for("data/gone")
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                raise AssertionError(f"told of {await anext(introduced)}")
    await store.write("data/heard", "1")
