"""What can go wrong between the two ends of a device."""

from activations.errors import ActivationsError


class XenbusError(ActivationsError):
    """The two ends of a device do not come together."""


class MissingKey(XenbusError):
    """The other end's folder lacks a key that it has to have."""


class BadKey(XenbusError):
    """The other end's key is not what it has to be: no number, or one out of range."""


class DeviceExists(XenbusError):
    """The guest has a device of this number already."""


class HandshakeTimeout(XenbusError, TimeoutError):
    """The ends did not get as far as they should in the time given: says where each stands, and
    what is missing."""


class Unplugged(XenbusError):
    """The device was removed while it was in use."""
