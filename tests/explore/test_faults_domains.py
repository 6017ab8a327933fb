"""Domains that are paused, killed, restarted and migrated: each alone finds the program that rests
on its never happening, and leaves alone the one that stands it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from support.faulty import Main, assert_found, effort, two

from activations import Domain, XenError
from activations.errors import GenerationEnded
from activations.promises import always, eventually, sometimes
from activations.store import StoreError
from xen_sim import Machine, PlainGuest
from xen_sim.explore.engine import Program
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Programs
from xen_sim.explore.search import Effort, explore
from xen_sim.explore.verdict import FOUND
from xen_sim.guests.linux_fifo import LinuxFifo
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

STANDS = 40
"""Runs of what is right."""


# A guest that asks, and a dom0 that answers


async def asks(xen: Domain) -> None:
    """An answer is what it waits for. It asks once."""
    with xen.events.alloc_unbound(0) as port:
        await xen.store.write("data/port", port.number)
        await port.wait()


async def asks_within_15_ms(xen: Domain) -> None:
    async with asyncio.timeout(0.015):
        await asks(xen)


async def asks_again(xen: Domain) -> None:
    """Migrated, it asks once more."""
    while True:
        try:
            return await asks(xen)
        except (GenerationEnded, StoreError, XenError):
            continue


async def answers_one(xen: Domain) -> None:
    guest = await xen.find("guest")
    number = int(await xen.store.wait_for(f"/local/domain/{guest}/data/port"))
    with xen.events.bind_interdomain(guest, number) as port:
        port.notify()


async def answers_whoever_comes(xen: Domain) -> None:
    """As long as there is a guest, it is answered."""
    while True:
        for domid in await xen.store.list("/local/domain"):
            if domid != "0":
                await answer_until_it_is_gone(xen, int(domid))
                break
        else:
            return


async def answer_until_it_is_gone(xen: Domain, guest: int) -> None:
    home = f"/local/domain/{guest}"
    async with xen.store.watch(home) as changes:
        async for path in changes:
            try:
                await xen.store.read(f"{home}/name")
                if path not in (home, f"{home}/data/port"):
                    continue
                number = int(await xen.store.read(f"{home}/data/port"))
            except StoreError:
                if not await xen.store.exists(f"{home}/name"):
                    return
                continue
            with suppress(XenError):
                xen.events.bind_interdomain(guest, number).notify()


async def tidily(xen: Domain) -> None:
    try:
        await answers_whoever_comes(xen)
    finally:
        for port in list(xen.events.ports.values()):
            if port.remote != "xenstored":
                port.close()


WEAK: dict[str, tuple[Main, Main]] = {
    "paused": (asks_within_15_ms, answers_one),
    "killed": (asks, answers_one),
    "restarted": (asks, answers_one),
    "migrated": (asks, tidily),
}


@pytest.mark.parametrize("fault", WEAK)
def test_a_fault_finds_who_rests_on_its_never_happening(fault: str) -> None:
    weak = two(*WEAK[fault])
    assert explore(weak, Effort(strategy="first-come")), "it is well where nothing goes wrong"
    assert_found(weak, f"domains:{fault}")


@pytest.mark.parametrize("fault", WEAK)
def test_a_fault_leaves_alone_who_stands_it(fault: str) -> None:
    verdict = explore(two(asks_again, tidily), effort(f"domains:{fault}", runs=STANDS))
    assert verdict, verdict


def test_all_of_them_together_leave_alone_who_stands_them() -> None:
    verdict = explore(two(asks_again, tidily), effort("domains", strategy="portfolio", runs=60))
    assert verdict, verdict


def test_the_program_in_dom0_dies_where_its_scenario_says_so() -> None:
    async def begins_once(xen: Domain) -> None:
        assert not await xen.store.exists("/tool/begun"), "it began once before"
        await xen.store.write("/tool/begun", "")

    def alone(restart: bool | None) -> Programs:
        def body(machine: ExploredMachine) -> object:
            machine.boot("dom0", begins_once, restart=restart)
            return machine.run()

        return Programs(Program("alone", "alone"), body)

    assert explore(alone(True), effort("domains:restarted")).kind == FOUND
    assert explore(alone(None), effort("domains", runs=STANDS))
    assert explore(two(asks_again, tidily, restart=True), effort("domains:restarted", runs=STANDS))


def test_what_a_killed_domain_would_do_in_its_end_is_done_by_nobody() -> None:
    done: list[str] = []

    async def cleans_up(xen: Domain) -> None:
        try:
            await asyncio.sleep(1)
        finally:
            done.append("cleaned up")

    async def looks(xen: Domain) -> None:
        done.clear()
        await asyncio.sleep(0.5)
        lives = await xen.store.exists("/local/domain/1/name")
        await asyncio.sleep(1)
        assert lives or not done
        sometimes(not lives, "the guest is killed")

    verdict = explore(two(cleans_up, looks), effort("domains:killed", runs=STANDS))
    assert verdict, verdict


def test_what_the_dead_promise_as_the_run_cleans_up_after_them_is_no_finding() -> None:
    async def promises_in_its_end(xen: Domain) -> None:
        finished = False
        try:
            await asyncio.sleep(1)
            finished = True
        finally:
            always(finished, "it got to its end")
            eventually(lambda: finished, "it gets to its end")

    async def looks(xen: Domain) -> None:
        await asyncio.sleep(2)
        sometimes(not await xen.store.exists("/local/domain/1/name"), "the guest is killed")

    verdict = explore(two(promises_in_its_end, looks), effort("domains:killed", runs=STANDS))
    assert verdict, verdict


class MigratedWithinASend(Tape):
    """dom0 comes before the guest reads; where it has done half a send, the guest runs on, and is
    migrated as soon as it may be."""

    def __init__(self) -> None:
        self.halfway = False
        self.migrated = False

    def choose(self, choice: Choice) -> int:
        wanted = ""
        if choice.fault:
            wanted = "guest migrated" if self.halfway and not self.migrated else ""
            self.migrated = self.migrated or wanted in choice.options
        elif not self.halfway and choice.point.startswith("guest: read memory"):
            wanted = "dom0"
        elif not self.halfway and choice.point.startswith("dom0: bts evtchn_pending of guest"):
            self.halfway, wanted = True, "guest"
        return choice.options.index(wanted) if wanted in choice.options else 0


def test_no_domain_is_migrated_while_another_stands_within_xen() -> None:
    """What that one sends is for the ports of before: none of it comes to a port of after."""

    async def listens(xen: Domain) -> None:
        while True:
            try:
                with xen.grants.share(0) as page, xen.events.alloc_unbound(0) as port:
                    await xen.store.write("data/port", port.number)
                    if not xen.generation:
                        await asyncio.sleep(0.01)
                        for _ in range(300):
                            assert not page.memory[0]
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await port.wait()
                            assert not xen.generation, "for a port of before"
                    return
            except GenerationEnded:
                continue

    async def sends(xen: Domain) -> None:
        guest = await xen.find("guest")
        number = int(await xen.store.wait_for(f"/local/domain/{guest}/data/port"))
        with xen.events.bind_interdomain(guest, number) as port:
            await asyncio.sleep(0.01)
            port.notify()
            await asyncio.sleep(2)

    tape = MigratedWithinASend()
    machine = Machine(tape=tape, explore=True, faults="domains:migrated")
    machine.boot("guest", listens)
    machine.boot("dom0", sends)
    machine.run()
    assert tape.halfway


@pytest.mark.parametrize("programs", [("ends", "goes on"), ("goes on", "ends")])
def test_a_domain_may_die_as_long_as_one_of_its_vcpus_goes_on(programs: tuple[str, ...]) -> None:
    async def ends(xen: Domain) -> None:
        pass

    async def goes_on(xen: Domain) -> None:
        await asyncio.sleep(2)

    async def looks(xen: Domain) -> None:
        await asyncio.sleep(0.5)
        lives = await xen.store.exists("/local/domain/1/name")
        await asyncio.sleep(1)
        later = await xen.store.exists("/local/domain/1/name")
        sometimes(lives and not later, "the guest is killed as one vCPU goes on")

    mains = {"ends": ends, "goes on": goes_on}

    def body(machine: ExploredMachine) -> object:
        machine.boot("guest", [mains[name] for name in programs], kernel=LinuxFifo)
        machine.boot("dom0", looks)
        return machine.run()

    verdict = explore(Programs(Program("one", "one"), body), effort("domains:killed", runs=100))
    assert verdict, verdict


def test_a_domain_that_may_not_die_does_not() -> None:
    def body(machine: ExploredMachine) -> object:
        machine.boot("guest", asks, restart=False)
        machine.boot("dom0", answers_one)
        return machine.run()

    verdict = explore(
        Programs(Program("lasting", "lasting"), body), effort("domains:killed", runs=STANDS)
    )
    assert verdict, verdict


def test_a_domain_of_several_vcpus_dies_on_all_of_them_and_comes_back_on_all() -> None:
    def body(machine: ExploredMachine) -> object:
        machine.boot("guest", [asks, asks_nothing], kernel=LinuxFifo, vcpus=3)
        machine.boot("dom0", tidily)
        return machine.run()

    async def asks_nothing(xen: Domain) -> int:
        await asyncio.sleep(0.001)
        return xen.domid

    smp = Programs(Program("smp", "smp"), body)
    assert explore(smp, effort("domains:paused,domains:restarted", runs=STANDS))
    assert explore(smp, effort("domains:killed", runs=STANDS))


def test_a_plain_program_dies_where_it_says_that_it_may() -> None:
    def body(machine: ExploredMachine) -> object:
        begun: list[int] = []

        def begins(guest: PlainGuest) -> None:
            begun.append(guest.alloc_unbound(0))
            guest.xen.yield_()
            guest.xen.yield_()
            assert len(begun) == 1, "begun twice"

        machine.plain("guest", begins, restart=restart)
        return machine.run()

    for restart in (False, True):
        verdict = explore(Programs(Program("plain", "plain"), body), effort("domains:restarted"))
        assert bool(verdict.found) == restart, verdict
