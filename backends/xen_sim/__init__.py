"""xen_sim: a Xen in this process.

    Xen          hypervisor, domain, event_channel, grant_table     acts on a page's real bytes
                 hypercall, xenstored
    processor    vcpu, processor, clock, tape                       who runs, when, by whose choice
    guest        lower_half, guest                                  the code of a guest, on the same
    machine      machine, life, waiting, trace, output, backend     a run from boot to end

A `Machine` holds all of it; nothing is global.
"""

from xen_sim.backend import backend
from xen_sim.life import Life
from xen_sim.lower_half import Solo5
from xen_sim.machine import Machine
from xen_sim.tape import Diverged, Recording, Replay, Schedule, Seeded, Tape
from xen_sim.trace import Trace

__all__ = [
    "Diverged",
    "Life",
    "Machine",
    "Recording",
    "Replay",
    "Schedule",
    "Seeded",
    "Solo5",
    "Tape",
    "Trace",
    "backend",
]
