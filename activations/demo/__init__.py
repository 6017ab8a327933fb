"""What `activations demo` runs: a small machine room, a scenario like any other.

    dom0       serves a disk to alice, and has a switch that alice and bob are plugged into
    alice      reads the disk, pings bob, and offers a vchan
    bob        answers pings, and comes to the vchan

`room` is the scenario, `plan` says how much is done in it, `figures` how its domains tell what
their ports and rings have done. The command's half, which shows that, is in `activations/cli`.
"""

from activations.demo.figures import PortFigures, RingFigures, Sample
from activations.demo.plan import Plan

__all__ = ["Plan", "PortFigures", "RingFigures", "Sample"]
