"""Every kernel's lower half, under every delivery, on one vCPU and on several.

Each carries the whole runtime: the store, sleeps, ports. What the specimen of June 2020 loses, the
others do not.
"""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest
from support.parameters import one_in, scenarios_in
from support.places import EXAMPLES, RULES

from activations import BackendError, BlockedForever, Domain, scenario
from activations.cli import main
from activations.lower import Clock
from xen_sim import Kernel, Machine, PlainGuest
from xen_sim.guests.asyncio_guest import Guest
from xen_sim.guests.catalogue import DELIVERIES, KERNELS
from xen_sim.guests.freebsd import FreeBSD
from xen_sim.guests.linux_2l import Linux2L
from xen_sim.guests.linux_fifo import LinuxFifo
from xen_sim.guests.mini_os import MiniOS
from xen_sim.guests.platform import Delivery
from xen_sim.guests.solo5_2020 import Solo5Of2020

ROUNDS = 20
PAUSE = 0.5
"""Seconds before each answer."""
GUESTS = [kernel for kernel in KERNELS.values() if kernel is not Solo5Of2020]
COMBINATIONS = list(product(GUESTS, DELIVERIES))
OTHERS = [MiniOS, Linux2L, LinuxFifo, FreeBSD]
"""Than the one that the rules run on anyway."""


def words(how: tuple[Any, ...]) -> str:
    """The name of a combination."""
    return "-".join(getattr(part, "name", part) for part in how)


async def server(xen: Domain) -> int:
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/data/port", port.number)
        await port.wait()
        for _ in range(ROUNDS):
            port.notify()
            await port.wait()
    return xen.time_ns()


async def client(xen: Domain) -> None:
    number = int(await xen.store.wait_for("data/port"))
    with xen.events.bind_interdomain(0, number) as port:
        await port.wait()
        port.notify()
        for _ in range(ROUNDS):
            await port.wait()
            await asyncio.sleep(PAUSE)
            port.notify()


def ping_pong(kernel: type[Kernel], **how: Any) -> int:
    """Two domains of this kernel; the virtual time at which the server was through."""
    options = {key: how.pop(key) for key in ("delivery", "vcpus") if key in how}
    machine = Machine(**how)
    machine.boot("dom0", server, kernel=kernel, **options)
    machine.boot("guest", client, kernel=kernel, **options)
    through: int = machine.run()["dom0"]
    return through


@pytest.mark.parametrize("vcpus", [1, *(pytest.param(n, marks=pytest.mark.once) for n in (2, 32))])
@pytest.mark.parametrize(("kernel", "delivery"), COMBINATIONS)
def test_two_domains_meet_sleep_and_lose_nothing(
    kernel: type[Kernel], delivery: str, vcpus: int
) -> None:
    assert ping_pong(kernel, delivery=delivery, vcpus=vcpus) == ROUNDS * 500_000_000


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize(("kernel", "delivery"), COMBINATIONS)
def test_both_clocks_and_other_orders(
    kernel: type[Kernel], delivery: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.ROUNDS", 1)
    if clock == "wall":
        monkeypatch.setattr(f"{__name__}.PAUSE", 0.005)
    for seed in range(3):
        ping_pong(kernel, delivery=delivery, seed=seed, clock=clock)


@pytest.mark.once
@pytest.mark.parametrize(("kernel", "delivery"), COMBINATIONS)
def test_preempted_anywhere_they_lose_nothing(
    kernel: type[Kernel], delivery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.ROUNDS", 3)
    for seed in range(4):
        ping_pong(kernel, delivery=delivery, vcpus=2, seed=seed, explore=True)


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_the_code_of_june_2020_loses_a_wake_up_on_the_ordinary_course(delivery: str) -> None:
    """All four faults together: it takes no schedule."""
    with pytest.raises(BlockedForever, match=r"main' waits for"):
        ping_pong(Solo5Of2020, delivery=delivery)


# Some of these always run: each kernel, delivery and file is among them.
KERNELS_AND_RULES = product(OTHERS, ["events", "timers", "grants", "vchan", "find"], DELIVERIES)
KERNELS_AND_DRIVERS = product(OTHERS, ["block_ours", "net", "console", "xenbus"])


@pytest.mark.once
@pytest.mark.parametrize("how", one_in(7, KERNELS_AND_RULES), ids=words)
def test_the_rules_hold_on_every_kernel(how: tuple[type[Kernel], str, Delivery]) -> None:
    kernel, file, delivery = how
    for parameter in scenarios_in(RULES / f"{file}.py"):
        rule = scenario.load(parameter.values[0])
        rule.run("sim", guest=kernel.name, delivery=delivery, vcpus=2)


@pytest.mark.once
@pytest.mark.parametrize("how", one_in(5, KERNELS_AND_DRIVERS), ids=words)
def test_drivers_run_on_every_kernel(how: tuple[type[Kernel], str]) -> None:
    kernel, file = how
    for parameter in scenarios_in(RULES / f"{file}.py"):
        scenario.load(parameter.values[0]).run("sim", guest=kernel.name, delivery="callback")


# Several vCPUs


@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize("kernel", [Linux2L, LinuxFifo, FreeBSD])
def test_an_event_loop_on_each_vcpu_has_its_own_ports_and_timers(
    kernel: type[Kernel], delivery: Any
) -> None:
    """Port numbers that share a word, and each loop hears its own alone."""
    heard: dict[str, int] = {}

    async def hear(xen: Domain) -> int:
        with xen.events.alloc_unbound(0) as port:
            heard[xen.name] = port.number
            count = 0
            async with asyncio.timeout(100):
                while count < 5:
                    await port.wait()
                    count += 1
        return port.statistics().fired

    async def send(xen: Domain) -> None:
        await asyncio.sleep(1)
        ports = [xen.events.bind_interdomain(1, number) for number in heard.values()]
        for _ in range(5):
            for port in ports:
                port.notify()
                await asyncio.sleep(1)
        for port in ports:
            port.close()

    machine = Machine()
    machine.boot("dom0", send)
    machine.boot("guest", [hear] * 3, kernel=kernel, delivery=delivery)
    results = machine.run()
    assert results == {"dom0": None, "guest": 5, "guest.1": 5, "guest.2": 5}
    assert len(set(heard.values())) == 3


class TakesEveryPort(Linux2L):
    """A kernel that forgets which vCPU a port is bound to."""

    def active(self, word: int) -> int:
        return self.pending[word] & ~self.masks[word]


def test_an_event_that_is_taken_on_the_wrong_vcpu_is_found_out() -> None:
    """Both vCPUs wake, and the one that scans first takes what is the other's."""

    async def hear(xen: Domain) -> None:
        with xen.events.alloc_unbound(0) as port:
            numbers[xen.name] = port.number
            await port.wait()

    async def send(xen: Domain) -> None:
        await asyncio.sleep(1)
        ports = [xen.events.bind_interdomain(1, number) for number in numbers.values()]
        for port in ports:
            port.notify()
        await asyncio.sleep(1)
        for port in ports:
            port.close()

    def run(kernel: type[Kernel]) -> None:
        machine = Machine()
        machine.boot("dom0", send)
        machine.boot("guest", [hear, hear], kernel=kernel)
        machine.run()

    numbers: dict[str, int] = {}
    run(Linux2L)
    with pytest.raises(BlockedForever, match=r"guest.1 main' waits for port"):
        run(TakesEveryPort)


def test_a_kernel_is_given_by_its_name_as_well() -> None:
    machine = Machine()
    guest = machine.boot("guest", client, kernel="linux-fifo").loop._lower
    assert isinstance(guest, Guest)
    assert isinstance(guest.kernel, LinuxFifo)
    machine.close()


@pytest.mark.xen(explore=2)
def test_an_explored_guest_has_the_kernel_that_is_named(xen_machine: Machine) -> None:
    def wait(guest: PlainGuest) -> None:
        assert isinstance(guest.kernel, Linux2L)

    xen_machine.plain("guest", wait, kernel="linux")
    xen_machine.run()


# What cannot be


@pytest.mark.parametrize(
    ("kernel", "said"),
    [("windows", "there is no guest kernel 'windows'"), (3, "3 is no kernel: give a name .solo5")],
)
def test_what_is_no_kernel_is_one_clear_error(kernel: Any, said: str) -> None:
    with pytest.raises(BackendError, match=said):
        Machine().boot("guest", client, kernel=kernel)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--guest", "windows"], "there is no guest kernel 'windows'; there are: solo5, mini-os"),
        (["--delivery", "pigeon"], "Xen has no delivery 'pigeon'; it has: vector, callback, pv"),
        (["--vcpus", "33"], "'dom0' cannot have 33 vCPUs: 1 to 32"),
        (["--vcpus", "0"], "'dom0' cannot have 0 vCPUs: 1 to 32"),
        (["-b", "lab", "--guest", "solo5"], "has no use for guest"),
    ],
)
def test_a_guest_that_cannot_be_is_one_clear_error(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(EXAMPLES / "pingpong.py"), *options]) == 2
    assert said in capsys.readouterr().err


def test_programs_on_several_vcpus_need_a_kernel_for_several() -> None:
    with pytest.raises(BackendError, match="solo5 is for one vCPU: take linux"):
        Machine().boot("guest", [server, server])


def test_the_command_runs_an_example_on_any_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    for kernel, delivery in COMBINATIONS:
        command = ["run", str(EXAMPLES / "pingpong.py"), "--guest", kernel.name]
        assert main([*command, "--delivery", delivery, "--vcpus", "2"]) == 0
        assert "10 pings, 10 pongs" in capsys.readouterr().out
