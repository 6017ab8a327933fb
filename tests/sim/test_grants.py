"""Grants where the simulator alone can tell: what is named at the end, what many of them cost."""

from __future__ import annotations

import asyncio
import errno
from typing import Any, NoReturn

import pytest

import activations
from activations import Domain, Grant, LeakWarning, Scenario, XenError
from activations.abi.event_channel import DOMID_SELF
from xen_sim import Machine
from xen_sim.xen.shared_pages import MappedPages

HOME = "/local/domain/1/data"
# What a suspend ends


def test_after_a_suspend_nothing_is_granted_nor_mapped_and_the_numbers_are_free_again():
    """As on a real Xen, where a restored domain has a new grant table. A peer keeps what it maps of
    the old one's pages, and gets no more of them."""
    machine = Machine()

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        with xen.grants.share(guest, pages=2) as lent:
            await xen.store.write(f"/local/domain/{guest}/data/lent", str(lent.refs[0]))
            refs = [int(ref) for ref in (await xen.store.wait_for(f"{HOME}/refs")).split()]
            with xen.grants.map(guest, refs[:1]) as mapped:
                await xen.store.write(f"{HOME}/mapped", "")
                await xen.store.wait_for(f"{HOME}/resumed")
                assert bytes(mapped.memory[:5]) == b"hello"
                with pytest.raises(XenError, match="not granted"):
                    xen.grants.map(guest, refs[1:])

    async def guest(xen: Domain) -> None:
        ref = int(await xen.store.wait_for("data/lent"))
        before, mapped = xen.grants.share(0, pages=2), xen.grants.map(0, [ref])
        before.memory[:5] = b"hello"
        await xen.store.write(f"{HOME}/refs", " ".join(map(str, before.refs)))
        await xen.store.wait_for(f"{HOME}/mapped")
        machine.suspend(xen.loop)
        before.close()
        mapped.close()
        await xen.store.write(f"{HOME}/resumed", "")
        await asyncio.sleep(1)
        with xen.grants.share(0, pages=2) as after:
            assert after.refs == before.refs

    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


# Who is told that pages go


def test_pages_go_though_the_port_that_was_to_tell_of_it_went_before():
    async def main(xen: Domain) -> None:
        page, port = xen.grants.share(xen.domid), xen.events.alloc_unbound(xen.domid)
        page.notify_on_close(port=port.number)
        port.close()
        page.close()
        page.close()
        assert not xen.grants.open

    activations.run(main)


def test_a_domain_that_ends_gives_all_back_though_nobody_can_be_told_of_its_pages():
    domain = Machine().xen.create("dom0")
    channels, grants = domain.event_channels, domain.page_grants
    closed, open_still = (channels.alloc_unbound(DOMID_SELF, 1) for _ in range(2))
    grants.share(1, 1, writable=True).notify_on_close(port=closed)
    channels.close(closed)
    domain.xen.kill(domain)
    assert not grants.shared
    assert open_still not in channels.open_ports()


# What is left at the end


def test_a_page_that_is_still_mapped_is_not_taken_back_and_the_error_names_who_maps_it():
    async def main(xen: Domain) -> tuple[str, str]:
        shared = xen.grants.share(xen.domid, pages=2)
        mapped = xen.grants.map(xen.domid, shared.refs)
        with pytest.raises(XenError) as raised:
            shared.close()
        assert raised.value.errno == errno.EBUSY
        assert xen.grants.open == [shared, mapped], "it stays open"
        mapped.close()
        shared.close()
        assert not xen.grants.open
        return f"[{', '.join(map(str, shared.refs))}] are mapped by domain 0", str(raised.value)

    expected, said = activations.run(main)
    assert expected in said


def test_what_was_left_open_is_named_with_its_peer_its_references_and_the_cure():
    async def main(xen: Domain) -> None:
        xen.grants.share(7, pages=2)

    with pytest.warns(LeakWarning) as warned:
        activations.run(main)
    (said,) = (str(warning.message) for warning in warned)
    assert "<Grant [8, 9] shared with domain 7>" in said
    assert "close()" in said
    assert "with" in said


def test_a_page_the_peer_still_maps_at_the_end_hides_no_other_leak():
    scenario = Scenario("owner leaves first")

    @scenario.domain("dom0")
    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        page = xen.grants.share(guest)
        xen.grants.share(guest, pages=2)
        await xen.store.write(f"/local/domain/{guest}/data/ref", str(page.refs[0]))
        await xen.store.wait_for(f"/local/domain/{guest}/data/mapped")

    @scenario.domain("guest")
    async def guest(xen: Domain) -> None:
        ref = int(await xen.store.wait_for("data/ref"))
        with xen.grants.map(0, [ref]):
            await xen.store.write("data/mapped", "1")
            async with xen.store.watch("/local/domain/0/gone") as gone:
                async for _ in gone:
                    pass

    with pytest.warns(LeakWarning) as warned:
        outcome = scenario.outcome("sim")
    assert "dom0's [8] are mapped by domain 1" in outcome.failures["dom0"]
    named = {str(warning.message).partition(" ended with ")[2][:12] for warning in warned}
    assert {"<Grant [8] s", "<Grant [9, 1"} <= named


# Many of them


@pytest.mark.parametrize("number", [-1, 1 << 32, 1 << 70])
def test_a_number_that_xen_has_no_room_for_is_refused_and_takes_nothing(number: int):
    async def main(xen: Domain) -> None:
        with xen.grants.share(0) as first:
            pass
        for taken in (
            lambda: xen.grants.share(number),
            lambda: xen.grants.map(number, [8]),
            lambda: xen.grants.map(0, [number]),
            lambda: xen.events.alloc_unbound(number),
            lambda: xen.events.bind_interdomain(number, 1),
            lambda: xen.events.bind_interdomain(0, number),
            lambda: xen.events.bind_virq(number),
        ):
            with pytest.raises(ValueError, match=f"{number}: it must be from 0 to "):
                taken()
        with xen.grants.share(0) as second:
            assert second.refs == first.refs

    activations.run(main)


def test_opening_and_closing_one_of_thousands_looks_at_no_other(monkeypatch: Any):
    """A list would compare it with all that lie before it."""

    def compared(one: object, other: object) -> NoReturn:
        raise AssertionError(f"{one} compared with {other}")

    async def main(xen: Domain) -> int:
        with xen.grants.share(xen.domid, pages=30) as pages:
            several = [xen.grants.map(xen.domid, [ref]) for ref in pages.refs * 100]
            for grant in several[1::2]:
                grant.close()
            left = len(xen.grants.open)
            for grant in reversed(several):
                grant.close()
        return left

    for kind in (Grant, MappedPages):
        monkeypatch.setattr(kind, "__eq__", compared)
        monkeypatch.setattr(kind, "__hash__", object.__hash__)
    assert activations.run(main) == 1501
