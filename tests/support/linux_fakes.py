"""Stand-ins for /dev/xen/evtchn, and for the word of a resume, that work where there is no Xen."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from struct import pack, unpack

from activations.errors import XenError
from xen_linux.evtchn import EventDevice
from xen_linux.resume import Resumes


class FakeEventDevice(EventDevice):
    """The device's rules as drivers/xen/evtchn.c has them, over a pipe for a ring.

    A port that fired is disabled until it is enabled again, and what comes meanwhile is kept,
    once. Unbinding leaves the port's entry in the ring. Numbers are handed out lowest first.
    """

    def __init__(self, ring_size: int = 1 << 20) -> None:
        self.abandoned = False
        self.path = "/dev/fake/evtchn"
        self.ring_size = ring_size
        self._fd, self._end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.enabled: dict[int, bool] = {}
        self.pending: set[int] = set()
        self.sent: list[int] = []
        self.queued = 0
        self.overflowed = False
        self.calls: list[str] = []

    @property
    def ports(self) -> list[int]:
        return list(self.enabled)

    def close(self) -> None:
        self.enabled.clear()
        if self._fd >= 0:
            os.close(self._fd)
            os.close(self._end)
            self._fd = -1

    def renewed(self) -> FakeEventDevice:
        """The ports are not unbound: Xen closed them."""
        self.abandoned = True
        self.close()
        return FakeEventDevice(self.ring_size)

    def fire(self, *ports: int) -> None:
        """What Xen does when a peer sends."""
        for port in ports:
            if not self.enabled.get(port):
                self.pending.add(port)
                continue
            self.enabled[port] = False
            if self.queued < self.ring_size:
                self.queued += 1
                os.write(self._end, pack("=I", port))
            else:
                self.overflowed = True

    def bind_unbound_port(self, remote_domid: int) -> int:
        port = next(n for n in range(1, 1 << 17) if n not in self.enabled)
        self.enabled[port] = True
        return port

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        port = self.bind_unbound_port(remote_domid)
        self.fire(port)
        return port

    def bind_virq(self, virq: int) -> int:
        return self.bind_unbound_port(0)

    def unbind(self, port: int) -> None:
        if port not in self.enabled:
            raise XenError(errno.ENOTCONN, "EVTCHNOP_close", f"port {port}")
        del self.enabled[port]
        self.pending.discard(port)

    def notify(self, port: int) -> None:
        self.sent.append(port)

    def read(self) -> Sequence[int]:
        self.calls.append("read")
        if self.overflowed:
            raise XenError(errno.EFBIG, "read", self.path)
        try:
            ring = os.read(self._fd, 4096)
        except BlockingIOError:
            return ()
        self.queued -= len(ring) // 4
        return list(unpack(f"={len(ring) // 4}I", ring))

    def enable(self, ports: Sequence[int]) -> None:
        self.calls.append("write")
        for port in ports:
            if self.enabled.get(port) is False:
                self.enabled[port] = True
                if port in self.pending:
                    self.pending.remove(port)
                    self.fire(port)

    def reset(self) -> None:
        self.overflowed = False
        self.read()
        self.queued = 0


class FakeResumes(Resumes):
    """The word comes when the test says so. `quietly`: programs run again, and it has not yet."""

    def __init__(self) -> None:
        self._word, self._said = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.late = False

    def fileno(self) -> int:
        return self._word

    def resume(self, *, quietly: bool = False) -> None:
        self.late = quietly
        if not quietly:
            os.write(self._said, b".")

    def heard(self) -> bool:
        try:
            return bool(os.read(self._word, 1))
        except BlockingIOError:
            return False

    def happened(self) -> bool:
        late, self.late = self.late, False
        return late or self.heard()

    def close(self) -> None:
        if self._word >= 0:
            os.close(self._word)
            os.close(self._said)
            self._word = -1
