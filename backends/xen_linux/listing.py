"""A domain's ports by EVTCHNOP_status, one after the other, as Xen's own lsevtchn does it.

The hypercall does not say which ports are pending or masked. Xen prints that on its console, at the
debug key `e`, which the control domain may press and read: for all domains at once, so only where
it is asked for.
"""

from __future__ import annotations

import errno
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from activations.abi.event_channel import DOMID_SELF, Status
from activations.errors import BackendError, XenError
from activations.evtchn.listing import PortState
from xen_linux.identity import identify
from xen_linux.privcmd import Hypercalls

INTERRUPTS = Path("/proc/interrupts")
OF_A_PROGRAM = "evtchn:"
"""How the driver of /dev/xen/evtchn names an interrupt, before the name of the program."""
DOMAIN = re.compile(r"Event channel information for domain (\d+):")
PORT = re.compile(r"(\d+) \[(\d)/(\d)/")
"""`  12 [p/m/s]`: the port, whether it is pending, whether it is masked."""
PATIENCE = 60
"""Seconds for Xen's console."""

Bits = Mapping[int, tuple[bool, bool]]
"""Pending and masked, by port."""


def event_channels(domid: int | None, *, bits: bool) -> list[PortState]:
    """As `activations.offers.ListsPorts` says."""
    shown = identify().domid if domid is None else domid
    asked = DOMID_SELF if domid is None else domid
    with Hypercalls() as xen:
        found = list(_ports(xen, asked, shown))
    if not bits:
        return found
    known = parsed(_debug_key_e(), shown)
    return [
        replace(each, pending=known[each.port][0], masked=known[each.port][1])
        if each.port in known
        else each
        for each in found
    ]


def _ports(xen: Hypercalls, asked: int, shown: int) -> Iterator[PortState]:
    port = 0
    while True:
        try:
            status = xen.port_status(asked, port)
        except XenError as error:
            if error.errno == errno.EINVAL:  # the first that the table has no room for
                return
            raise
        if status.status is not Status.CLOSED:
            yield PortState(
                shown,
                port,
                status.status,
                status.vcpu,
                status.remote_domid,
                status.remote_port,
                status.virq if status.pirq is None else status.pirq,
            )
        port += 1


def holders(text: str) -> dict[str, int]:
    """Who has event channels, and how many each, by what stands in /proc/interrupts: programs by
    their names, the kernel's own by what the kernel calls them."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if "xen-dyn" in line or "xen-percpu" in line or "xen-pirq" in line:
            name = line.split()[-1]
            found[name.removeprefix(OF_A_PROGRAM)] += name.startswith(OF_A_PROGRAM)
    return {name: number for name, number in found.items() if number}


def port_holders() -> dict[str, int]:
    """As `holders`, of this kernel."""
    try:
        return holders(INTERRUPTS.read_text())
    except OSError:
        return {}


def parsed(printed: str, domid: int) -> Bits:
    """The bits of this domain's ports, by what Xen printed last."""
    found: dict[int, tuple[bool, bool]] = {}
    here = False
    for line in printed.splitlines():
        if began := DOMAIN.search(line):
            here = int(began[1]) == domid
            found = {} if here else found
        elif here and (port := PORT.search(line)):
            found[int(port[1])] = (port[2] == "1", port[3] == "1")
    return found


def _debug_key_e() -> str:
    try:
        for command in (["xl", "debug-keys", "e"], ["xl", "dmesg"]):
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=PATIENCE
            )
            if done.returncode:
                said = done.stderr.strip().splitlines()
                raise BackendError(f"`{' '.join(command)}` failed: {said[-1] if said else ''}")
    except FileNotFoundError:
        raise BackendError(
            "which ports are pending and masked, Xen says on its console alone, and `xl`, which "
            "reads it, is not here: install xen-utils, or leave --bits out"
        ) from None
    return done.stdout
