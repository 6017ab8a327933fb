"""The backend `lab`: a real Xen, booted under QEMU's software emulation, for scenarios to run on.

No KVM, no hardware, no root: Debian's Xen, Linux and Python are fetched once into a cache folder.
A scenario's halves run in the real dom0 and in real guests, on the backend `linux` that they
would use anywhere.
"""

from xen_lab.backend import LabBackend, backend
from xen_lab.lab import Lab
from xen_lab.machine import Shape

__all__ = ["Lab", "LabBackend", "Shape", "backend"]


def __dir__() -> list[str]:
    return __all__
