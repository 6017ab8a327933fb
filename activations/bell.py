"""Telling the other end: an event, which is lost without an error if that end is gone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from activations.errors import PortError, XenError
from activations.port import Port

Bell = Callable[[], None]


def bell(port: Port) -> Bell:
    """Notifies through the port. Where the other end is gone this raises nothing: the handshake
    learns of it, or what is in the shared page says so."""

    def ring() -> None:
        with suppress(PortError, XenError):
            port.notify()

    return ring
