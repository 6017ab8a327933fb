"""What a guest asks Xen and xenstored for is refused, and its store goes away: each fault finds the
program that rests on its never happening, and leaves alone the one that stands it."""

from __future__ import annotations

from errno import E2BIG, EINVAL, EIO, ENOSPC

import pytest
from support.faulty import Main, assert_found, effort, two

from activations import Domain, Foreign, Segment, XenError
from activations.promises import always
from activations.store import QuotaError, StoreClosed
from xen_sim.explore.engine import Program
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Programs
from xen_sim.explore.report import FAULT
from xen_sim.explore.search import Effort, explore
from xen_sim.guests.linux_fifo import LinuxFifo


async def rests(xen: Domain) -> None:
    """dom0, where it is none of its affair."""


# Grants


async def shares(xen: Domain) -> None:
    with xen.grants.share(0) as page:
        await xen.store.write("data/ref", page.refs[0])
        await xen.store.wait_for("data/read")


def test_the_vcpu_that_asks_for_pages_is_the_one_that_gets_none() -> None:
    async def only_shares(xen: Domain) -> None:
        xen.grants.share(0).close()

    def body(machine: ExploredMachine) -> object:
        machine.boot("guest", [rests, only_shares], kernel=LinuxFifo)
        return machine.run()

    smp = Programs(Program("smp", "smp"), body)
    found = explore(smp, effort("grants:exhausted")).found[0]
    assert [each.actor for each in found.moments if each.mark == FAULT] == ["guest.1"]


async def shares_or_says_that_it_cannot(xen: Domain) -> None:
    try:
        await shares(xen)
    except XenError as error:
        always(error.errno == ENOSPC, "no entry is ENOSPC")
        await xen.store.write("data/ref", "none")
        await xen.store.wait_for("data/read")


async def the_page(xen: Domain) -> tuple[int, str, str]:
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}/data"
    return guest, home, await xen.store.wait_for(f"{home}/ref")


async def maps(xen: Domain) -> None:
    guest, home, ref = await the_page(xen)
    if ref != "none":
        with xen.grants.map(guest, [int(ref)]):
            pass
    await xen.store.write(f"{home}/read", "")


async def copies(xen: Domain) -> None:
    guest, home, ref = await the_page(xen)
    xen.grants.copy([Segment(Foreign(guest, int(ref)), bytearray(4096), 4096)])
    await xen.store.write(f"{home}/read", "")


async def maps_or_copies_or_neither(xen: Domain) -> None:
    guest, home, ref = await the_page(xen)
    if ref != "none":
        try:
            with xen.grants.map(guest, [int(ref)]):
                pass
        except XenError as error:
            always(error.errno == EINVAL, "no mapping is EINVAL")
        try:
            xen.grants.copy([Segment(Foreign(guest, int(ref)), bytearray(4096), 4096)])
        except XenError as error:
            always(error.errno == EIO, "no copy is EIO")
            always("GNTST_general_error" in str(error), "and Xen's status is said")
    await xen.store.write(f"{home}/read", "")


# xenstore


async def writes(xen: Domain) -> None:
    await xen.store.write("data/here", "1")


async def begins_a_transaction(xen: Domain) -> None:
    async with xen.store.transaction() as transaction:
        await transaction.exists("data/here")


async def watches(xen: Domain) -> None:
    async with xen.store.watch("data") as changes:
        async for _ in changes:
            return


async def tries_again(xen: Domain) -> None:
    for attempt in (writes, begins_a_transaction, watches):
        while True:
            try:
                await attempt(xen)
            except QuotaError as error:
                expected = E2BIG if attempt is watches else ENOSPC
                always(error.errno == expected, "a quota is refused as Xen 4.17 has it")
            except StoreClosed:
                always(not xen.store.closed, "the store is connected anew")
            else:
                break


WEAK: dict[str, tuple[str, Main, Main]] = {
    "a share": ("grants:exhausted", shares, maps),
    "a mapping": ("grants:refused", shares, maps),
    "a copy": ("grants:refused", shares, copies),
    "a write": ("store:quota", writes, rests),
    "a transaction": ("store:quota", begins_a_transaction, rests),
    "a watch": ("store:quota", watches, rests),
    "a connection": ("store:connection lost", watches, rests),
}
STRONG: dict[str, tuple[Main, Main]] = {
    "grants": (shares_or_says_that_it_cannot, maps_or_copies_or_neither),
    "store": (tries_again, rests),
}


@pytest.mark.parametrize("what", WEAK)
def test_a_fault_finds_who_rests_on_its_never_happening(what: str) -> None:
    fault, guest, dom0 = WEAK[what]
    weak = two(guest, dom0)
    assert explore(weak, Effort(strategy="first-come")), "it is well where nothing goes wrong"
    assert_found(weak, fault)


@pytest.mark.parametrize("kind", STRONG)
def test_a_fault_leaves_alone_who_stands_it(kind: str) -> None:
    verdict = explore(two(*STRONG[kind]), effort(kind, strategy="portfolio", runs=100))
    assert verdict, verdict
