"""Split drivers: how the two ends of a device find each other, part, and find each other again."""

from activations.abi.xenbus import XenbusState
from activations.xenbus.device import Device, device_of, front_device, front_devices
from activations.xenbus.driver import BackDriver, FrontDriver, Written
from activations.xenbus.ends import BackEnd, FrontEnd
from activations.xenbus.errors import (
    BadKey,
    DeviceExists,
    HandshakeTimeout,
    MissingKey,
    Unplugged,
    XenbusError,
)
from activations.xenbus.handshake import Handshake
from activations.xenbus.keys import Keys
from activations.xenbus.states import Phase
from activations.xenbus.toolstack import plug, unplug

__all__ = [
    "BackDriver",
    "BackEnd",
    "BadKey",
    "Device",
    "DeviceExists",
    "FrontDriver",
    "FrontEnd",
    "Handshake",
    "HandshakeTimeout",
    "Keys",
    "MissingKey",
    "Phase",
    "Unplugged",
    "Written",
    "XenbusError",
    "XenbusState",
    "device_of",
    "front_device",
    "front_devices",
    "plug",
    "unplug",
]


def __dir__() -> list[str]:
    return __all__
