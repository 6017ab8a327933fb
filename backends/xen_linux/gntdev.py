"""/dev/xen/gntdev: pages that other domains granted to this one.

Naming the references gives an index; mapping the file at that index is what asks Xen, so a bad
reference is refused there (EINVAL) and not by the ioctl. Copying asks Xen to copy between a grant
and local memory, without mapping anything.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from activations.abi import linux_gntdev as abi
from activations.abi.grant_table import GntStatus
from activations.errors import XenError
from xen_linux.device import Device, Hints
from xen_linux.memory import address_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_SEGMENT_SIZE = 2 * abi.SEGMENT_LOCAL.size + abi.SEGMENT_LENGTHS.size


@dataclass(frozen=True, slots=True)
class Foreign:
    """An end of a copy in another domain: bytes from `offset` on in a granted page."""

    domid: int
    ref: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """`length` bytes to copy. An end is `Foreign`, or a writable buffer (its beginning), one of
    the two at least foreign. A foreign end may not cross the end of its page."""

    source: Foreign | WriteableBuffer
    dest: Foreign | WriteableBuffer
    length: int


class GrantDevice(Device):
    """Grants mapped through one open file. Operations that are refused raise `XenError`."""

    hints: ClassVar[Hints] = {
        ("IOCTL_GNTDEV_SET_MAX_GRANTS", errno.ENOTTY): (
            "this kernel limits a mapping instead: /sys/module/xen_gntdev/parameters/limit"
        ),
        ("IOCTL_GNTDEV_SET_UNMAP_NOTIFY", errno.EINVAL): (
            "the port is not bound in this domain, or the mapping is read-only"
        ),
        ("IOCTL_GNTDEV_SET_UNMAP_NOTIFY", errno.ENOENT): "the byte is outside the mapping",
        ("IOCTL_GNTDEV_UNMAP_GRANT_REF", errno.ENOENT): "nothing is mapped there",
    }

    def __init__(self, path: str = abi.PATH) -> None:
        super().__init__(path)

    def map(self, domid: int, refs: Sequence[int]) -> int:
        """Name references of `domid`; the index to map them at, one page after another."""
        argument = bytearray(abi.MAP_GRANT_REF.pack(len(refs), 0))
        argument += b"".join(abi.GRANT_REF.pack(domid, ref) for ref in refs)
        self._ioctl(
            abi.IOCTL_GNTDEV_MAP_GRANT_REF,
            argument,
            "IOCTL_GNTDEV_MAP_GRANT_REF",
            f"domain {domid}, references {', '.join(map(str, refs))}",
        )
        _, index = abi.MAP_GRANT_REF.unpack_from(argument)
        return int(index)

    def unmap(self, index: int, count: int) -> None:
        """Forget `count` references named at `index`, no longer mapped."""
        self._ioctl(
            abi.IOCTL_GNTDEV_UNMAP_GRANT_REF,
            bytearray(abi.UNMAP_GRANT_REF.pack(index, count)),
            "IOCTL_GNTDEV_UNMAP_GRANT_REF",
            f"{count} pages at {index:#x}",
        )

    give_back = unmap

    def get_offset_for_vaddr(self, address: int) -> tuple[int, int]:
        """The index and the number of pages of the mapping that begins at an address."""
        argument = bytearray(abi.GET_OFFSET_FOR_VADDR.pack(address, 0, 0))
        self._ioctl(
            abi.IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR,
            argument,
            "IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR",
            f"address {address:#x}",
        )
        _, index, count = abi.GET_OFFSET_FOR_VADDR.unpack(argument)
        return index, count

    def set_max_grants(self, count: int) -> None:
        """How many grants may be mapped at once; before anything else is done here. Newer
        kernels have no such limit of a descriptor, and refuse this with ENOTTY."""
        self._ioctl(
            abi.IOCTL_GNTDEV_SET_MAX_GRANTS,
            bytearray(abi.SET_MAX_GRANTS.pack(count)),
            "IOCTL_GNTDEV_SET_MAX_GRANTS",
            f"{count} grants",
        )

    def unmap_notify(self, index: int, action: int, port: int) -> None:
        """When the mapping that holds byte `index` goes: clear that byte, send an event through
        `port`, as `action` says. One notification a mapping; the last one set counts."""
        self._ioctl(
            abi.IOCTL_GNTDEV_SET_UNMAP_NOTIFY,
            bytearray(abi.UNMAP_NOTIFY.pack(index, action, port)),
            "IOCTL_GNTDEV_SET_UNMAP_NOTIFY",
            f"byte {index:#x}, port {port}",
        )

    def copy(self, segments: Sequence[Segment]) -> None:
        """Copy each segment. Raises `XenError` if the driver refuses them (nothing is copied
        then), or for the first one that Xen would not copy (the others are)."""
        packed = bytearray(b"".join(map(_pack, segments)))
        argument = bytearray(abi.GRANT_COPY.pack(len(segments), address_of(packed)))
        self._ioctl(
            abi.IOCTL_GNTDEV_GRANT_COPY,
            argument,
            "IOCTL_GNTDEV_GRANT_COPY",
            f"{len(segments)} segments",
        )
        for number, segment in enumerate(segments):
            lengths = (number + 1) * _SEGMENT_SIZE - abi.SEGMENT_LENGTHS.size
            _, _, status = abi.SEGMENT_LENGTHS.unpack_from(packed, lengths)
            if status != GntStatus.OKAY:
                said = f"GNTST {GntStatus(status).name}"
                raise XenError(errno.EIO, "GNTTABOP_copy", f"segment {number}, {segment}: {said}")


def _pack(segment: Segment) -> bytes:
    flags = 0
    if isinstance(segment.source, Foreign):
        flags |= abi.GNTCOPY_source_gref
    if isinstance(segment.dest, Foreign):
        flags |= abi.GNTCOPY_dest_gref
    lengths = abi.SEGMENT_LENGTHS.pack(segment.length, flags, 0)
    return _pack_end(segment.source) + _pack_end(segment.dest) + lengths


def _pack_end(end: Foreign | WriteableBuffer) -> bytes:
    if isinstance(end, Foreign):
        return abi.SEGMENT_FOREIGN.pack(end.ref, end.offset, end.domid)
    return abi.SEGMENT_LOCAL.pack(address_of(end))
