"""What holds of shared memory on a simulated Xen and on a real one alike."""

from __future__ import annotations

import errno

from rule import rule

from activations import Domain, Scenario, XenError

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
