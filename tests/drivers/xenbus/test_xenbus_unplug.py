"""A device is taken away while one of its ends' domains ends, at any step."""

from __future__ import annotations

import asyncio

import pytest
from support.drawn import by_turns

from activations import Domain
from activations.xenbus import Device, plug, unplug
from xen_sim import Machine
from xen_sim.faults.ask import ORDINARY
from xen_sim.schedule.step import Choice
from xen_sim.schedule.tape import Tape

DRIVER, GUEST = 1, 2
DEVICE = Device("vbd", 51712, GUEST, DRIVER, "test")
STRIDE = 15
"""Of so many moments one, in each test."""


class KilledAt(Tape):
    """A domain is killed so many steps behind the moment at which the device is to go."""

    def __init__(self, victim: str, behind: int) -> None:
        self._deed = f"{victim} killed"
        self._left = behind
        self.goes = False
        self.done = False

    def choose(self, choice: Choice) -> int:
        if choice.fault and self.goes and not self.done and self._deed in choice.options:
            self.done = self._left == 0
            self._left -= 1
            if self.done:
                return choice.options.index(self._deed)
        return choice.options.index(ORDINARY) if choice.fault else 0


@pytest.mark.parametrize("victim", ["driver", "guest"])
@pytest.mark.parametrize("first", [0, *by_turns(5, range(1, STRIDE))])
def test_a_device_goes_though_its_domain_ends_in_that_very_moment(victim: str, first: int) -> None:
    behind = first
    while unplugged(victim, behind):
        behind += STRIDE
    assert behind > 5 * STRIDE


def unplugged(victim: str, behind: int) -> bool:
    """Take a device away as a domain ends, so many steps behind its beginning; whether that was
    before the device had gone."""
    tape = KilledAt(victim, behind)

    async def toolstack(xen: Domain) -> None:
        await plug(xen, DEVICE)
        tape.goes = True
        await unplug(xen, DEVICE, within=0.1, force=True)
        tape.goes = False
        for folder in (DEVICE.front_path, DEVICE.back_path, DEVICE.back_path.rpartition("/")[0]):
            assert not await xen.store.exists(folder)

    async def is_there(xen: Domain) -> None:
        await asyncio.sleep(1)

    machine = Machine(tape=tape, explore=True, faults="domains:killed")
    for name, main in (("dom0", toolstack), ("driver", is_there), ("guest", is_there)):
        machine.boot(name, main)
    machine.run()
    return tape.done
