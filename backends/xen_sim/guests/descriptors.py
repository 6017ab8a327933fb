"""The descriptors that a simulated domain's event loop watches.

On the wall clock each domain has an epoll of its own, and the clock watches them all. On the
virtual clock there are none.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from activations.errors import VirtualClockError
from activations.lower import Ready
from xen_sim.schedule.clock import WallClock

_NOTHING_READY: Ready = []


class WatchedDescriptors(selectors.EpollSelector):
    """A domain's descriptors. When one is ready the clock says so and the domain is woken; only
    then is it worth a system call to ask which."""

    def __init__(self, clock: WallClock, wake: Callable[[], None]) -> None:
        super().__init__()
        self._clock = clock
        self._wake = wake
        self._ready = False
        clock.watch(self.fileno(), self._is_ready)

    def look(self) -> Ready:
        """The descriptors that are ready, if the clock has seen any."""
        if not self._ready:
            return _NOTHING_READY
        self._ready = False
        return self.select(0)

    def close(self) -> None:
        self._clock.unwatch(self.fileno())
        super().close()

    def _is_ready(self) -> None:
        self._ready = True
        self._wake()


class NoDescriptors(selectors.BaseSelector):
    """A selector that takes nothing."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> NoReturn:
        raise VirtualClockError(
            f"{fileobj!r} is a real descriptor: on the virtual clock it would never be ready; "
            'run with clock="wall" (`activations run --clock wall`)'
        )

    def unregister(self, fileobj: Any) -> NoReturn:
        raise KeyError(f"{fileobj!r} is not registered")

    def select(self, timeout: float | None = None) -> Ready:
        return _NOTHING_READY

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}
