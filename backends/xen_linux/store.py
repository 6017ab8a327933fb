"""The way to xenstored: bytes only, the protocol is the upper half's.

In the control domain it is the daemon's Unix socket where there is one: it takes whole messages
of 4096 bytes of payload, and dies visibly with the daemon. Everywhere else it is the kernel's own
connection, shared out by /dev/xen/xenbus: there a message is at most 4096 bytes in all, and each
open file has its own transactions and watches.
"""

from __future__ import annotations

import os
import select
import socket
import stat

from activations.abi.xs_wire import MessageType
from activations.errors import BackendError
from activations.store.descriptor import DescriptorConnection
from activations.store.wire import Decoder, Message, octets, text
from xen_linux.device import open_device

DEVICE = "/dev/xen/xenbus"
SOCKETS = ("/run/xenstored/socket", "/var/run/xenstored/socket")

_CHUNK = 65_536
_PATIENCE = 5.0


def connect() -> int:
    """A non-blocking descriptor of a new connection to xenstored.

    Raises `BackendError` if there is neither a daemon's socket nor the kernel's device for this
    user.
    """
    for path in SOCKETS:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            try:
                stream.connect(path)
            except OSError:
                continue  # not there, left behind by a daemon that is gone, or root's alone
            stream.setblocking(False)
            return stream.detach()
    return open_device(DEVICE)


def open_connection() -> DescriptorConnection:
    """A new connection to xenstored, for any asyncio loop. Raises as `connect` does."""
    descriptor = connect()
    if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return DescriptorConnection(descriptor)
    return DeviceConnection(descriptor)


def read_now(path: str) -> str | None:
    """One value of the store, without an event loop; None if there is none under this path.

    For what has to be known before there is a loop. Raises `BackendError` if xenstored does not
    answer within five seconds.
    """
    descriptor = connect()
    try:
        os.write(descriptor, Message(MessageType.READ, octets(path) + b"\0").encode())
        reply = _receive_now(descriptor)
    finally:
        os.close(descriptor)
    return None if reply.kind == MessageType.ERROR else text(reply.payload)


def watch_now(path: str) -> int:
    """A descriptor of the kernel's device with one watch on it, whose first event has been read.

    Raises `BackendError` as `read_now` does.
    """
    descriptor = open_device(DEVICE)
    try:
        os.write(descriptor, Message(MessageType.WATCH, octets(path) + b"\0\0").encode())
        _receive_now(descriptor, MessageType.WATCH_EVENT)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _receive_now(descriptor: int, *kinds: MessageType) -> Message:
    """The next message, or the next of these kinds; any other is dropped."""
    decoder = Decoder()
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while waiting.poll(_PATIENCE * 1e3):
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            raise BackendError("xenstored closed the connection")
        for message in decoder.feed(chunk):
            if not kinds or message.kind in kinds:
                return message
    raise BackendError("xenstored does not answer: is it running?")


class DeviceConnection(DescriptorConnection):
    """A stream over /dev/xen/xenbus: one request at a time, whatever is asked of it.

    The kernel keeps what was written in one buffer of the open file, and hands it to a thread that
    copies it to xenstored later. A program that writes the next request before the answer to the
    last may change bytes that are on their way: xenstored then answers EINVAL, or not at all, and
    Xen 4.17's has died of it (seen with Linux 6.1; Xen's own libraries wait for each answer too). A
    WATCH is worse: its writer waits in the kernel, with a lock that handing out an earlier answer
    takes as well.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._decoder = Decoder()
        self._asked = False
        """A request was sent, and its answer has not come."""

    def _may_send(self) -> bool:
        return not self._asked

    def _sent(self) -> None:
        self._asked = True

    def _came(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            if message.kind != MessageType.WATCH_EVENT:
                self._asked = False
        super()._came(data)
        self._pass_on()
