"""Hypercall 20 as a kernel makes it: a command, and structures in the guest's memory.

What Xen answers a guest of HVM's kind that may have tables of version 1. Commands that such a guest
has not (transfers, unmap_and_replace, status frames, cache flushes) are ENOSYS.

Source: hvm_grant_table_op in xen/arch/x86/hvm/hypercall.c, do_grant_table_op in
xen/common/grant_table.c.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EFAULT, EINVAL, ENOSYS, EPERM, ESRCH
from struct import Struct
from typing import TYPE_CHECKING

from activations.abi import grant_table as abi
from activations.abi.event_channel import DOMID_SELF
from activations.abi.grant_table import PAGE_SIZE, Copy, GntStatus, Map, Op
from activations.errors import BackendError, XenError
from xen_sim.xen.grant_table import MAX_FRAMES, GrantRefused, Mapping, Page, copy

if TYPE_CHECKING:
    from xen_sim.xen.domain import XenDomain
    from xen_sim.xen.grant_table import GrantTable

NOWHERE = 2**64 - 1
"""INVALID_GFN: where a frame of the table lies that the guest has not mapped yet."""
_VERSION = 1


def perform(
    domain: XenDomain,
    command: int,
    argument: bytearray,
    count: int,
    frame_list: list[int] | None = None,
) -> None:
    """Carry a command out. Raises `XenError` as `Hypercalls.grant_table_op` says."""
    operation = _COMMANDS.get(command)
    if operation is None:
        raise XenError(ENOSYS, "GNTTABOP", f"there is no command {command} for such a guest")
    if count >= 1 << 31:
        raise XenError(EINVAL, _name(command), f"{count} structures")
    operation(domain, argument, count, frame_list)


def _name(command: int) -> str:
    return f"GNTTABOP_{Op(command).name.lower()}"


def _readable(command: int, structure: Struct, argument: bytearray, at: int = 0) -> None:
    if len(argument) - at < structure.size:
        what = f"{structure.size} bytes at {at}, of {len(argument)} that can be read"
        raise XenError(EFAULT, _name(command), what)


# Several at once: each has a status of its own

_FrameList = list[int] | None
_One = Callable[["XenDomain", bytearray, int], None]
_Operation = Callable[["XenDomain", bytearray, int, _FrameList], None]


def _several(command: int, structure: Struct, one: _One) -> _Operation:
    def operation(domain: XenDomain, argument: bytearray, count: int, _: _FrameList) -> None:
        for at in range(0, count * structure.size, structure.size):
            _readable(command, structure, argument, at)
            one(domain, argument, at)

    return operation


def _map_grant_ref(domain: XenDomain, argument: bytearray, at: int) -> None:
    given = abi.MAP_GRANT_REF.unpack_from(argument, at)
    host, flags, ref, domid, status, handle, device = given
    try:
        handle, page = _map(domain, host >> 12, flags, ref, domid)
        status, device = GntStatus.OKAY, page.number << 12
    except GrantRefused as refused:
        status = refused.status
    abi.MAP_GRANT_REF.pack_into(argument, at, host, flags, ref, domid, status, handle, device)


def _map(domain: XenDomain, gfn: int, flags: int, ref: int, domid: int) -> tuple[int, Page]:
    if not flags & (Map.DEVICE | Map.HOST):
        raise GrantRefused(GntStatus.BAD_GNTREF, "to be mapped neither for the host nor a device")
    if flags & (Map.DEVICE | Map.APPLICATION | Map.CONTAINS_PTE):
        raise GrantRefused(GntStatus.GENERAL_ERROR, "a guest of this kind maps for the host alone")
    owner = _table_of(domain, domid)
    table = domain.grant_table
    if owner is table:
        raise BackendError(
            f"{domain.name} maps a page of its own, which Xen then moves: the simulator does not"
        )
    handle = table.take_handle()
    writable = not flags & Map.READONLY
    try:
        page = owner.acquire(ref, domain.domid, writable=writable, mapping=True)
        if flags not in (Map.HOST, Map.HOST | Map.READONLY):
            owner.release(ref, writable=writable)
            raise GrantRefused(GntStatus.GENERAL_ERROR, f"flags {flags:#x}")
    except GrantRefused:
        table.give_handle(handle)
        raise
    if gfn in domain.mapped or domain.page(gfn) is not None:
        raise BackendError(f"{domain.name} maps a grant over its frame {gfn:#x}, which is in use")
    mapping = Mapping(owner, owner.generation, ref, page, writable)
    domain.mapped[gfn] = table.mappings[handle] = mapping
    return handle, page


def _unmap_grant_ref(domain: XenDomain, argument: bytearray, at: int) -> None:
    host, device, handle, _ = abi.UNMAP_GRANT_REF.unpack_from(argument, at)
    status = _unmap(domain, host, handle)
    abi.UNMAP_GRANT_REF.pack_into(argument, at, host, device, handle, status)


def _unmap(domain: XenDomain, host: int, handle: int) -> GntStatus:
    """Who gives no address has nothing unmapped, and is told that all is well."""
    table = domain.grant_table
    mapping = table.mappings.get(handle)
    if mapping is None:
        return GntStatus.BAD_HANDLE
    if not host:
        return GntStatus.OKAY
    there = domain.mapped.get(host >> 12)
    if there is None or not there.page.is_(mapping.page):
        return GntStatus.GENERAL_ERROR
    del domain.mapped[host >> 12]
    table.unmap(handle)
    return GntStatus.OKAY


def _copy(domain: XenDomain, argument: bytearray, at: int) -> None:
    given = list(abi.COPY.unpack_from(argument, at))
    try:
        given[-1] = _copy_one(domain, *given[:-1])
    except GrantRefused as refused:
        given[-1] = refused.status
    abi.COPY.pack_into(argument, at, *given)


def _copy_one(
    domain: XenDomain,
    source: int,
    source_domid: int,
    source_offset: int,
    dest: int,
    dest_domid: int,
    dest_offset: int,
    length: int,
    flags: int,
) -> GntStatus:
    """Both domains are looked for first; then each end is claimed, the source before the other."""
    owner, dest_owner = _named(domain, source_domid), _named(domain, dest_domid)
    read = _End(domain, owner, source, source_domid, flags & Copy.SOURCE_GREF, writable=False)
    written = _End(domain, dest_owner, dest, dest_domid, flags & Copy.DEST_GREF, writable=True)
    with read as from_page, written as to_page:
        if max(source_offset, dest_offset) + length > PAGE_SIZE:
            return GntStatus.BAD_COPY_ARG
        start, dest_start = from_page.offset + source_offset, to_page.offset + dest_offset
        copy(from_page.memory, start, to_page.memory, dest_start, length)
    return GntStatus.OKAY


class _End:
    """An end of a copy, while it is copied: a reference's page, or a frame of the caller's own."""

    def __init__(
        self,
        domain: XenDomain,
        owner: GrantTable,
        number: int,
        domid: int,
        foreign: int,
        *,
        writable: bool,
    ) -> None:
        self._domain, self._owner, self._domid = domain, owner, domid
        self._number = number & 0xFFFF_FFFF if foreign else number
        self._foreign, self._writable = foreign, writable

    def __enter__(self) -> Page:
        if self._foreign:
            return self._owner.acquire(
                self._number, self._domain.domid, writable=self._writable, mapping=False
            )
        if self._domid != DOMID_SELF:
            raise GrantRefused(GntStatus.PERMISSION_DENIED, "a frame that is another domain's")
        page = self._domain.page(self._number)
        if page is None:
            raise GrantRefused(GntStatus.BAD_PAGE, f"there is no frame {self._number}")
        return page

    def __exit__(self, *_: object) -> None:
        if self._foreign:
            self._owner.release(self._number, writable=self._writable)


def _swap_grant_ref(domain: XenDomain, argument: bytearray, at: int) -> None:
    ref, other, status = abi.SWAP_GRANT_REF.unpack_from(argument, at)
    try:
        domain.grant_table.swap(ref, other)
        status = GntStatus.OKAY
    except GrantRefused as refused:
        status = refused.status
    abi.SWAP_GRANT_REF.pack_into(argument, at, ref, other, status)


# One at a time


def _alone(command: int, structure: Struct, argument: bytearray, count: int) -> None:
    if count != 1:
        raise XenError(EINVAL, _name(command), f"{count} structures: it takes one")
    _readable(command, structure, argument)


def _setup_table(
    domain: XenDomain, argument: bytearray, count: int, frame_list: _FrameList
) -> None:
    _alone(Op.SETUP_TABLE, abi.SETUP_TABLE, argument, count)
    domid, frames, status, where = abi.SETUP_TABLE.unpack_from(argument)
    try:
        table = _own_table(domain, domid)
        if frames > MAX_FRAMES:
            raise GrantRefused(GntStatus.GENERAL_ERROR, f"{frames} frames: {MAX_FRAMES} at most")
        table.grow(frames)
        status = GntStatus.OKAY
        if frame_list is not None:
            frame_list[:frames] = [frame.number or NOWHERE for frame in table.frames[:frames]]
        elif frames:
            status = GntStatus.BAD_VIRT_ADDR
    except GrantRefused as refused:
        status = refused.status
    abi.SETUP_TABLE.pack_into(argument, 0, domid, frames, status, where)


def _query_size(domain: XenDomain, argument: bytearray, count: int, _: _FrameList) -> None:
    _alone(Op.QUERY_SIZE, abi.QUERY_SIZE, argument, count)
    domid, frames, most, status = abi.QUERY_SIZE.unpack_from(argument)
    try:
        table = _own_table(domain, domid)
        frames, most, status = len(table.frames), MAX_FRAMES, GntStatus.OKAY
    except GrantRefused as refused:
        status = refused.status
    abi.QUERY_SIZE.pack_into(argument, 0, domid, frames, most, status)


def _set_version(domain: XenDomain, argument: bytearray, *_: object) -> None:
    _readable(Op.SET_VERSION, abi.SET_VERSION, argument)
    (version,) = abi.SET_VERSION.unpack_from(argument)
    abi.SET_VERSION.pack_into(argument, 0, _VERSION)
    if version != _VERSION:
        error = ENOSYS if version == 2 else EINVAL
        raise XenError(error, "GNTTABOP_set_version", f"version {version}: there is {_VERSION}")


def _get_version(domain: XenDomain, argument: bytearray, *_: object) -> None:
    _readable(Op.GET_VERSION, abi.GET_VERSION, argument)
    (domid, _version) = abi.GET_VERSION.unpack_from(argument)
    try:
        _own_table(domain, domid)
    except GrantRefused as refused:
        error = ESRCH if refused.status == GntStatus.BAD_DOMAIN else EPERM
        raise XenError(error, "GNTTABOP_get_version", str(refused)) from None
    abi.GET_VERSION.pack_into(argument, 0, domid, _VERSION)


# Whose table


def _table_of(domain: XenDomain, domid: int) -> GrantTable:
    owner = domain.xen.domains.get(domid)
    if owner is None:
        raise GrantRefused(GntStatus.BAD_DOMAIN, f"domain {domid}")
    return owner.grant_table


def _named(domain: XenDomain, domid: int) -> GrantTable:
    return domain.grant_table if domid == DOMID_SELF else _table_of(domain, domid)


def _own_table(domain: XenDomain, domid: int) -> GrantTable:
    """A table that this domain may ask about: its own, or dom0 anybody's."""
    table = _named(domain, domid)
    if table.domain is not domain and not domain.privileged:
        raise GrantRefused(GntStatus.PERMISSION_DENIED, f"domain {domid}'s")
    return table


_COMMANDS: dict[int, _Operation] = {
    Op.MAP_GRANT_REF: _several(Op.MAP_GRANT_REF, abi.MAP_GRANT_REF, _map_grant_ref),
    Op.UNMAP_GRANT_REF: _several(Op.UNMAP_GRANT_REF, abi.UNMAP_GRANT_REF, _unmap_grant_ref),
    Op.SETUP_TABLE: _setup_table,
    Op.COPY: _several(Op.COPY, abi.COPY, _copy),
    Op.QUERY_SIZE: _query_size,
    Op.SET_VERSION: _set_version,
    Op.GET_VERSION: _get_version,
    Op.SWAP_GRANT_REF: _several(Op.SWAP_GRANT_REF, abi.SWAP_GRANT_REF, _swap_grant_ref),
}
