"""Telling the other end: an event, which nobody may be there to hear."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from activations.errors import PortError, XenError
from activations.port import Port

Bell = Callable[[], None]


def bell(port: Port) -> Bell:
    """Notifies through the port. Where the other end is gone the handshake learns of it, so that
    nothing has to be raised here."""

    def ring() -> None:
        with suppress(PortError, XenError):
            port.notify()

    return ring
