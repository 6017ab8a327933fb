"""A kernel's own C, unmodified, explored: every interleaving of its event code with Xen's and its
peers', under each way in which Xen delivers events.

    scenario    what is explored: files, who sends what, by which delivery
    assembly    inline assembly made visible
    build       gcc, and the cache
    engine      the program that searches, asked. In C: engine/, xen/, include/
    symbols     what its addresses mean
    verdicts    the verdict, in the explorer's language

`kernels/` has lower halves of this project's own, in the style of those in the field.
"""

from xen_kernel.engine import Limits
from xen_kernel.errors import KernelError
from xen_kernel.scenario import KERNELS, Scenario
from xen_kernel.verdicts import decide, replay

__all__ = ["KERNELS", "KernelError", "Limits", "Scenario", "decide", "replay"]


def __dir__() -> list[str]:
    return __all__
