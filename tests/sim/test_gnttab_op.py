"""Hypercall 20 on the simulator: rules that a real Xen taught (docs/truth.md)."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from activations import XenError
from activations.abi import grant_table as abi
from activations.abi.event_channel import DOMID_SELF
from activations.abi.grant_table import PAGE_SIZE, Copy, GntStatus, Gtf, Map, Op
from activations.errors import BackendError
from xen_sim import Machine, PlainGuest
from xen_sim.hardware.memory import Frame
from xen_sim.schedule.step import Step
from xen_sim.schedule.tape import Tape
from xen_sim.xen.domain import XenDomain

REF, OTHER = 8, 9
SLOT = 0x40000
ACCESS = Gtf.PERMIT_ACCESS


class Pair:
    """A guest, and another domain that grants it a page, or two."""

    def __init__(self, guest: PlainGuest, owner: XenDomain) -> None:
        self.xen = guest.xen
        self.guest = owner.xen.domains[1]
        self.mapped = guest.platform.mapped_memory
        self.own = guest.platform.new_frame()
        self.owner = owner
        self.pages = [owner.new_frame(), owner.new_frame()]
        self.grant(REF, ACCESS, self.pages[0])

    def grant(self, ref: int, flags: int, page: Frame) -> None:
        self.owner.grant_table.set_entry(ref, flags, 1, page.number)

    def flags(self, ref: int = REF) -> int:
        return self.owner.grant_table.entry(ref)[0]

    def map(self, slot: int = 0, flags: int = Map.HOST, ref: int = REF) -> tuple[int, int]:
        """Its status and handle."""
        status, handle, _ = self.map_at(SLOT + slot, flags, ref)
        return status, handle

    def map_at(self, gfn: int, flags: int = Map.HOST, ref: int = REF) -> tuple[int, int, int]:
        """Its status, handle, and address on the bus."""
        given = gfn << 12, flags, ref, self.owner.domid, 1, 0, 0
        argument = bytearray(abi.MAP_GRANT_REF.pack(*given))
        self.xen.grant_table_op(Op.MAP_GRANT_REF, argument)
        *_, status, handle, device = abi.MAP_GRANT_REF.unpack(argument)
        return status, handle, device

    def unmap(self, handle: int, address: int = SLOT << 12) -> int:
        argument = bytearray(abi.UNMAP_GRANT_REF.pack(address, 0, handle, 1))
        self.xen.grant_table_op(Op.UNMAP_GRANT_REF, argument)
        return int(abi.UNMAP_GRANT_REF.unpack(argument)[-1])

    def copy(self, source: tuple[int, int, int], dest: tuple[int, int, int], flags: int) -> int:
        argument = bytearray(abi.COPY.pack(*source, *dest, 16, flags, 1))
        self.xen.grant_table_op(Op.COPY, argument)
        return int(abi.COPY.unpack(argument)[-1])

    @property
    def here(self) -> tuple[int, int, int]:
        """The guest's own page, as an end of a copy."""
        return self.own.number, DOMID_SELF, 0

    @property
    def there(self) -> tuple[int, int, int]:
        return REF, self.owner.domid, 0


def holds(check: Callable[[Pair], None]) -> None:
    machine = Machine()
    machine.plain("guest", lambda guest: check(Pair(guest, machine.xen.create("owner"))))
    machine.run()


def test_a_domain_maps_one_page_128_times_to_write_and_as_often_again_to_read() -> None:
    def check(pair: Pair) -> None:
        for slot in range(256):
            assert pair.map(slot, Map.HOST | Map.READONLY * (slot % 2))[0] == GntStatus.OKAY
        assert pair.map(256)[0] == GntStatus.GENERAL_ERROR

    holds(check)


def test_what_is_mapped_is_the_page_that_the_entry_named_as_it_was_first_mapped() -> None:
    def check(pair: Pair) -> None:
        pair.map(0)
        pair.grant(REF, ACCESS | Gtf.READING, pair.pages[1])
        pair.map(1)
        pair.pages[0].bytes[:4] = b"here"
        assert bytes(pair.mapped(SLOT + 1)[:4]) == b"here"

    holds(check)


def test_a_page_has_one_address_on_the_bus_and_no_other_has_it_in_any_run() -> None:
    runs: list[list[int]] = []

    def check(pair: Pair) -> None:
        for ref in range(OTHER, OTHER + 40):
            pair.grant(ref, ACCESS, pair.owner.new_frame())
        refs = range(REF, OTHER + 40)
        runs.append([pair.map_at(SLOT + ref, ref=ref)[2] for ref in refs])
        again = [pair.map_at(2 * SLOT + ref, Map.HOST | Map.READONLY, ref)[2] for ref in refs]
        assert again == runs[-1]
        assert len(set(again)) == len(refs)
        assert not any(address % PAGE_SIZE for address in again)

    holds(check)
    holds(check)
    assert runs[0] == runs[1]


def test_what_is_mapped_is_explored_by_the_accesses_to_it() -> None:
    def check(guest: PlainGuest) -> None:
        pair = Pair(guest, machine.xen.create("owner"))
        pair.map(0)
        pair.map(1, Map.HOST | Map.READONLY)
        pair.mapped(SLOT)[0] = 1
        assert pair.mapped(SLOT + 1)[0] == 1
        with pytest.raises(TypeError):
            pair.mapped(SLOT + 1)[0] = 2

    class Noted(Tape):
        def __init__(self) -> None:
            self.steps: list[str] = []

        def alone(self, name: str, step: Step) -> None:
            self.steps.append(str(step))

    tape = Noted()
    machine = Machine(tape=tape, explore=True)
    machine.plain("guest", check)
    machine.run()
    assert [step for step in tape.steps if "memory" in step] == ["write memory 8", "read memory 8"]


def test_flags_that_say_how_a_page_is_used_go_with_the_last_who_uses_it_so() -> None:
    def check(pair: Pair) -> None:
        unknown = 1 << 12
        pair.grant(REF, ACCESS | unknown, pair.pages[0])
        _, reads = pair.map(0, Map.HOST | Map.READONLY)
        assert pair.flags() == ACCESS | Gtf.READING | unknown
        _, writes = pair.map(1)
        assert pair.flags() == ACCESS | Gtf.READING | Gtf.WRITING | unknown
        pair.unmap(writes, SLOT + 1 << 12)
        assert pair.flags() == ACCESS | Gtf.READING | unknown
        pair.unmap(reads)
        assert pair.flags() == ACCESS | unknown

    holds(check)


def test_a_mapping_that_is_unmapped_at_no_address_stays_and_all_is_well() -> None:
    def check(pair: Pair) -> None:
        _, handle = pair.map()
        assert pair.unmap(handle, 0) == GntStatus.OKAY
        assert pair.flags() & Gtf.WRITING
        assert pair.unmap(handle, SLOT + 1 << 12) == GntStatus.GENERAL_ERROR
        assert pair.unmap(handle) == GntStatus.OKAY
        assert pair.unmap(handle) == GntStatus.BAD_HANDLE

    holds(check)


def test_a_handle_comes_again_after_all_others() -> None:
    def check(pair: Pair) -> None:
        seen = []
        for _ in range(300):
            _, handle = pair.map()
            seen.append(handle)
            pair.unmap(handle)
        assert seen == [*range(256), *range(44)]

    holds(check)


def test_of_a_copys_faults_the_one_that_xen_comes_to_first_is_told() -> None:
    """Both domains; then the source; then the destination; then the lengths."""

    def check(pair: Pair) -> None:
        nobody, theirs = (REF, 99, 0), (pair.own.number, pair.owner.domid, 0)
        none, beyond = (1000, pair.owner.domid, 0), (REF, pair.owner.domid, 4090)
        both = Copy.SOURCE_GREF | Copy.DEST_GREF
        assert pair.copy(theirs, nobody, Copy.DEST_GREF) == GntStatus.BAD_DOMAIN
        assert pair.copy(none, theirs, Copy.SOURCE_GREF) == GntStatus.BAD_GNTREF
        assert pair.copy(pair.there, theirs, Copy.SOURCE_GREF) == GntStatus.PERMISSION_DENIED
        assert pair.copy(beyond, none, both) == GntStatus.BAD_GNTREF
        assert pair.copy(beyond, pair.here, Copy.SOURCE_GREF) == GntStatus.BAD_COPY_ARG

    holds(check)


def test_a_page_that_is_read_is_not_copied_to_by_an_entry_that_names_another_by_now() -> None:
    def check(pair: Pair) -> None:
        pair.map(0, Map.HOST | Map.READONLY)
        pair.grant(REF, ACCESS | Gtf.READING, pair.pages[1])
        assert pair.copy(pair.here, pair.there, Copy.DEST_GREF) == GntStatus.GENERAL_ERROR
        pair.grant(REF, ACCESS | Gtf.READING, Frame(1 << 27))
        assert pair.copy(pair.here, pair.there, Copy.DEST_GREF) == GntStatus.BAD_PAGE
        assert pair.flags() == ACCESS | Gtf.READING

    holds(check)


def test_bytes_that_overlap_are_copied_forwards_by_eights() -> None:
    def check(pair: Pair) -> None:
        page, domid, _ = pair.here
        pair.own.bytes[:20] = bytes(range(20))
        assert pair.copy((page, domid, 0), (page, domid, 3), 0) == GntStatus.OKAY
        first = [0, 1, 2, *range(8)]
        assert list(pair.own.bytes[:19]) == [*first, *(5, 6, 7), *range(11, 16)]

    holds(check)


def test_a_table_grows_to_its_limit_and_no_other_domain_is_told_of_it() -> None:
    def check(pair: Pair) -> None:
        def setup(domid: int, frames: int) -> int:
            argument = bytearray(abi.SETUP_TABLE.pack(domid, frames, 1, 0))
            pair.xen.grant_table_op(Op.SETUP_TABLE, argument, 1, listed)
            return int(abi.SETUP_TABLE.unpack(argument)[2])

        listed: list[int] = []
        assert setup(pair.owner.domid, 1) == GntStatus.PERMISSION_DENIED
        assert setup(DOMID_SELF, 3) == GntStatus.GENERAL_ERROR
        assert setup(DOMID_SELF, 2) == GntStatus.OKAY
        assert len(listed) == 2
        argument = bytearray(abi.QUERY_SIZE.pack(DOMID_SELF, 0, 0, 1))
        pair.xen.grant_table_op(Op.QUERY_SIZE, argument)
        assert abi.QUERY_SIZE.unpack(argument)[1:] == (2, 2, GntStatus.OKAY)

    holds(check)


@pytest.mark.parametrize(
    ("command", "argument", "count", "error"),
    [
        (Op.TRANSFER, bytes(24), 1, errno.ENOSYS),
        (Op.CACHE_FLUSH, bytes(16), 1, errno.ENOSYS),
        (Op.SET_VERSION, abi.SET_VERSION.pack(2), 1, errno.ENOSYS),
        (Op.SET_VERSION, abi.SET_VERSION.pack(3), 1, errno.EINVAL),
        (Op.GET_VERSION, abi.GET_VERSION.pack(99, 0), 1, errno.ESRCH),
        (Op.GET_VERSION, abi.GET_VERSION.pack(2, 0), 1, errno.EPERM),
        (Op.QUERY_SIZE, bytes(16), 2, errno.EINVAL),
        (Op.MAP_GRANT_REF, bytes(31), 1, errno.EFAULT),
        (Op.COPY, bytes(40), 2, errno.EFAULT),
        (Op.COPY, bytes(40), 2**31, errno.EINVAL),
    ],
    ids=lambda given: given.name.lower() if isinstance(given, Op) else None,
)
def test_a_command_that_cannot_be_has_xens_error(
    command: int, argument: bytes, count: int, error: int
) -> None:
    def check(pair: Pair) -> None:
        with pytest.raises(XenError) as raised:
            pair.xen.grant_table_op(command, bytearray(argument), count)
        assert raised.value.errno == error

    holds(check)


def test_a_page_of_its_own_and_one_over_another_are_not_mapped_as_xen_would_move_or_crash() -> None:
    def check(pair: Pair) -> None:
        given = (SLOT << 12, Map.HOST, REF, 1, 1, 0, 0)
        with pytest.raises(BackendError, match="of its own"):
            pair.xen.grant_table_op(Op.MAP_GRANT_REF, bytearray(abi.MAP_GRANT_REF.pack(*given)))
        pair.map()
        with pytest.raises(BackendError, match="in use"):
            pair.map()
        with pytest.raises(BackendError, match="in use"):
            pair.map_at(pair.own.number)
        grants = pair.guest.page_grants
        shared = grants.share(0, 1, writable=True)
        with pytest.raises(BackendError, match="in use"):
            pair.map_at(grants.table.entry(shared.refs[0])[2])
        shared.close()

    holds(check)
