"""A vchan server that lies to its client."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack_into

import pytest
from support.vchan_ends import KEY, PATH, run

from activations import Domain, XenError, vchan
from activations.abi import vchan as abi
from activations.vchan import VchanError


def lie(page: Callable[[memoryview], None], **nodes: str) -> Exception:
    """What the client says to a server made by hand, which writes this and these nodes."""

    async def dom0(xen: Domain) -> None:
        with xen.events.alloc_unbound(1) as port, xen.grants.share(1) as control:
            control.memory[abi.SRV_LIVE] = 1
            pack_into("<HH", control.memory, abi.ORDERS_AT, 10, 11)
            page(control.memory)
            said = {"ring-ref": str(control.refs[0]), "event-channel": str(port.number), **nodes}
            for node, value in said.items():
                await xen.store.write(f"{PATH}/{node}", value)
            await xen.store.wait_for(f"{PATH}/done")

    async def guest(xen: Domain) -> Exception:
        try:
            with pytest.raises((VchanError, XenError)) as caught:
                async with await vchan.connect(xen, 0, KEY) as stream:
                    await stream.send(b"x")
                    await stream.receive()
            assert not xen.grants.open
            return caught.value
        finally:
            await xen.store.write(f"{KEY}/done", 1)

    error: Exception = run(dom0, guest)["guest"]
    return error


def orders(left: int, right: int) -> Callable[[memoryview], None]:
    return lambda page: pack_into("<HH", page, abi.ORDERS_AT, left, right)


@pytest.mark.parametrize("wrong", [(0, 0), (10, 10), (12, 21), (0xFFFF, 11), (10, 20)])
def test_orders_that_cannot_be(wrong: tuple[int, int]) -> None:
    assert isinstance(lie(orders(*wrong)), VchanError)


def test_references_that_were_not_granted() -> None:
    assert isinstance(lie(orders(20, 20)), XenError)


@pytest.mark.parametrize("said", ["", "-1", "one", "1 2", "99999999999", "\u0663"])
@pytest.mark.parametrize("node", ["ring-ref", "event-channel"])
def test_nodes_that_are_no_numbers(node: str, said: str) -> None:
    error = lie(lambda page: None, **{node: said})
    assert isinstance(error, VchanError)
    assert node in str(error)


@pytest.mark.parametrize("node", ["ring-ref", "event-channel"])
def test_numbers_that_name_nothing(node: str) -> None:
    assert isinstance(lie(lambda page: None, **{node: "777"}), XenError)


@pytest.mark.parametrize("at", [abi.LEFT_PROD, abi.RIGHT_PROD])
def test_indices_further_apart_than_the_ring(at: int) -> None:
    error = lie(lambda page: pack_into("<I", page, at, 0x8000_0000))
    assert isinstance(error, VchanError)
    assert "broke the ring" in str(error)


def test_an_offer_whose_server_is_gone() -> None:
    async def dom0(xen: Domain) -> None:
        with xen.events.alloc_unbound(1) as port, xen.grants.share(1) as control:
            await xen.store.write(f"{PATH}/ring-ref", control.refs[0])
            number = port.number
        await xen.store.write(f"{PATH}/event-channel", number)

    async def guest(xen: Domain) -> None:
        with pytest.raises(XenError, match="bind_interdomain"):
            await vchan.connect(xen, 0, KEY)

    run(dom0, guest)
