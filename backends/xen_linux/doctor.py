"""What the linux backend needs of a machine, looked at without changing anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from activations.abi import linux_evtchn, linux_gntalloc, linux_gntdev
from activations.backend import Check, accelerated
from xen_linux import identity, store
from xen_linux.device import mend

DEVICES = (linux_evtchn.PATH, linux_gntdev.PATH, linux_gntalloc.PATH)


def examine() -> list[Check]:
    """One check for the machine, and on Xen one more for each thing a domain needs."""
    if not identity.is_xen():
        return [
            Check(
                "running on Xen",
                False,
                "this machine is not a Xen domain",
                "nothing to mend: use the backend `sim`, or `lab` for a real Xen under QEMU",
            )
        ]
    guest_type = identity.GUEST_TYPE.read_text().strip()
    return [Check("running on Xen", True, f"{guest_type} domain"), *_on_xen()]


def _on_xen() -> Iterator[Check]:
    yield _proc_xen()
    for path in DEVICES:
        yield _device(path)
    yield _store()
    yield accelerated()


def _proc_xen() -> Check:
    mounted = identity.CAPABILITIES.exists()
    found = "control domain" if identity.is_control_domain() else "guest"
    return Check(
        "/proc/xen (tells a control domain from a guest)",
        mounted,
        found if mounted else "not mounted",
        "" if mounted else "mount -t xenfs xenfs /proc/xen",
    )


def _device(path: str) -> Check:
    if not Path(path).exists():
        return Check(path, False, "missing", mend(path))
    if not os.access(path, os.R_OK | os.W_OK):
        return Check(path, False, "no permission", f"setfacl -m u:$USER:rw {path}")
    return Check(path, True, "usable")


def _store() -> Check:
    for path in (*store.SOCKETS, store.DEVICE):
        if os.access(path, os.R_OK | os.W_OK):
            return Check("xenstore", True, path)
    if Path(store.DEVICE).exists():
        return Check("xenstore", False, "no permission", f"setfacl -m u:$USER:rw {store.DEVICE}")
    return Check("xenstore", False, f"no {store.DEVICE}", "systemctl start xenstored")
