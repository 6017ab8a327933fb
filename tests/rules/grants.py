"""What holds of shared memory on a simulated Xen and on a real one alike."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from rule import rule

from activations import Domain, Foreign, Scenario, Segment, XenError

shared = Scenario("two_domains_see_the_same_bytes")


@shared.domain("dom0")
async def owner(xen: Domain) -> bytes:
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}/data"
    with (
        xen.events.alloc_unbound(guest) as port,
        xen.grants.share(guest, pages=2) as grant,
    ):
        assert bytes(grant.memory) == bytes(8192), "fresh pages are zeroed"
        grant.memory[:4] = b"dom0"
        await xen.store.write(f"{home}/refs", " ".join(map(str, grant.refs)))
        await xen.store.write(f"{home}/port", str(port.number))
        await port.wait()
        said = bytes(grant.memory[4096:4101])
        await xen.store.wait_for(f"{home}/unmapped")
    assert said == b"guest"
    return said


@shared.domain("guest")
async def peer(xen: Domain) -> bytes:
    number = int(await xen.store.wait_for("data/port"))
    refs = [int(ref) for ref in (await xen.store.read("data/refs")).split()]
    with xen.events.bind_interdomain(0, number) as port:
        with xen.grants.map(0, refs) as grant:
            said = bytes(grant.memory[:4])
            grant.memory[4096:4101] = b"guest"
            port.notify()
        await xen.store.write("data/unmapped", "1")
    assert said == b"dom0"
    return said


told = Scenario("a_peer_that_lets_go_tells_the_owner")


@told.domain("dom0")
async def told_owner(xen: Domain) -> None:
    guest = await xen.find("guest")
    with (
        xen.events.alloc_unbound(guest) as port,
        xen.grants.share(guest) as grant,
    ):
        grant.memory[7] = 1
        home = f"/local/domain/{guest}/data"
        await xen.store.write(f"{home}/ref", str(grant.refs[0]))
        await xen.store.write(f"{home}/port", str(port.number))
        await port.wait()
        assert grant.memory[7] == 0
        await xen.store.wait_for(f"{home}/done")


@told.domain("guest")
async def teller(xen: Domain) -> None:
    number = int(await xen.store.wait_for("data/port"))
    ref = int(await xen.store.read("data/ref"))
    with xen.events.bind_interdomain(0, number) as port:
        grant = xen.grants.map(0, [ref])
        grant.notify_on_close(clear_byte=7, port=port.number)
        grant.close()
        await xen.store.write("data/done", "1")


@rule
async def a_reference_that_was_not_granted_cannot_be_mapped(xen: Domain) -> None:
    refused = None
    try:
        xen.grants.map(xen.domid, [1000]).close()
    except XenError as error:
        refused = error
    assert refused is not None
    assert refused.errno == errno.EINVAL
    assert "1000" in str(refused)


@rule
async def granting_no_page_is_an_error(xen: Domain) -> None:
    try:
        xen.grants.share(0, pages=0)
    except ValueError:
        return
    raise AssertionError("granted")


# Copying

NOBODY = 77
"""A domid no domain has."""
NO_REF = 99_999
"""A reference past the end of any table here."""

copied = Scenario("a_guest_copies_from_and_to_what_dom0_granted")


@copied.domain("dom0")
async def copied_owner(xen: Domain) -> None:
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}/data"
    with (
        xen.grants.share(guest, pages=2) as pages,
        xen.grants.share(guest, writable=False) as given,
        xen.grants.share(xen.domid) as own,
    ):
        pages.memory[100:105] = b"hello"
        given.memory[:4] = b"read"
        refs = (*pages.refs, *given.refs, *own.refs)
        await xen.store.write(f"{home}/refs", " ".join(map(str, refs)))
        await xen.store.wait_for(f"{home}/done")
        assert bytes(pages.memory[4096 + 4091 :]) == b"hello", "from page to page"
        assert bytes(pages.memory[200:203]) == b"own", "from the guest's memory"
        assert bytes(given.memory[:4]) == b"read", "a read-only grant is only read"


@copied.domain("guest")
async def copier(xen: Domain) -> None:
    refs = await xen.store.wait_for("data/refs")
    first, second, given, not_ours = map(int, refs.split())
    buffer = bytearray(16)
    xen.grants.copy(
        [
            Segment(Foreign(0, first, 100), memoryview(buffer)[8:], 5),
            Segment(Foreign(0, first, 100), Foreign(0, second, 4091), 5),
            Segment(Foreign(0, given), buffer, 4),
            Segment(b"own", Foreign(0, first, 200), 3),
            Segment(Foreign(0, NO_REF), buffer, 0),
        ]
    )
    assert buffer == b"read" + bytes(4) + b"hello" + bytes(3)
    with xen.grants.share(0) as shared:
        xen.grants.copy([Segment(Foreign(0, given, 1), shared.memory[300:], 3)])
        assert bytes(shared.memory[300:303]) == b"ead", "to a page of its own that it shares"
    with xen.grants.map(0, [first]) as mapped, mapped.memory[300:] as there:
        error = refused(xen.grants.copy, [Segment(Foreign(0, given), there, 3)])
        assert "GNTST_bad_page" in str(error), "a mapped page is not its own"

    many = [Segment(Foreign(0, first, 100 + n % 5), buffer, 1) for n in range(200)]
    many[150] = Segment(b"x", Foreign(0, given), 1)
    many[160] = Segment(Foreign(0, not_ours), buffer, 1)
    many[199] = Segment(Foreign(0, first, 100), memoryview(buffer)[13:], 3)
    error = refused(xen.grants.copy, many)
    assert error.errno == errno.EIO
    assert str(error) == (
        "GNTTABOP_copy: Input/output error (segment 150, 1 bytes from own memory to "
        f"domain 0's reference {given} at offset 0: GNTST_general_error)"
    )
    assert buffer[13:] == b"hel", "one that is refused does not stop the others"

    for end, why in {
        Foreign(0, not_ours): "GNTST_general_error",
        Foreign(0, NO_REF): "GNTST_bad_gntref",
        Foreign(NOBODY, first): "GNTST_bad_domain",
    }.items():
        for segment in (Segment(end, buffer, 1), Segment(b"x", end, 1)):
            error = refused(xen.grants.copy, [segment])
            assert (error.errno, error.operation) == (errno.EIO, "GNTTABOP_copy")
            assert why in str(error)
    await xen.store.write("data/done", "1")


@rule
async def a_segment_that_crosses_the_end_of_its_page_is_refused_before_any_is_copied(
    xen: Domain,
) -> None:
    buffer = bytearray(2 * 4096)
    with xen.grants.share(xen.domid, pages=2) as pages:
        first = pages.refs[0]
        good = Segment(b"x", Foreign(xen.domid, first), 1)
        for offset, length in ((4090, 7), (4096, 1), (0, 4097), (-1, 1), (1 << 20, 1)):
            end = Foreign(xen.domid, first, offset)
            error = refused(xen.grants.copy, [good, Segment(end, buffer, length)])
            assert error.errno == errno.EINVAL
            assert "segment 1" in str(error)
            assert "GNTST_bad_copy_arg" in str(error)
        assert pages.memory[0] == 0


@rule
async def a_copy_never_leaves_the_memory_it_was_given(xen: Domain) -> None:
    with xen.grants.share(xen.domid) as page:
        there = Foreign(xen.domid, page.refs[0])
        for segment, expected in (
            (Segment(there, bytearray(9), 10), ValueError),
            (Segment(bytes(9), there, 10), ValueError),
            (Segment(there, memoryview(bytearray(20))[::2], 10), ValueError),
            (Segment(there, bytes(10), 10), TypeError),  # type: ignore[arg-type]
            (Segment(b"x", bytearray(1), 1), ValueError),
            (Segment(there, bytearray(1), -1), ValueError),
        ):
            try:
                xen.grants.copy([segment])
            except expected:
                continue
            raise AssertionError(f"copied: {segment}")


@rule
async def copying_nothing_is_harmless(xen: Domain) -> None:
    xen.grants.copy([])


def refused(ask: Callable[..., Any], *arguments: Any) -> XenError:
    try:
        ask(*arguments)
    except XenError as error:
        return error
    raise AssertionError("not refused")
