"""Finding other domains by their names."""

from __future__ import annotations

import asyncio
from errno import EACCES

from patience import patience
from rule import refusal

from activations import Domain, Scenario

SOON = patience(20.0)

by_name = Scenario("dom0 finds a guest by its name, and a guest is told to ask dom0")


@by_name.domain("dom0")
async def may_look(xen: Domain) -> None:
    async with asyncio.timeout(SOON):
        guest = await xen.find("guest")
        assert await xen.store.read(f"/local/domain/{guest}/name") == "guest"
        assert await xen.find("dom0") == xen.domid
        await xen.store.write(f"/local/domain/{guest}/data/own-number", guest)


@by_name.domain("guest")
async def may_not(xen: Domain) -> None:
    async with asyncio.timeout(SOON):
        assert await xen.find("dom0") == 0
        error = await refusal(xen.find("guest"))
        assert error.errno == EACCES
        assert "have it write the number into this one's data" in str(error)
        assert int(await xen.store.wait_for("data/own-number")) == xen.domid
