"""A connection to xenstored over a descriptor: a Unix socket's, or the kernel's device."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from activations.lower import StoreUser

_CHUNK = 65_536


class DescriptorConnection:
    """A `StoreConnection` over a non-blocking descriptor, which it takes over. For any asyncio loop
    that watches descriptors."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._outbox: deque[bytes] = deque()
        """Messages that are to be sent, the first of them begun perhaps."""
        self._begun = 0
        """Bytes of the first one that are sent."""
        self._full = False
        """The descriptor takes no more, and is watched until it does."""
        self._user: StoreUser
        self._loop: asyncio.AbstractEventLoop
        self._listening = False

    def start(self, user: StoreUser) -> None:
        """Listen from now on, on the running loop."""
        self._user = user
        self._listening = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._readable)

    def send(self, message: bytes) -> None:
        """Send one whole message: now, or as soon as there is room."""
        self._outbox.append(message)
        if not self._full:
            self._pass_on()

    def close(self) -> None:
        """Close the connection; what has not been sent never will be. Twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        self._outbox.clear()
        if self._listening:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        os.close(descriptor)

    # What one of another kind may do otherwise

    def _may_send(self) -> bool:
        """Whether xenstored may be sent the next message."""
        return True

    def _sent(self) -> None:
        """A message has left."""

    def _came(self, data: bytes) -> None:
        """Bytes have come."""
        self._user.received(data)

    # Its descriptor

    def _pass_on(self) -> None:
        while self._outbox and self._may_send():
            message = self._outbox[0]
            try:
                self._begun += os.write(self._descriptor, memoryview(message)[self._begun :])
            except BlockingIOError:
                self._wait_for_room()
                return
            except OSError as error:
                self._next()
                self._user.refused(message, error)
            else:
                if self._begun == len(message):
                    self._next()
                    self._sent()

    def _next(self) -> None:
        self._outbox.popleft()
        self._begun = 0

    def _wait_for_room(self) -> None:
        if not self._full:
            self._full = True
            self._loop.add_writer(self._descriptor, self._writable)

    def _writable(self) -> None:
        self._full = False
        self._loop.remove_writer(self._descriptor)
        self._pass_on()

    def _readable(self) -> None:
        try:
            if data := os.read(self._descriptor, _CHUNK):
                self._came(data)
            else:
                self._user.lost(None)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._user.lost(None)
        except Exception as error:  # whatever it is, those who wait must be told
            self._user.lost(error)
