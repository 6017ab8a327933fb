"""activations: a cooperative runtime for Xen guests and driver domains in asyncio.

    import activations

    async def main(xen):
        port = xen.events.alloc_unbound(remote_domid)
        await port.wait()

    activations.run(main)                       # on a simulated Xen, in this process
    activations.run(main, backend="linux")      # on the Xen this domain runs on

Public is what this package, `activations.store`, `.vchan`, `.xenbus`, `.drivers.block`,
`.drivers.net`, `.drivers.console` and `.promises` list in `__all__`; for drivers of your own
`.ring` and `.sring`, for backends `.backend`, `.lower` and `.offers`; in `.abi` every name that is
Xen's own. All else may change.

docs/architecture.md says where to begin reading.
"""

from activations.domain import Domain, current
from activations.errors import (
    ActivationsError,
    BackendError,
    BlockedForever,
    DomainFailed,
    GenerationEnded,
    LeakWarning,
    PortClosed,
    PortError,
    ScenarioError,
    SimulationOver,
    VirtualClockError,
    XenError,
)
from activations.events import Events
from activations.grants import Grant, Grants
from activations.loop import EventLoop
from activations.lower import Foreign, Segment
from activations.outcome import Outcome
from activations.port import PROGRAM_START, Port, PortStatistics
from activations.running import new_event_loop, run
from activations.scenario import Scenario
from activations.store import Store

__all__ = [
    "PROGRAM_START",
    "ActivationsError",
    "BackendError",
    "BlockedForever",
    "Domain",
    "DomainFailed",
    "EventLoop",
    "Events",
    "Foreign",
    "GenerationEnded",
    "Grant",
    "Grants",
    "LeakWarning",
    "Outcome",
    "Port",
    "PortClosed",
    "PortError",
    "PortStatistics",
    "Scenario",
    "ScenarioError",
    "Segment",
    "SimulationOver",
    "Store",
    "VirtualClockError",
    "XenError",
    "current",
    "new_event_loop",
    "run",
]


def __dir__() -> list[str]:
    return __all__
