"""xen_sim: a Xen in this process.

    machine      machine, build, life, waiting, output, backend           a run from boot to end
    guests       kernel, solo5, ..., plain, asyncio_guest                 what runs on a vCPU
    xen          hypervisor, domain, event_channel, hypercall, ...        Xen itself
    hardware     memory, cpu, apic                                        what a processor does
    schedule     step, tape, clock, scheduler                             who goes next

An arrow points down only; `guests` and `xen` know of each other what they know on a real machine:
memory (`shared_info`) and the hypercalls. A `Machine` holds all of it; nothing is global.
"""

from activations.trace import Trace
from xen_sim.backend import backend
from xen_sim.guests.kernel import Kernel, TwoLevelKernel
from xen_sim.guests.plain import PlainGuest
from xen_sim.guests.platform import Platform
from xen_sim.guests.solo5 import Solo5
from xen_sim.hardware.cpu import TripleFault
from xen_sim.life import Life
from xen_sim.machine import Machine
from xen_sim.schedule.step import Choice, Step
from xen_sim.schedule.tape import Diverged, Recording, Replay, Schedule, Seeded, Taken, Tape

__all__ = [
    "Choice",
    "Diverged",
    "Kernel",
    "Life",
    "Machine",
    "PlainGuest",
    "Platform",
    "Recording",
    "Replay",
    "Schedule",
    "Seeded",
    "Solo5",
    "Step",
    "Taken",
    "Tape",
    "Trace",
    "TripleFault",
    "TwoLevelKernel",
    "backend",
]


def __dir__() -> list[str]:
    return __all__
