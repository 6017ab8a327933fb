"""What a domain's lower half does, in a trace.

    operations    ports bound, closed and sent to; where the domain began, was suspended and ended
    deliveries    which ports a demux took, and which waits that ended

Between the demux and the unmask the upper half fires each port (`activations.loop.Idle`), so a port
that has woken more waits at the unmask than at the demux has woken somebody.

Each puts functions that note in the place of the lower half's own. So what is not traced costs
nothing, and has to be traced before its loop is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from activations.lower import LowerHalf
from activations.port import Port
from activations.trace import Notes

Note = Callable[..., None]
"""Called with what was done, and its details by name."""


Ports = Callable[[], Mapping[int, Port]]
"""Gives a loop's own ports. There may be no loop yet."""


def trace(lower: LowerHalf, ports: Ports, notes: Notes) -> Note:
    """Note all that this new lower half does, by a clock that begins now; give what notes more of
    the same domain."""
    began = lower.time_ns()

    def note(what: str, **details: Any) -> None:
        notes.note(lower.time_ns() - began, lower.name, what, **details)

    note("start", domid=lower.domid, realtime=time.clock_gettime_ns(time.CLOCK_REALTIME))
    operations(lower, note)
    deliveries(lower, ports, note)
    return note


def operations(lower: LowerHalf, note: Note) -> None:
    """Note what is asked of the lower half, once it is done; and its end."""

    def allocated(port: int, remote_domid: int) -> None:
        note("alloc_unbound", port=port, remote=remote_domid)

    def bound(port: int, remote_domid: int, remote_port: int) -> None:
        note("bind_interdomain", port=port, remote=remote_domid, remote_port=remote_port)

    def bound_virq(port: int, virq: int) -> None:
        note("bind_virq", port=port, virq=virq)

    _after(lower, "alloc_unbound", allocated)
    _after(lower, "bind_interdomain", bound)
    _after(lower, "bind_virq", bound_virq)
    _after(lower, "close_port", lambda _, port: note("close", port=port))
    _before(lower, "notify", lambda port: note("send", port=port))
    _before(lower, "close", lambda: note("end"))


def deliveries(lower: LowerHalf, ports: Ports, note: Note) -> None:
    """Note what is delivered. Ports that are not the loop's are noted as taken alone."""
    demux, unmask = lower.demux, lower.unmask
    woken: dict[int, int] = {}

    def noting_demux() -> Sequence[int]:
        taken = demux()
        for number in taken:
            note("demux", port=number)
            if (port := ports().get(number)) is not None:
                woken[number] = port.statistics().woken
        return taken

    def noting_unmask(numbers: Sequence[int]) -> None:
        for number in numbers:
            before, port = woken.pop(number, None), ports().get(number)
            if before is not None and port is not None and port.statistics().woken > before:
                note("wake", port=number)
        unmask(numbers)

    _put(lower, "demux", noting_demux)
    _put(lower, "unmask", noting_unmask)


def _after(lower: LowerHalf, name: str, noted: Callable[..., None]) -> None:
    """Have this told of what the operation gave, and of its arguments."""
    operation = getattr(lower, name)

    @wraps(operation)
    def noting(*arguments: Any) -> Any:
        given = operation(*arguments)
        noted(given, *arguments)
        return given

    _put(lower, name, noting)


def _before(lower: LowerHalf, name: str, noted: Callable[..., None]) -> None:
    """Have this told of the operation's arguments, first: who is sent an event may be faster."""
    operation = getattr(lower, name)

    @wraps(operation)
    def noting(*arguments: Any) -> Any:
        noted(*arguments)
        return operation(*arguments)

    _put(lower, name, noting)


def _put(lower: LowerHalf, name: str, function: Callable[..., Any]) -> None:
    """In the place of a method of this one's."""
    setattr(lower, name, function)
