"""Steps of grants on a plain guest of the simulator: kernel/grants.c in Python.

What is said there of pages, slots, handles and what is put in and taken out again holds here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from errno import EBUSY, ENOENT
from typing import TYPE_CHECKING, NamedTuple

from xen_oracle.program import Step

from activations.abi import grant_table as abi
from activations.abi.grant_table import Copy, Gtf, Map, Op
from activations.errors import XenError
from xen_sim.guests.platform import Platform
from xen_sim.hardware.memory import Frame
from xen_sim.xen.domain import XenDomain
from xen_sim.xen.grant_table import MAX_FRAMES

from .steps import (
    COPY,
    FIRST_REF,
    FRAMES,
    NO_ADDRESS,
    NOT_MAPPED,
    OWN,
    PEER,
    RAW_HANDLE,
    SLOTS,
    ProbeKind,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BASE = 0x40000000
PEER_BASE = 0x50000000
NO_FRAME = 0x10000000
NO_HANDLE = 0xFFFF_FFFF
U32 = 2**32 - 1
PAGE = abi.PAGE_SIZE


class Domids(NamedTuple):
    own: int
    peer: int
    """Of the guest that grants; 0 for none."""
    frames: Sequence[int] = ()
    """The peer's."""


def peer(domain: XenDomain, domid: int) -> Sequence[int]:
    """A domain's frames, and its table, are granted to another for good. Gives the frames."""
    frames = [domain.new_frame() for _ in range(FRAMES)]
    for number, frame in enumerate([domain.map_grant_table(0), *frames]):
        ref = abi.RESERVED_ENTRIES + number
        domain.grant_table.set_entry(ref, Gtf.PERMIT_ACCESS, domid, frame.number)
    return [frame.number for frame in frames]


class Grants:
    """The probe's part for grants, with the guest that grants beside it, if there is one."""

    def __init__(self, platform: Platform, frames: Sequence[Frame], who: Domids) -> None:
        self._platform = platform
        self._xen = platform.xen
        self._frames = [frame.number for frame in frames]
        self._who = who
        self._slots: dict[int, bool] = {}
        """Those that are mapped, and whether to be written."""
        self._given = [NO_HANDLE] * SLOTS
        """The handle of the last mapping at each slot."""
        self._handles: list[int] = []
        self.table = [self._xen.map_grant_table(0)]
        self._theirs = [self._map_theirs(n) for n in range(1 + FRAMES if who.peer else 0)]
        """The peer's table and frames."""

    def _map_theirs(self, number: int) -> memoryview:
        ref = abi.RESERVED_ENTRIES + number
        given = (PEER_BASE + number * PAGE, Map.HOST, ref, self._who.peer, 1, 0, 0)
        argument = bytearray(abi.MAP_GRANT_REF.pack(*given))
        self._xen.grant_table_op(Op.MAP_GRANT_REF, argument)
        return self._platform.mapped_memory(PEER_BASE // PAGE + number)

    def pages(self) -> Iterator[tuple[int, ReadableBuffer, bool]]:
        """Those whose changes are told: the number of each, its bytes, whether it has entries."""
        for index, frame in enumerate(self.table):
            yield 1 + FRAMES + index, frame.bytes, True
        behind = 1 + FRAMES + MAX_FRAMES
        for index, page in enumerate(self._theirs[1:]):
            yield behind + index, page, False
        for page in self._theirs[:1]:
            yield behind + FRAMES, page, True

    # What a program names, and what Xen is told

    def _frame_of(self, number: int, frames: Sequence[int]) -> int:
        if number < FRAMES:
            return frames[number]
        if number < FRAMES + SLOTS:
            return BASE // PAGE + number - FRAMES
        return number + NO_FRAME & U32

    def told(self, entry: int) -> int:
        """An entry without its frame's number."""
        frame = entry >> 32
        for frames in (self._frames, self._who.frames):
            if frame in frames:
                return entry & U32 | 1 + frames.index(frame) << 32
        if 0 <= frame - BASE // PAGE < SLOTS:
            frame += 1 + FRAMES - BASE // PAGE
        return entry & U32 | frame << 32

    def _domid_of(self, given: int) -> int:
        return {OWN: self._who.own, PEER: self._who.peer}.get(given, given)

    def _address_of(self, given: int) -> int:
        slot, offset = given & U32, (given >> 32) % PAGE
        if slot < SLOTS:
            return BASE + slot * PAGE + offset
        if slot == NO_ADDRESS:
            return 0
        return self._frames[0] * PAGE if slot == NOT_MAPPED else BASE + (1 << 29)

    def _handle_of(self, given: int) -> int:
        return self._given[given % SLOTS] if given < RAW_HANDLE else given - RAW_HANDLE

    # Steps

    def begin(self) -> None:
        """As new: nothing mapped, nothing granted."""
        while self._handles:
            self._unmap_last()
        self._given = [NO_HANDLE] * SLOTS
        for index, frame in enumerate(self.table):
            kept = 0 if index else abi.RESERVED_ENTRIES * abi.ENTRY.size
            frame.bytes[kept:] = bytes(PAGE - kept)
        for index, page in enumerate(self._theirs):
            kept = 0 if index else FIRST_REF * abi.ENTRY.size
            page[kept:] = bytes(PAGE - kept)

    def _unmap_last(self) -> None:
        for slot in list(self._slots):
            argument = bytearray(
                abi.UNMAP_GRANT_REF.pack(BASE + slot * PAGE, 0, self._handles[-1], 1)
            )
            self._xen.grant_table_op(Op.UNMAP_GRANT_REF, argument)
            host, _, handle, status = abi.UNMAP_GRANT_REF.unpack(argument)
            if not status:
                self._note_unmapped(host, handle)
                return
        raise AssertionError("a mapping is nowhere")

    def _note_unmapped(self, host: int, handle: int) -> None:
        if host:
            del self._slots[(host - BASE) // PAGE]
            last = self._handles.pop()  # in its place, since their order is that of the free ones
            if last != handle:
                self._handles[self._handles.index(handle)] = last

    def grant_table_op(self, number: int, argument: bytearray) -> None:
        """Hypercall 20. The argument becomes what Xen left there; where it is cut short, nothing is
        put into it."""
        command, count = number & 0xFFFF, number >> 16
        count = U32 if count == 0xFFFF else count
        layout = _LAYOUTS.get(command)
        if layout is None or len(argument) < layout.size:
            self._xen.grant_table_op(command, argument, count)
            return
        given = list(layout.unpack_from(argument))
        if command == Op.MAP_GRANT_REF and not self._is_free(given[0] & U32):
            raise XenError(EBUSY, "probe", "something is mapped there")
        frames: list[int] | None = None
        if command == Op.SETUP_TABLE and not given[-1]:
            frames = []
        full = self._full(command, given)
        try:
            self._xen.grant_table_op(command, full, count, frames)
        finally:
            argument[:] = layout.pack(*self._told(command, given, full, frames))

    def _is_free(self, slot: int) -> bool:
        return slot < SLOTS and slot not in self._slots

    def _full(self, command: int, given: list[int]) -> bytearray:
        """The structure, as Xen has it."""
        fields = list(given)
        match command:
            case Op.MAP_GRANT_REF:
                fields[0], fields[3] = self._address_of(given[0]), self._domid_of(given[3])
                return bytearray(abi.MAP_GRANT_REF.pack(*fields))
            case Op.UNMAP_GRANT_REF:
                fields[0], fields[2] = self._address_of(given[0]), self._handle_of(given[2])
                return bytearray(abi.UNMAP_GRANT_REF.pack(*fields))
            case Op.COPY:
                flags = given[7]
                for at, foreign in ((0, Copy.SOURCE_GREF), (3, Copy.DEST_GREF)):
                    fields[at] = (
                        given[at] if flags & foreign else self._frame_of(given[at], self._frames)
                    )
                    fields[at + 1] = self._domid_of(given[at + 1])
                return bytearray(abi.COPY.pack(*fields))
            case _:
                fields[0] = self._domid_of(given[0])
                return bytearray(_LAYOUTS[Op(command)].pack(*fields))

    def _told(
        self, command: int, given: list[int], full: bytearray, frames: list[int] | None
    ) -> list[int]:
        """What the program is told: Xen's results in what it gave."""
        match command:
            case Op.MAP_GRANT_REF:
                _, flags, ref, _, status, handle, _ = abi.MAP_GRANT_REF.unpack(full)
                if not status:
                    slot = given[0] & U32
                    self._slots[slot] = not flags & Map.READONLY
                    self._given[slot] = handle
                    self._handles.append(handle)
                return [given[0], flags, ref, given[3], status, handle, 0]
            case Op.UNMAP_GRANT_REF:
                host, device, handle, status = abi.UNMAP_GRANT_REF.unpack(full)
                if not status:
                    self._note_unmapped(host, handle)
                return [given[0], device, given[2], status]
            case Op.COPY:
                return [*given[:-1], abi.COPY.unpack(full)[-1]]
            case Op.SETUP_TABLE:
                _, count, status, _ = abi.SETUP_TABLE.unpack(full)
                if not status:
                    self.table = [
                        self._xen.map_grant_table(n) for n in range(max(count, len(self.table)))
                    ]
                return [given[0], count, status, len(frames or ())]
            case _:
                return [given[0], *_LAYOUTS[Op(command)].unpack(full)[1:]]

    def step(self, step: Step) -> int:
        """The guest's own accesses: to an entry, and to what is mapped where it is."""
        number, page = step.number & 0xFFFF, step.number >> 16
        if step.kind == ProbeKind.GRANT_ENTRY:
            return self._write_entry(number, page, step.data)
        if page not in self._slots:
            return -ENOENT
        words = self._platform.mapped_memory(BASE // PAGE + page).cast("Q")
        if step.kind == ProbeKind.MAPPED_LOAD:
            return int(words[number // 8]) & 0x7FFF_FFFF
        if self._slots[page]:
            keep, flip = struct.unpack("<QQ", step.data)
            words[number // 8] = words[number // 8] & keep ^ flip
        return 0

    def _write_entry(self, ref: int, how: int, data: bytes) -> int:
        own, flags_alone = how & 2, how & 1
        pages = [memoryview(frame.bytes) for frame in self.table] if own else self._theirs[:1]
        index, at = divmod(ref * abi.ENTRY.size, PAGE)
        if index >= len(pages):
            return -ENOENT
        entry = pages[index][at : at + abi.ENTRY.size]
        if flags_alone:
            entry[:2] = data[:2]
        else:
            flags, domid, frame = abi.ENTRY.unpack(data)
            gfn = self._frame_of(frame, self._frames if own else self._who.frames)
            abi.ENTRY.pack_into(entry, 0, flags, self._domid_of(domid), gfn)
        return 0


_LAYOUTS = {
    Op.MAP_GRANT_REF: abi.MAP_GRANT_REF,
    Op.UNMAP_GRANT_REF: abi.UNMAP_GRANT_REF,
    Op.COPY: COPY,
    Op.SETUP_TABLE: abi.SETUP_TABLE,
    Op.QUERY_SIZE: abi.QUERY_SIZE,
    Op.GET_VERSION: abi.GET_VERSION,
}
"""Structures in which something is put in, as a program has them."""
