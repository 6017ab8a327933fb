"""A kernel that is watched: what it does that no kernel may is a finding.

It is the guest's own class with two methods looked at: a handler that is entered while it runs, and
a demux that gives out a port twice in one pass.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from functools import cache

from activations import promises
from xen_sim.explore.finding import OVER_AND_OVER, REENTERED
from xen_sim.guests.kernel import Kernel


def _broken(kind: str, said: str) -> None:
    for watcher in promises.watching():
        watcher.broken(kind, said)


@cache
def watched(kernel: type[Kernel]) -> type[Kernel]:
    """The same kernel, watched."""
    upcall: Callable[[Kernel], None] = kernel.upcall
    demux: Callable[[Kernel], Sequence[int]] = kernel.demux
    inside: set[Kernel] = set()

    def enter(self: Kernel) -> None:
        if self in inside:
            _broken(REENTERED, f"{self.platform.name}'s handler was entered while it ran")
        inside.add(self)
        try:
            upcall(self)
        finally:
            inside.discard(self)

    def take(self: Kernel) -> Sequence[int]:
        taken = demux(self)
        if len(set(taken)) < len(taken):
            twice = next(port for port in taken if taken.count(port) > 1)
            _broken(
                OVER_AND_OVER,
                f"{self.platform.name}'s demux delivered port {twice} {taken.count(twice)} times "
                "in one pass",
            )
        return taken

    methods = {"upcall": enter, "demux": take, "__module__": kernel.__module__}
    return types.new_class(kernel.__name__, (kernel,), exec_body=lambda body: body.update(methods))
