"""What the explorer finds in programs in Python: by itself, and by their promises."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest
from support.explored import FEW, halves, kind_of, nothing, programs

from activations import Domain, promises
from xen_sim import PlainGuest, Solo5
from xen_sim.explore.engine import Program
from xen_sim.explore.finding import (
    ALWAYS,
    ASLEEP_DEAF,
    DEADLOCK,
    EVENTUALLY,
    EXCEPTION,
    LEAK,
    LIVELOCK,
    REENTERED,
    SOMETIMES,
    UNREACHABLE,
    UNSEEN,
)
from xen_sim.explore.lower_half import lower_half
from xen_sim.explore.machine import ExploredMachine
from xen_sim.explore.programs import Programs
from xen_sim.explore.search import explore
from xen_sim.explore.verdict import EXHAUSTED
from xen_sim.guests.upcalls import UPCALL_VECTOR

# What nobody has to ask for


def test_domains_that_wait_for_each_other_are_a_deadlock_with_who_waits_for_what() -> None:
    async def waits(xen: Domain) -> None:
        with xen.events.alloc_unbound(0) as port:
            await port.wait()

    verdict = explore(halves(dom0=waits, guest=waits), FEW)
    assert kind_of(verdict) == DEADLOCK
    assert "guest: 'guest main' waits for port 2 (to domain 0)" in verdict.found[0].finding.said


def test_a_deadlock_stays_one_whatever_those_who_wait_promise_as_they_are_ended() -> None:
    async def promises_in_its_end(xen: Domain) -> None:
        done = False
        try:
            with xen.events.alloc_unbound(0) as port:
                await port.wait()
            done = True
        finally:
            promises.always(done, "done")

    assert kind_of(explore(halves(dom0=nothing, guest=promises_in_its_end), FEW)) == DEADLOCK


def test_what_is_promised_behind_the_run_is_a_promise_too() -> None:
    def body(machine: ExploredMachine) -> object:
        machine.boot("dom0", nothing)
        machine.run()
        promises.always(False, "all is well in the end")
        return None

    verdict = explore(Programs(Program("behind", "behind"), body), FEW)
    assert kind_of(verdict) == ALWAYS


def test_a_program_that_never_ends_is_a_livelock() -> None:
    def body(machine: ExploredMachine) -> object:
        def main(guest: PlainGuest) -> None:
            while True:
                guest.take()

        machine.plain("dom0", main)
        return machine.run()

    assert kind_of(explore(programs(body, budget=1000), FEW)) == LIVELOCK


def test_an_exception_is_told_with_its_line() -> None:
    async def raises(xen: Domain) -> None:
        raise ValueError("no")

    verdict = explore(halves(dom0=raises), FEW)
    assert kind_of(verdict) == EXCEPTION
    assert "dom0: ValueError: no\n  in test_an_exception" in verdict.found[0].finding.said


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit])
def test_what_no_except_exception_takes_is_told_too(error: type[BaseException]) -> None:
    """It ends a domain; the explorer is not its own to end."""

    async def raises(xen: Domain) -> None:
        raise error(3)

    verdict = explore(halves(dom0=raises), FEW)
    assert kind_of(verdict) == EXCEPTION
    assert f"dom0: {error.__name__}: 3" in verdict.found[0].finding.said


def test_an_exception_that_nobody_saw_is_told() -> None:
    async def fails() -> None:
        raise ValueError("unseen")

    async def main(xen: Domain) -> None:
        task = asyncio.ensure_future(fails())
        await asyncio.sleep(1)
        del task
        gc.collect()  # an eager one is in a circle with its exception

    verdict = explore(halves(dom0=main), FEW)
    assert kind_of(verdict) == UNSEEN
    assert "ValueError: unseen" in str(verdict)


def test_a_port_that_nobody_closed_is_a_leak() -> None:
    async def leaks(xen: Domain) -> None:
        xen.events.alloc_unbound(0)

    assert kind_of(explore(halves(dom0=leaks), FEW)) == LEAK


class Deaf(Solo5):
    """Halts with interrupts off."""

    def block(self, deadline: int | None) -> None:
        self.cpu.cli()
        self.cpu.hlt()


class Nested(Solo5):
    """Enters its handler from its handler."""

    entered = False

    def upcall(self) -> None:
        super().upcall()
        if not self.entered:
            self.entered = True
            self.cpu.idt[UPCALL_VECTOR]()


def test_what_no_kernel_may_do_is_found() -> None:
    assert kind_of(explore(lower_half(Deaf), FEW)) == ASLEEP_DEAF
    assert kind_of(explore(lower_half(Nested), FEW)) == REENTERED


# What a program asks for


def promising(promise: Callable[[bool], None]) -> Programs:
    """dom0 looks whether the guest was there first."""

    def body(machine: ExploredMachine) -> object:
        came: list[str] = []

        def main(guest: PlainGuest) -> None:
            came.append(guest.name)
            promise(came[0] == "guest")

        machine.plain("dom0", main)
        machine.plain("guest", main)
        return machine.run()

    return programs(body)


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (ALWAYS, lambda first: promises.always(not first, "dom0 comes first")),
        (UNREACHABLE, lambda first: promises.unreachable("here") if first else None),
        (SOMETIMES, lambda first: promises.sometimes(False, "the moon is blue")),
        (EVENTUALLY, lambda first: promises.eventually(lambda: not first, "all is well")),
    ],
)
def test_a_promise_that_is_broken_is_found(kind: str, promise: Callable[[bool], None]) -> None:
    assert kind_of(explore(promising(promise), FEW)) == kind


def test_promises_that_are_kept_find_nothing() -> None:
    def promise(first: bool) -> None:
        promises.always(True, "a")
        promises.sometimes(first, "b")
        promises.eventually(lambda: True, "c")

    assert explore(promising(promise), FEW).kind == EXHAUSTED


def test_where_nobody_explores_a_broken_promise_is_an_error_that_names_it() -> None:
    with pytest.raises(promises.PromiseBroken, match="always: the sky is up"):
        promises.always(False, "the sky is up")
    promises.sometimes(False, "it rains")
    promises.eventually(lambda: False, "it ends")


def test_no_handling_of_errors_swallows_a_broken_promise() -> None:
    async def careless(xen: Domain) -> None:
        try:
            promises.always(False, "it holds")
        except BaseException:
            await asyncio.sleep(1)

    verdict = explore(halves(dom0=careless), FEW)
    assert str(verdict.found[0].finding) == "always: it holds"


def test_an_invariant_is_looked_at_before_every_step() -> None:
    def body(machine: ExploredMachine) -> object:
        held = [True]

        def main(guest: PlainGuest) -> None:
            held[0] = False
            guest.take()
            held[0] = True

        machine.invariant(lambda: held[0], "it is held")
        machine.plain("dom0", main)
        return machine.run()

    verdict = explore(programs(body), FEW)
    assert str(verdict.found[0].finding) == "invariant: it is held"
