"""What Linux's devices do on a real Xen, asked of them directly.

Rules of the drivers, not of Xen, and therefore none of the simulator's. The dom0 must be a PV
domain: it maps grants of its own, which a PVH domain does not survive.
"""

from __future__ import annotations

import asyncio
import errno
import select
from collections.abc import Callable
from typing import Any

import activations
from activations.abi.event_channel import Status, Virq
from xen_linux import EventDevice, GrantAllocator, GrantDevice, Hypercalls
from xen_linux.grants import LinuxGrantTable
from xen_linux.identity import identify
from xen_linux.lower import LinuxLowerHalf
from xen_linux.memory import address_of
from xen_linux.store import read_now

scenario = activations.Scenario("linux devices")

NOBODY = 77
"""A domid no domain has."""
NO_PORT = 100_000
"""A port nobody bound."""
NO_REF = 99_999
"""A grant reference nobody made."""


def refused(code: int, ask: Callable[..., Any], *arguments: Any) -> activations.XenError:
    """The error with which `ask` is refused, which must be this one."""
    try:
        result = ask(*arguments)
    except activations.XenError as error:
        refusal = error
    else:
        raise AssertionError(f"{ask.__qualname__}{arguments} gave {result!r}, not an error")
    assert refusal.errno == code, f"wanted {errno.errorcode[code]}, got: {refusal}"
    return refusal


def pair(device: EventDevice) -> tuple[int, int]:
    """Two ports connected to each other, and quiet."""
    near = device.bind_unbound_port(0)
    far = device.bind_interdomain(0, near)
    device.enable(device.read())
    return near, far


def binding(device: EventDevice) -> None:
    near = device.bind_unbound_port(0)
    far = device.bind_interdomain(0, near)
    assert list(device.read()) == [far], "the binding side reads one event at once, alone"
    assert not device.read()
    with Hypercalls() as xen:
        status = xen.port_status(0, near)
        assert status.status is Status.INTERDOMAIN
        assert (status.remote_domid, status.remote_port) == (0, far)
        absent = device.bind_unbound_port(NOBODY)
        status = xen.port_status(0, absent)
        assert status.status is Status.UNBOUND, "binding for an absent domain is allowed"
        assert status.remote_domid == NOBODY
        refused(errno.ESRCH, xen.port_status, NOBODY, 1)
        refused(errno.EINVAL, xen.port_status, 0, 1 << 30)
        device.unbind(far)
        assert xen.port_status(0, near).status is Status.UNBOUND
    device.notify(near)  # its peer is gone: no error
    again = device.bind_interdomain(0, near)
    assert again == far, "the lowest free number is handed out"
    refused(errno.EINVAL, device.bind_interdomain, 0, near)
    refused(errno.EINVAL, device.bind_interdomain, 0, NO_PORT)
    refused(errno.ESRCH, device.bind_interdomain, NOBODY, 1)
    refused(errno.EINVAL, device.unbind, 1 << 30)
    refused(errno.ENOSYS, device.bind_static, NO_PORT)


def virqs(device: EventDevice) -> None:
    for virq in (Virq.TIMER, Virq.CONSOLE, Virq.PCPU_STATE):
        refused(errno.EEXIST, device.bind_virq, virq)
    for virq in (24, 1000):
        refused(errno.EINVAL, device.bind_virq, virq)
    with Hypercalls() as xen:
        port = device.bind_virq(Virq.DEBUG)
        assert xen.port_status(0, port).virq == Virq.DEBUG
    refused(errno.EEXIST, device.bind_virq, Virq.DEBUG)


def events(device: EventDevice) -> None:
    near, far = pair(device)
    for _ in range(10):
        device.notify(near)
    assert list(device.read()) == [far], "events coalesce"
    device.notify(near)
    assert not device.read(), "a port that was read stays disabled"
    device.enable((far,))
    assert list(device.read()) == [far], "one event is kept meanwhile"
    device.enable((far, NO_PORT, near))
    assert not device.read(), "ports unknown or enabled already are accepted in silence"
    device.notify(far)
    assert list(device.read()) == [near]


def many(device: EventDevice) -> None:
    fars = []
    for _ in range(1100):
        near = device.bind_unbound_port(0)
        fars.append(device.bind_interdomain(0, near))
    reads = [len(device.read()) for _ in range(3)]
    assert reads == [1024, 76, 0], f"a page of ports a read, got {reads}"


def foreign(device: EventDevice) -> None:
    with EventDevice() as other:
        port = other.bind_unbound_port(0)
        refused(errno.ENOTCONN, device.notify, port)
        refused(errno.ENOTCONN, device.unbind, port)


def restricted(device: EventDevice) -> None:
    near = device.bind_unbound_port(0)
    for domid in (0, 0x7FF0):
        refused(errno.EINVAL, device.restrict_domid, domid)
    device.restrict_domid(NOBODY)
    refused(errno.EACCES, device.restrict_domid, 7)
    refused(errno.EACCES, device.bind_virq, Virq.DEBUG)
    refused(errno.EACCES, device.bind_unbound_port, 7)
    refused(errno.ESRCH, device.bind_interdomain, NOBODY, 1)
    error = refused(errno.EACCES, device.bind_interdomain, 0, near)
    assert "RESTRICT_DOMID" in str(error)
    device.notify(near)  # what was bound before stays bound


def overflow(device: EventDevice) -> None:
    """64 entries fit while few ports are bound; unbinding leaves them there."""
    near = device.bind_unbound_port(0)
    for _ in range(64):
        device.unbind(device.bind_interdomain(0, near))
    poll = select.poll()
    poll.register(device, select.POLLIN)
    assert poll.poll(0)[0][1] == select.POLLIN
    far = device.bind_interdomain(0, near)
    assert poll.poll(0)[0][1] == select.POLLERR, "poll says POLLERR alone after an overflow"
    refused(errno.EFBIG, device.read)
    device.reset()
    assert not device.read(), "the event is lost"
    device.enable((near, far))
    device.notify(near)
    assert list(device.read()) == [far], "and the port works again"


def recovery(device: EventDevice) -> None:
    """After an overflow the lower half reports every port, and each works again."""
    lower = LinuxLowerHalf(0, "dom0", device, LinuxGrantTable(0, "PV"))
    near = lower.alloc_unbound(0)
    far = lower.bind_interdomain(0, near)
    stray = device.bind_unbound_port(0)
    for _ in range(64):
        device.unbind(device.bind_interdomain(0, stray))
    refused(errno.EFBIG, device.read)
    assert lower.block(None) == []
    fired = lower.demux()
    assert {near, far} <= set(fired), f"only {fired} after an overflow"
    lower.unmask(fired)
    lower.poll()
    lower.unmask(lower.demux())
    lower.poll()
    device.notify(near)
    lower.block(None)
    assert list(lower.demux()) == [far], "fires as before"
    lower.close()


def sharing(device: EventDevice) -> None:
    """Granting, mapping and unmapping, with the notifications at the end."""
    near, far = pair(device)
    table = LinuxGrantTable(0, "PV")
    shared = table.share(0, 2, True)
    assert shared.memory == bytes(8192), "fresh pages are zeroed"
    mapped = table.map(0, shared.refs, True)
    shared.memory[4097] = 9
    assert mapped.memory[4097] == 9
    found = table.device.get_offset_for_vaddr(address_of(mapped.memory))
    assert found == (0, 2), f"the first mapping has index 0, got {found}"
    refused(errno.EINVAL, lambda: mapped.notify_on_close(port=NO_PORT))
    mapped.notify_on_close(clear_byte=4097, port=near)
    window = mapped.memory[:10]
    try:
        mapped.close()
    except BufferError:
        window.release()
    else:
        raise AssertionError("pages were unmapped under a living view")
    mapped.close()
    assert shared.memory[4097] == 0, "the byte is cleared"
    assert list(device.read()) == [far], "the event is sent"
    readonly = table.map(0, shared.refs[:1], False)
    assert readonly.memory.readonly
    refused(errno.EINVAL, lambda: readonly.notify_on_close(clear_byte=0))
    shared.notify_on_close(port=far)
    shared.close()
    assert list(device.read()) == [near], "closing goes on while the peer still maps"
    readonly.close()
    table.close()


def bad_grants(device: EventDevice) -> None:
    table = LinuxGrantTable(0, "PV")
    error = refused(errno.EINVAL, table.map, 0, [NO_REF], True)
    assert str(NO_REF) in str(error)
    assert "domain 0" in str(error)
    refused(errno.EINVAL, table.map, NOBODY, [8], True)
    for_reading = table.share(0, 1, False)
    refused(errno.EINVAL, table.map, 0, for_reading.refs, True)
    table.map(0, for_reading.refs, False)
    with GrantDevice() as other:
        refused(errno.ENOTTY, other.set_max_grants, 5)
        index = other.map(0, for_reading.refs)
        other.unmap(index, 1)
        refused(errno.ENOENT, other.unmap, index, 1)
        refused(errno.ENOENT, other.unmap_notify, 0x999000, 1, 0)
    with GrantAllocator() as allocator:
        refused(errno.ENOENT, allocator.unmap_notify, 0x999000, 1, 0)
        refused(errno.EINVAL, allocator.dealloc, 0x999000, 1)
    error = refused(errno.ENOSPC, lambda: [table.share(0, 10, True) for _ in range(200)])
    assert "/sys/module/xen_gntalloc/parameters/limit" in str(error)
    table.close()


CHECKS = (
    *(binding, virqs, events, many, foreign, restricted, overflow, recovery),
    *(sharing, bad_grants),
)


async def reused(xen: activations.Domain) -> None:
    """A number used again starts clean, although its last owner's entry was in the ring."""
    with xen.events.alloc_unbound(0) as near:
        far = xen.events.bind_interdomain(0, near.number)
        far.close()
        with xen.events.alloc_unbound(0) as again:
            assert again.number == far.number, "the lowest free number is handed out"
            await turns()
            assert again.statistics().fired == 0


async def masked(xen: activations.Domain) -> None:
    """Ten events while masked are one event after the unmask."""
    near = xen.events.alloc_unbound(0)
    far = xen.events.bind_interdomain(0, near.number)
    with near, far:
        await far.wait()
        far.mask()
        for _ in range(10):
            near.notify()
            await turns()
        assert far.statistics().fired == 1, "masked"
        far.unmask()
        await far.wait()
        await turns()
        assert far.statistics().fired == 2, "exactly one"
        near.notify()
        await far.wait()


async def bursts(xen: activations.Domain) -> None:
    """A burst is one event; two from an enabled port, where the device takes the first at once
    and Xen keeps another. A port that fired is enabled no sooner than the next idle step."""
    near = xen.events.alloc_unbound(0)
    far = xen.events.bind_interdomain(0, near.number)
    with near, far:
        await far.wait()
        for enabled, deliveries in ((False, 1), (True, 2)):
            if enabled:
                await turns()
            before = far.statistics().fired
            for _ in range(10):
                near.notify()
            await far.wait()
            await turns()
            seen = far.statistics().fired - before
            assert seen == deliveries, f"{seen} deliveries, {enabled=}"


async def turns() -> None:
    """Long enough for an event to arrive, if there is one."""
    await asyncio.sleep(0.005)


@scenario.domain("dom0")
async def dom0(xen: activations.Domain) -> list[str]:
    """Every check on a device of its own; the names of those that passed."""
    here = identify()
    assert here.guest_type == "PV", f"these checks need a PV dom0, not {here.guest_type}"
    assert read_now("/local/domain/0/nonesuch") is None
    passed = []
    for check in CHECKS:
        with EventDevice() as device:
            check(device)
        passed.append(check.__name__)
    for rule in (reused, masked, bursts):
        await rule(xen)
        passed.append(rule.__name__)
    return passed
