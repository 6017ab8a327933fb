"""Network devices between domains, compatible with Linux's xen-netfront and xen-netback.

    from activations.drivers import net

    async with net.open(xen, device) as nic:                      # in the guest
        await nic.send(frame)
        frame = await nic.receive()

    switch = net.Switch()
    async with net.serve(xen, device, switch.port()) as end:  # in the driver domain
        await end.connected()

A frame is an Ethernet frame without its check sequence. What is behind a back end is any
`Interface`: a port of a switch, a `Tap` of the kernel's, one end of a `cable`, another `Nic`.
"""

from activations.drivers.net.back import NetBack, serve
from activations.drivers.net.errors import BadPacket, NetError, NicClosed
from activations.drivers.net.front import NetFront, open
from activations.drivers.net.nic import Nic
from activations.drivers.net.statistics import Statistics
from activations.drivers.net.switch import Switch, SwitchPort
from activations.drivers.net.tap import Tap
from activations.drivers.net.wire import CableEnd, Interface, cable, join

__all__ = [
    "BadPacket",
    "CableEnd",
    "Interface",
    "NetBack",
    "NetError",
    "NetFront",
    "Nic",
    "NicClosed",
    "Statistics",
    "Switch",
    "SwitchPort",
    "Tap",
    "cable",
    "join",
    "open",
    "serve",
]


def __dir__() -> list[str]:
    return __all__
