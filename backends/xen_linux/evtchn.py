"""/dev/xen/evtchn: event channels from user space.

The device is a ring of fired ports. Reading takes ports out of it, many at a time; a port that
was read stays disabled until it is written back, many at a time too. Each port is therefore in
the ring at most once, and the ring has room for every port that is bound. It overflows all the
same when ports are unbound while their entries are still in it: see `EventDevice.reset`.

What the real thing does beyond its header:

- the side that binds an interdomain port reads one event at once, before anyone sent one: Xen
  sets the port pending so that no event sent before the binding is lost;
- unbinding leaves the port's entry in the ring;
- writing back a port that is not bound, or not disabled, is accepted in silence;
- a resume of the domain is unknown to it: see `EventDevice.renewed`;
- notifying a port whose peer has closed it is not an error.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Sequence
from fcntl import ioctl
from io import FileIO
from typing import ClassVar

from activations.abi import linux_evtchn as abi
from activations.abi.event_channel import DOMID_SELF
from activations.errors import XenError
from xen_linux.device import Device, Hints

_RESTRICTED = "this descriptor was restricted to one domain (RESTRICT_DOMID): open another"
_FOREIGN = "not a port of this device: it was never bound here, or is unbound already"
_FULL = "no event channel is free: raise max_event_channels in this domain's configuration"


class EventDevice(Device):
    """The event channels bound through one open file; closing it unbinds them all.

    Operations that Xen or the driver refuses raise `XenError`.
    """

    hints: ClassVar[Hints] = {
        ("EVTCHNOP_bind_interdomain", errno.ESRCH): "there is no such domain, or no longer",
        ("EVTCHNOP_bind_interdomain", errno.EINVAL): (
            "the port is not unbound: mistyped, closed, allocated for another domain, or taken"
        ),
        ("EVTCHNOP_bind_interdomain", errno.ENOSPC): _FULL,
        ("EVTCHNOP_bind_interdomain", errno.EACCES): _RESTRICTED,
        ("EVTCHNOP_alloc_unbound", errno.ENOSPC): _FULL,
        ("EVTCHNOP_alloc_unbound", errno.EACCES): _RESTRICTED,
        ("EVTCHNOP_bind_virq", errno.EEXIST): "it is bound already, by this kernel or a program",
        ("EVTCHNOP_bind_virq", errno.EINVAL): "there is no such VIRQ",
        ("EVTCHNOP_bind_virq", errno.EACCES): _RESTRICTED,
        ("EVTCHNOP_send", errno.ENOTCONN): _FOREIGN,
        ("EVTCHNOP_close", errno.ENOTCONN): _FOREIGN,
        ("IOCTL_EVTCHN_RESTRICT_DOMID", errno.EACCES): _RESTRICTED,
        ("IOCTL_EVTCHN_RESTRICT_DOMID", errno.EINVAL): "the kernel restricts to guests alone",
        ("IOCTL_EVTCHN_BIND_STATIC", errno.ENOSYS): "this kernel is older than Linux 6.7",
        ("read", errno.EFBIG): "the ring overflowed: reset it and look at every port",
    }

    def __init__(self, path: str = abi.PATH) -> None:
        super().__init__(path)
        self._file = FileIO(self._fd, "r+", closefd=False)
        self._ring = array("I", bytes(4 * abi.PORTS_PER_READ))
        # The packed argument of each bound port. Notifying is the hot path.
        self._packed: dict[int, bytearray] = {}

    def renewed(self) -> EventDevice:
        """The same device opened once more, in place of this one, which is closed: the domain was
        resumed, and the ports of the time before are gone.

        The driver does not know. As it unbinds each it would look for its interrupt: where the
        number is somebody else's by now, it would take that one's away (with warnings in the
        kernel's log, as seen with Linux 6.1), and where no program has it, it stops at a BUG. But a
        number that is bound once more, as Xen hands numbers out anew, is refused (EEXIST), and
        that refusal has the driver forget all numbers of this open file. Where no number comes
        back, this one stays open until the process ends.
        """
        fresh = self._again()
        if not self._packed or self._forgotten(fresh):
            self.close()
        return fresh

    @property
    def ports(self) -> list[int]:
        """The ports bound through this device, in the order in which they were bound."""
        return list(self._packed)

    def close(self) -> None:
        self._packed.clear()
        self._file.close()
        super().close()

    # Binding

    def bind_virq(self, virq: int) -> int:
        """A fresh port on which Xen raises this virtual interrupt."""
        argument = bytearray(abi.BIND_VIRQ.pack(virq))
        return self._bind(
            abi.IOCTL_EVTCHN_BIND_VIRQ, argument, "EVTCHNOP_bind_virq", f"virq {virq}"
        )

    def bind_interdomain(self, remote_domid: int, remote_port: int) -> int:
        """A fresh port connected to one that another domain allocated for this one."""
        argument = bytearray(abi.BIND_INTERDOMAIN.pack(remote_domid, remote_port))
        return self._bind(
            abi.IOCTL_EVTCHN_BIND_INTERDOMAIN,
            argument,
            "EVTCHNOP_bind_interdomain",
            f"remote domain {remote_domid}, port {remote_port}",
        )

    def bind_unbound_port(self, remote_domid: int) -> int:
        """A fresh port that `remote_domid`, which need not exist yet, may bind to."""
        argument = bytearray(abi.BIND_UNBOUND_PORT.pack(remote_domid))
        return self._bind(
            abi.IOCTL_EVTCHN_BIND_UNBOUND_PORT,
            argument,
            "EVTCHNOP_alloc_unbound",
            f"for domain {remote_domid}",
        )

    def bind_static(self, port: int) -> None:
        """Take over a port that the domain was built with (Linux 6.7 and later)."""
        self._ioctl(
            abi.IOCTL_EVTCHN_BIND_STATIC,
            bytearray(abi.PORT.pack(port)),
            "IOCTL_EVTCHN_BIND_STATIC",
            f"port {port}",
        )
        self._packed[port] = bytearray(abi.PORT.pack(port))

    def unbind(self, port: int) -> None:
        """Close a port. Its entry, if it had fired, stays in the ring."""
        argument = bytearray(abi.PORT.pack(port))
        self._ioctl(abi.IOCTL_EVTCHN_UNBIND, argument, "EVTCHNOP_close", f"port {port}")
        del self._packed[port]

    def restrict_domid(self, domid: int) -> None:
        """From now on, let this descriptor bind interdomain ports of `domid` alone. For good."""
        argument = bytearray(abi.RESTRICT_DOMID.pack(domid))
        self._ioctl(
            abi.IOCTL_EVTCHN_RESTRICT_DOMID,
            argument,
            "IOCTL_EVTCHN_RESTRICT_DOMID",
            f"domain {domid}",
        )

    # Events

    def notify(self, port: int) -> None:
        """Send an event through a port of this device."""
        try:
            ioctl(self._fd, abi.IOCTL_EVTCHN_NOTIFY, self._packed[port])
        except OSError as error:
            self._refused(error, "EVTCHNOP_send", f"port {port}")
        except KeyError:
            argument = bytearray(abi.PORT.pack(port))
            self._ioctl(abi.IOCTL_EVTCHN_NOTIFY, argument, "EVTCHNOP_send", f"port {port}")

    def read(self) -> Sequence[int]:
        """The ports that fired, up to 1024 of them, all disabled now; empty if none did.

        Raises `XenError` with EFBIG once the ring has overflowed: events are lost, `reset`.
        """
        try:
            size = self._file.readinto(self._ring)
        except OSError as error:
            self._refused(error, "read", self.path)
        if not size:
            return ()
        if size == 4:
            return (self._ring[0],)
        return self._ring[: size // 4].tolist()

    def enable(self, ports: Sequence[int]) -> None:
        """Let ports that were read fire again."""
        if len(ports) == 1 and ports[0] in self._packed:
            os.write(self._fd, self._packed[ports[0]])
        else:
            os.write(self._fd, array("I", ports))

    def reset(self) -> None:
        """Empty the ring and clear an overflow. The entries are lost, and their ports stay
        disabled: after a reset, enable every port, and take each for fired."""
        self._ioctl(abi.IOCTL_EVTCHN_RESET, bytearray(), "IOCTL_EVTCHN_RESET")

    def _again(self) -> EventDevice:
        return EventDevice(self.path)

    def _forgotten(self, fresh: EventDevice) -> bool:
        """Bind one of this file's numbers once more; whether one came back. What Xen hands out
        before it is held through `fresh` meanwhile, for this domain itself, so that no domain can
        send to it."""
        held = []
        try:
            while self._packed and (port := fresh.bind_unbound_port(DOMID_SELF)):
                if port in self._packed:
                    fresh.unbind(port)
                    self.unbind(self.bind_unbound_port(DOMID_SELF))  # somebody else was quicker
                else:
                    held.append(port)
                    if port > max(self._packed):
                        return False
        except XenError as error:
            return error.errno == errno.EEXIST
        finally:
            for each in held:
                fresh.unbind(each)
        return True

    def _bind(self, request: int, argument: bytearray, operation: str, detail: str) -> int:
        port = self._ioctl(request, argument, operation, detail)
        self._packed[port] = bytearray(abi.PORT.pack(port))
        return port
