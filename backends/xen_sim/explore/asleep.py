"""What stands in a machine in which nothing can happen any more: a wake-up that was lost, or
domains that wait for each other.

To sleep for good with an event to be had is a mistake: so a port that is
pending while its vCPU sleeps is a wake-up lost. One that is masked besides is one too, since
a program that masks a port has to look at it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xen_sim.explore.finding import DEADLOCK, LOST_WAKEUP, Finding

if TYPE_CHECKING:
    from xen_sim.life import Life
    from xen_sim.xen.vcpu import VCPU


def why(lives: Sequence[Life], who_waits: str) -> Finding:
    """The finding, from what stands in memory. `who_waits` are the lines of the report."""
    waits = f"\n{who_waits}" if any(life.loop for life in lives) else ""
    for life in lives:
        if not life.ended:
            for vcpu in life.domain.vcpus:
                if said := _missed(vcpu):
                    return Finding(LOST_WAKEUP, f"{said}{waits}", vcpu.cpu.name)
    asleep = [life.name for life in lives if not life.ended]
    said = f"nothing can ever happen again; asleep: {', '.join(asleep)}{waits}"
    return Finding(DEADLOCK, said, asleep[0] if asleep else "")


def _missed(vcpu: VCPU) -> str:
    """What a vCPU sleeps through, in words."""
    channels = vcpu.domain.event_channels
    for port in channels.open_ports():
        channel = channels.channel(port)
        if channel is None or channel.vcpu != vcpu.number or not channels.ops.is_pending(port):
            continue
        masked = "masked for good" if channels.ops.is_masked(port) else "not masked"
        return f"{vcpu.cpu.name} sleeps, and its port {port} ({channel}) is pending and {masked}"
    return ""
