"""Random programs of grants: one guest grants, the other maps and copies."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

from xen_oracle.program import Kind, Step

from activations.abi import grant_table as abi
from activations.abi.event_channel import DOMID_SELF
from activations.abi.grant_table import Copy, Gtf, Map, Op

from .programs import Asked, Guest, begin
from .steps import COPY, FIRST_REF, FRAMES, NO_ADDRESS, OWN, PEER, RAW_HANDLE, SLOTS, ProbeKind

LENGTH = 100
"""Steps of a program besides those of its scene."""
GUEST = Guest(1, "none", peer=True)
OWN_TABLE = 1 << 17
_FLAGS_ALONE = 1 << 16
_NO_REFS = (1024, 1025, 2**31, 2**32 - 1)
_NOBODY = (0x6000, 0x7FEF, 0x7FF1, 0x7FF2, 0x7FF4, 0x7FFF, 0x8000, 0xFFFF)
_JUNK = 0x7777
_LENGTHS = (0, 1, 2, 7, 8, 9, 64, 511, 1000, 4095, 4096, 4097, 0xFFFF)
_OPERATIONS = (
    *[Op.MAP_GRANT_REF] * 30,
    *[Op.UNMAP_GRANT_REF] * 26,
    *[Op.COPY] * 34,
    *[Op.SWAP_GRANT_REF] * 8,
    *[Op.QUERY_SIZE, Op.SET_VERSION, Op.GET_VERSION, Op.SETUP_TABLE] * 2,
)
_NOT_FOR_SUCH_A_GUEST = (
    *(Op.DUMP_TABLE, Op.TRANSFER, Op.UNMAP_AND_REPLACE, Op.GET_STATUS_FRAMES, Op.CACHE_FLUSH),
    *(13, 0xFFF, 0x1000, 0x100B),
)


def programs(seed: int) -> Iterator[list[Step]]:
    """Programs without end, the same for the same number."""
    for number in count(seed * 1_000_003):
        yield list(_Writer(random.Random(number)).steps())


def asked(steps: int, seed: int) -> Asked:
    """As many programs as have so many steps."""
    some: list[Step] = []
    for program in programs(seed):
        if len(some) >= steps:
            break
        some += program
    return GUEST, some


def op(command: int, data: bytes, many: int = 1) -> Step:
    """Hypercall 20."""
    return Step(ProbeKind.GRANT_TABLE_OP, 0, 0, many << 16 | command, data)


def map_at(slot: int, flags: int, ref: int, domid: int) -> Step:
    """GNTTABOP_map_grant_ref."""
    given = abi.MAP_GRANT_REF.pack(slot, flags, ref, domid, _JUNK, 79, 0)
    return op(Op.MAP_GRANT_REF, given)


def entry(where: int, flags: int, domid: int, frame: int) -> Step:
    """An entry of the peer's is written; of the guest's own table with `OWN_TABLE`."""
    return Step(ProbeKind.GRANT_ENTRY, 0, 0, where, abi.ENTRY.pack(flags, domid, frame))


class _Writer:
    """Writes one program."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._slots = rng.choice((2, 4, 8, 12))
        self._refs = rng.choice((2, 5, 16))

    def steps(self) -> Iterator[Step]:
        """From the first to the last."""
        yield from begin(1)
        yield from self._scene()
        for _ in range(LENGTH):
            yield self._step()

    def _scene(self) -> Iterator[Step]:
        """What a program begins with: some pages granted; one mapped as often as Xen allows."""
        for ref in range(FIRST_REF, FIRST_REF + self._refs):
            yield entry(ref, Gtf.PERMIT_ACCESS, OWN, ref % FRAMES)
        if self._rng.random() < 0.03:
            for slot in range(SLOTS - 29):
                yield map_at(slot, Map.HOST, FIRST_REF, PEER)

    def _step(self) -> Step:
        r, rng = self._rng.random(), self._rng
        if r < 0.14:
            domid = OWN if rng.random() < 0.9 else self._domid()
            where = self._one_table() | self._some_ref()
            return entry(where, self._flags(), domid, self._frame())
        if r < 0.19:
            where = _FLAGS_ALONE | self._one_table() | self._some_ref()
            return entry(where, self._flags(), 0, 0)
        if r < 0.27:
            return self._store()
        if r < 0.31:
            return Step(ProbeKind.MAPPED_LOAD, 0, 0, self._slot() << 16 | self._word())
        if r < 0.33:
            command = rng.choice(_NOT_FOR_SUCH_A_GUEST)
            return op(command, rng.randbytes(rng.choice((0, 8, 24))))
        command = rng.choice(_OPERATIONS)
        data = self._argument(command)
        many = rng.choices((1, 0, 2, 0xFFFF), (0.94, 0.02, 0.02, 0.02))[0]
        if rng.random() < 0.02:
            data = data[: rng.randrange(len(data))]
        return op(command, data, many)

    def _argument(self, command: Op) -> bytes:
        rng = self._rng
        match command:
            case Op.MAP_GRANT_REF:
                slot = self._slot() | rng.choice((0, 0, 1, 4095)) << 32
                return map_at(slot, self._map_flags(), self._ref(), self._whose()).data
            case Op.UNMAP_GRANT_REF:
                return self._unmap()
            case Op.COPY:
                return self._copy() if rng.random() < 0.9 else self._copy_within()
            case Op.SWAP_GRANT_REF:
                one = self._ref()
                other = one if rng.random() < 0.1 else self._ref()
                return abi.SWAP_GRANT_REF.pack(one, other, _JUNK)
            case Op.SETUP_TABLE:
                frames = rng.choice((0, 1, 1, 1, 3, 64, 2**32 - 1))
                if rng.random() < 0.01:
                    frames = 2  # from then on the table is larger, for good
                nowhere = int(rng.random() < 0.2)
                return abi.SETUP_TABLE.pack(self._asker(), frames, _JUNK, nowhere)
            case Op.QUERY_SIZE:
                return abi.QUERY_SIZE.pack(self._asker(), 77, 78, _JUNK)
            case Op.SET_VERSION:
                return abi.SET_VERSION.pack(rng.choice((0, 1, 1, 2, 2, 3, 2**32 - 1)))
            case _:
                return abi.GET_VERSION.pack(self._asker(), 77)

    # Whom and what operations are about

    def _unmap(self) -> bytes:
        """Of a slot, with its handle most of the time."""
        rng = self._rng
        slot = handle = self._slot()
        r = rng.random()
        if r < 0.08:
            handle = self._slot()
        elif r < 0.14:
            handle = RAW_HANDLE + rng.choice(
                (0, 60, 130, 255, 256, 300, 2**31, 2**32 - 1 - RAW_HANDLE)
            )
        if rng.random() < 0.12:
            slot = rng.choice((NO_ADDRESS, NO_ADDRESS + 1, NO_ADDRESS + 2, self._slot()))
        device = rng.choice((0, 0, 0, 4096))
        return abi.UNMAP_GRANT_REF.pack(slot, device, handle, _JUNK)

    def _copy(self) -> bytes:
        rng = self._rng
        flags = rng.choice((0, 1, 1, 2, 2, 3, 3, 3, 4, 0xFFFF))
        ends: list[int] = []
        for foreign in (Copy.SOURCE_GREF, Copy.DEST_GREF):
            if flags & foreign:
                ends += (self._ref(), self._domid())
            else:
                ends += (self._frame(), DOMID_SELF if rng.random() < 0.9 else self._domid())
            ends.append(rng.choice((0, 0, 1, 3, 8, 100, 2048, 4095, 4096, 0xFFFF)))
        return COPY.pack(*ends, rng.choice(_LENGTHS), flags, _JUNK)

    def _copy_within(self) -> bytes:
        """From one place of a page to the next."""
        page, (start, end) = self._frame(), self._rng.sample((0, 1, 3, 8, 13, 100), 2)
        length = self._rng.choice((8, 9, 64, 511, 2100))
        return COPY.pack(page, DOMID_SELF, start, page, DOMID_SELF, end, length, 0, _JUNK)

    def _flags(self) -> int:
        rng = self._rng
        r = rng.random()
        if r < 0.5:
            return Gtf.PERMIT_ACCESS
        if r < 0.7:
            return Gtf.PERMIT_ACCESS | Gtf.READONLY
        if r < 0.9:
            return rng.randrange(0x200)
        return rng.randrange(0x10000)

    def _store(self) -> Step:
        """Into a page, or through a mapping."""
        rng = self._rng
        kind = rng.choice((Kind.STORE, ProbeKind.MAPPED_STORE, ProbeKind.MAPPED_STORE))
        page = 1 + rng.randrange(FRAMES) if kind == Kind.STORE else self._slot()
        data = rng.randbytes(8) + rng.randbytes(8)
        return Step(kind, 0, 0, page << 16 | self._word(), data)

    def _word(self) -> int:
        return self._rng.choice((0, 8, 96, 512, 2048, 4088))

    def _slot(self) -> int:
        return self._rng.randrange(self._slots)

    def _one_table(self) -> int:
        return OWN_TABLE if self._rng.random() < 0.25 else 0

    def _some_ref(self) -> int:
        r = self._rng.random()
        if r < 0.95:
            return FIRST_REF + self._rng.randrange(self._refs)
        return self._rng.choice((511, 512, 513, 1023))

    def _ref(self) -> int:
        return self._some_ref() if self._rng.random() < 0.95 else self._rng.choice(_NO_REFS)

    def _frame(self) -> int:
        r = self._rng.random()
        if r < 0.85:
            return self._rng.randrange(FRAMES)
        if r < 0.95:
            return FRAMES + self._slot()
        return self._rng.choice((1000, 2**27))

    def _whose(self) -> int:
        """Whose grant is mapped: never its own, as Xen moves a page that its owner maps."""
        r = self._rng.random()
        return PEER if r < 0.95 else DOMID_SELF if r < 0.97 else self._rng.choice(_NOBODY)

    def _domid(self) -> int:
        return OWN if self._rng.random() < 0.15 else self._whose()

    def _asker(self) -> int:
        return self._rng.choice((DOMID_SELF, DOMID_SELF, OWN, PEER, 0, *_NOBODY[:3]))

    def _map_flags(self) -> int:
        rng = self._rng
        r = rng.random()
        if r < 0.55:
            return Map.HOST
        if r < 0.9:
            return Map.HOST | Map.READONLY
        return rng.choice((0, 1, 3, 4, 5, 10, 16, 18, 32, 34, 0x10002, 2**32 - 1, 2**31 | 2))
