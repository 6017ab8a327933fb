"""What can go wrong with a network device."""

from __future__ import annotations

from collections.abc import Sequence

from activations.errors import ActivationsError


class NetError(ActivationsError):
    """The other end of a network device does not keep to the protocol: the device is closed."""


class BadPacket(NetError):
    """A packet that cannot be taken as it stands. The device goes on.

    `ids` are those of the entries that it lay in, in the ring's order, to be answered; None for
    one that held an extra info.
    """

    def __init__(self, ids: Sequence[int | None], why: str) -> None:
        self.ids: tuple[int | None, ...] = tuple(ids)
        super().__init__(why)


class NicClosed(ActivationsError):
    """The network device was closed, unplugged, or its back end broke the protocol: the text says
    which."""
