"""The kernels there are, by the names that `--guest` takes."""

from __future__ import annotations

from typing import get_args

from activations.errors import BackendError
from xen_sim.guests.freebsd import FreeBSD
from xen_sim.guests.kernel import Kernel
from xen_sim.guests.linux_2l import Linux2L
from xen_sim.guests.linux_fifo import LinuxFifo
from xen_sim.guests.mini_os import MiniOS
from xen_sim.guests.platform import Delivery
from xen_sim.guests.solo5 import Solo5
from xen_sim.guests.solo5_2020 import Solo5Of2020

KERNELS: dict[str, type[Kernel]] = {
    kernel.name: kernel for kernel in (Solo5, MiniOS, Linux2L, LinuxFifo, FreeBSD, Solo5Of2020)
}

DELIVERIES: tuple[Delivery, ...] = get_args(Delivery)


def find(name: str) -> type[Kernel]:
    """The kernel of this name. Raises `BackendError` with the names there are."""
    try:
        return KERNELS[name]
    except KeyError:
        known = ", ".join(KERNELS)
        raise BackendError(f"there is no guest kernel {name!r}; there are: {known}") from None


def kernel(which: type[Kernel] | str) -> type[Kernel]:
    """A kernel that is given by its name, or is one. Raises `BackendError` for what is neither."""
    if isinstance(which, str):
        return find(which)
    if isinstance(which, type) and issubclass(which, Kernel):
        return which
    raise BackendError(f"{which!r} is no kernel: give a name ({', '.join(KERNELS)}) or a class")


def delivery(name: str) -> Delivery:
    """The way of delivery of this name. Raises `BackendError` for one that Xen does not have."""
    for known in DELIVERIES:
        if name == known:
            return known
    raise BackendError(f"Xen has no delivery {name!r}; it has: {', '.join(DELIVERIES)}")
