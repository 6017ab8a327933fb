"""An offer of which one half stands, as a server leaves it that dies in between."""

from __future__ import annotations

import asyncio

import pytest

from activations import Domain, vchan
from activations.store import Store
from xen_sim import Machine


@pytest.mark.parametrize("node", ["ring-ref", "event-channel"])
def test_a_client_sleeps_until_the_other_half_comes(
    node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    transact = Store.transact

    async def counted(self: Store, change: object) -> object:
        nonlocal looks
        looks += 1
        return await transact(self, change)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "transact", counted)

    async def dom0(xen: Domain) -> None:
        await xen.store.write(f"/local/domain/0/data/v/{node}", 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await vchan.connect(xen, 0, "data/v")

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.run()
    assert looks == 0
