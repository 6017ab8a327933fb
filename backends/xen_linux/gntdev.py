"""/dev/xen/gntdev: pages that other domains granted to this one.

Naming the references gives an index; mapping the file at that index is what asks Xen, so a bad
reference is refused there (EINVAL) and not by the ioctl. Copying asks Xen to copy between a grant
and local memory, without mapping anything.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from activations.abi import linux_gntdev as abi
from activations.lower import Foreign, Segment
from xen_linux.device import Device, Hints
from xen_linux.memory import address_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


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

    def copy(self, segments: Sequence[Segment]) -> list[int]:
        """Copy each segment, in one ioctl; how each ended, as Xen's GNTST_*.

        Raises `XenError` (EINVAL) where the driver finds a segment malformed.
        """
        kept: list[bytearray] = []
        packed = bytearray().join([_pack(segment, kept) for segment in segments])
        argument = bytearray(abi.GRANT_COPY.pack(len(segments), address_of(packed)))
        self._ioctl(
            abi.IOCTL_GNTDEV_GRANT_COPY,
            argument,
            "IOCTL_GNTDEV_GRANT_COPY",
            f"{len(segments)} segments",
        )
        return [status for (status,) in abi.SEGMENT_STATUS.iter_unpack(packed)]


def _pack(segment: Segment, kept: list[bytearray]) -> bytes:
    """A segment as the driver reads it. `kept` holds what must live until it has."""
    source, dest, length = segment
    flags = 0
    if isinstance(source, Foreign):
        flags |= abi.GNTCOPY_source_gref
    if isinstance(dest, Foreign):
        flags |= abi.GNTCOPY_dest_gref
    lengths = abi.SEGMENT_LENGTHS.pack(length, flags, 0)
    return _pack_end(source, length, kept) + _pack_end(dest, length, kept) + lengths


def _pack_end(end: Foreign | ReadableBuffer, length: int, kept: list[bytearray]) -> bytes:
    if isinstance(end, Foreign):
        return abi.SEGMENT_FOREIGN.pack(end.ref, end.offset, end.domid)
    return abi.SEGMENT_LOCAL.pack(_address(end, kept) if length else 0)


def _address(end: ReadableBuffer, kept: list[bytearray]) -> int:
    """Where a buffer lies. Python tells it of writable ones alone: of others, a copy is made."""
    with memoryview(end) as view:
        if not view.readonly:
            return address_of(view)
        kept.append(bytearray(view))
    return address_of(kept[-1])
