"""Which domain this is: its domid, its name, its kind.

Xen does not tell a domain its number; xenstore does, once the toolstack has written it there. The
control domain is recognised by what its kernel may do, and is number 0 whether or not anybody
wrote that down.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from activations.errors import BackendError
from xen_linux.store import read_now

CAPABILITIES = Path("/proc/xen/capabilities")
GUEST_TYPE = Path("/sys/hypervisor/guest_type")
HYPERVISOR_TYPE = Path("/sys/hypervisor/type")


@dataclass(frozen=True, slots=True)
class Identity:
    """`guest_type` is `PV`, `PVH` or `HVM`, as the kernel says it."""

    domid: int
    name: str
    guest_type: str


def is_xen() -> bool:
    """Whether this kernel runs on Xen."""
    return _text(HYPERVISOR_TYPE) == "xen"


def is_control_domain() -> bool:
    """Whether this is the control domain (needs xenfs on /proc/xen)."""
    return "control_d" in _text(CAPABILITIES)


def identify() -> Identity:
    """This domain's identity. Raises `BackendError` if xenstore does not know it."""
    guest_type = _text(GUEST_TYPE) or "PV"
    if is_control_domain():
        return Identity(0, "dom0", guest_type)
    domid = read_now("domid")
    if domid is None:
        raise BackendError(
            "xenstore has no domid for this domain; in a control domain, mount xenfs: "
            "`mount -t xenfs xenfs /proc/xen`"
        )
    name: str | None = None
    with contextlib.suppress(BackendError):
        name = read_now("name")
    return Identity(int(domid), name or f"domain{domid}", guest_type)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
