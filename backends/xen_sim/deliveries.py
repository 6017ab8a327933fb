"""A domain's deliveries in the trace: which ports a demux took, and which waits that ended.

Between the demux and the unmask the upper half fires each port (`activations.loop.Idle`), so a port
that has woken more waits at the unmask than at the demux has woken somebody. Only a loop whose
machine keeps a trace is listened to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from activations.port import Port
from xen_sim.guests.asyncio_guest import Guest


def listen(guest: Guest, ports: Mapping[int, Port], note: Callable[..., None]) -> None:
    """Note this guest's deliveries. `ports` are the loop's own; others are noted as taken alone."""
    demux, unmask = guest.demux, guest.unmask
    woken: dict[int, int] = {}

    def noting_demux() -> Sequence[int]:
        taken = demux()
        for number in taken:
            note("demux", port=number)
            if (port := ports.get(number)) is not None:
                woken[number] = port.figures.woken
        return taken

    def noting_unmask(numbers: Sequence[int]) -> None:
        for number in numbers:
            before, port = woken.pop(number, None), ports.get(number)
            if before is not None and port is not None and port.figures.woken > before:
                note("wake", port=number)
        unmask(numbers)

    guest.demux, guest.unmask = noting_demux, noting_unmask
