"""The Linux lower half on a stand-in for the event device: no Xen needed."""

import asyncio
import os
import socket
import time

import pytest
from support.linux_fakes import FakeEventDevice
from support.pace import patience

from activations import EventLoop, PortClosed
from xen_linux import guess
from xen_linux.grants import LinuxGrantTable
from xen_linux.lower import LinuxLowerHalf


@pytest.fixture
def device():
    return FakeEventDevice()


@pytest.fixture
def lower(device):
    half = LinuxLowerHalf(3, "guest", device, LinuxGrantTable(3, "PVH"))
    yield half
    half.close()


def turn(lower):
    """One idle step, without waiting; the ports that fired."""
    lower.poll()
    taken = lower.demux()
    fired = list(taken)
    lower.unmask(taken)
    return fired


def run(device, main):
    """Run `main(xen, device)` on a loop over the stand-in."""
    half = LinuxLowerHalf(3, "guest", device, LinuxGrantTable(3, "PVH"))
    with asyncio.Runner(loop_factory=lambda: EventLoop(half)) as runner:
        return runner.run(main(runner.get_loop().domain, device))


# Events


def test_a_port_fires_once_for_each_event(lower, device):
    port = lower.alloc_unbound(0)
    for _ in range(3):
        device.fire(port)
        assert turn(lower) == [port]
        assert turn(lower) == []


def test_events_before_the_idle_step_coalesce(lower, device):
    port = lower.alloc_unbound(0)
    device.fire(port)
    assert turn(lower) == [port]
    device.fire(port)
    device.fire(port)
    assert turn(lower) == [port]
    assert turn(lower) == []


def test_the_binding_side_fires_once_at_once(lower):
    port = lower.bind_interdomain(0, 7)
    assert turn(lower) == [port]
    assert turn(lower) == []


def test_all_fired_ports_take_one_read_and_one_write(lower, device):
    ports = [lower.alloc_unbound(0) for _ in range(1024)]
    device.fire(*ports)
    device.calls.clear()
    assert turn(lower) == ports
    lower.poll()
    assert device.calls == ["read", "write"]


def test_more_ports_than_a_read_takes_come_in_the_next_turn(lower, device):
    ports = [lower.alloc_unbound(0) for _ in range(1500)]
    device.fire(*ports)
    assert [len(turn(lower)) for _ in range(3)] == [1024, 476, 0]


def test_ports_nobody_bound_are_ignored(lower, device):
    device.enabled[999] = True
    device.fire(999)
    assert turn(lower) == []


def test_notify_goes_to_the_device(lower, device):
    lower.notify(5)
    assert device.sent == [5]


# Masking


def test_what_came_while_masked_fires_once_at_the_unmask(lower, device):
    port = lower.alloc_unbound(0)
    lower.mask(port)
    for _ in range(10):
        device.fire(port)
    assert turn(lower) == []
    lower.unmask([port])
    assert turn(lower) == [port]
    assert turn(lower) == []
    device.fire(port)
    assert turn(lower) == [port]


def test_an_event_read_but_not_reported_can_still_be_masked(lower, device):
    kept, closed = lower.alloc_unbound(0), lower.alloc_unbound(0)
    device.fire(kept)
    lower.close_port(closed)  # empties the ring
    lower.mask(kept)
    assert turn(lower) == []
    lower.unmask([kept])
    assert turn(lower) == [kept]


def test_unmasking_a_quiet_port_fires_nothing(lower, device):
    port = lower.alloc_unbound(0)
    lower.mask(port)
    lower.unmask([port])
    assert turn(lower) == []
    device.fire(port)
    assert turn(lower) == [port]


def test_a_masked_port_holds_no_other_back(lower, device):
    masked, other = lower.alloc_unbound(0), lower.alloc_unbound(0)
    lower.mask(masked)
    device.fire(masked, other)
    assert turn(lower) == [other]


# Numbers used again


def test_a_reused_number_starts_clean(lower, device):
    port = lower.alloc_unbound(0)
    device.fire(port)
    lower.close_port(port)
    assert lower.alloc_unbound(0) == port
    assert turn(lower) == []


def test_a_reused_number_starts_clean_after_being_masked(lower, device):
    port = lower.alloc_unbound(0)
    lower.mask(port)
    device.fire(port)
    turn(lower)
    lower.close_port(port)
    assert lower.alloc_unbound(0) == port
    device.fire(port)
    assert turn(lower) == [port]


def test_closing_one_port_loses_no_event_of_another(lower, device):
    gone, kept = lower.alloc_unbound(0), lower.alloc_unbound(0)
    device.fire(kept, gone)
    lower.close_port(gone)
    assert lower.block(None) == []  # must not block: an event is at hand
    assert list(lower.demux()) == [kept]


# Overflow


def test_after_an_overflow_every_port_is_reported_and_works_again():
    device = FakeEventDevice(ring_size=2)
    lower = LinuxLowerHalf(3, "guest", device, LinuxGrantTable(3, "PVH"))
    ports = [lower.alloc_unbound(0) for _ in range(4)]
    lower.mask(ports[3])
    device.fire(*ports[:3])
    assert device.overflowed
    assert turn(lower) == ports[:3]
    lower.unmask([ports[3]])
    assert turn(lower) == [ports[3]]  # perhaps it fired: held, as any masked port's event
    for port in ports:
        device.fire(port)
        assert turn(lower) == [port]
    lower.close()


# Time, and descriptors


def test_block_ends_at_the_deadline_and_not_before(lower):
    deadline = lower.time_ns() + 20_000_000
    while lower.time_ns() < deadline:
        began = time.process_time()
        assert lower.block(deadline) == []
        assert time.process_time() - began < 0.015
    assert lower.time_ns() - deadline < 1_000_000_000


def test_a_deadline_in_the_past_does_not_block(lower):
    assert lower.block(0) == []


@pytest.mark.parametrize("demuxed", [False, True])
def test_what_a_block_has_read_does_not_sleep_until_it_is_unmasked(lower, device, demuxed):
    """As where a signal handler's exception breaks the turn off before that."""
    port = lower.alloc_unbound(0)
    device.fire(port)
    deadline = time.monotonic_ns() + round(patience(5) * 1e9)
    lower.block(deadline)
    if demuxed:
        assert lower.demux() == [port]
    lower.block(deadline)
    assert time.monotonic_ns() < deadline
    assert lower.demux() == [port]


def test_a_descriptor_ends_a_block_and_is_shown_as_a_key(lower):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        key = lower.descriptors.register(ours, 1, "data")
        assert lower.poll() == []
        theirs.send(b"x")
        assert lower.block(None) == [(key, 1)]
        lower.descriptors.unregister(ours)


def test_the_event_device_is_none_of_asyncios_keys(lower):
    assert len(lower.descriptors.get_map()) == 0


def test_busy_ports_do_not_keep_descriptors_waiting(lower, device):
    port = lower.alloc_unbound(0)
    readable, writable = os.pipe()
    key = lower.descriptors.register(readable, 1)
    os.write(writable, b"x")
    turns = []
    for _ in range(guess.TURNS_WITHOUT_EPOLL + 1):
        device.fire(port)
        turns.append(lower.block(None))
        taken = lower.demux()
        assert list(taken) == [port]
        lower.unmask(taken)
    assert [(key, 1)] in turns
    os.close(readable)
    os.close(writable)


def test_a_loop_whose_events_come_slowly_seldom_reads_in_vain():
    slow = guess.Guess()
    tried = 0
    for _ in range(1000):
        if slow.worth_it():
            tried += 1
            slow.was(False)
    assert tried < 25


def test_close_unbinds_everything_and_may_be_called_twice(lower, device):
    for _ in range(3):
        lower.alloc_unbound(0)
    lower.close()
    assert device.ports == []
    lower.close()


# Through the loop


def test_coroutines_wait_for_ports_and_descriptors_and_timers_alike(device):
    async def main(xen, device):
        with xen.events.alloc_unbound(0) as port:
            xen.loop.call_later(0.01, device.fire, port.number)
            await port.wait()
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                xen.loop.call_soon(theirs.send, b"hello")
                assert await xen.loop.sock_recv(ours, 10) == b"hello"
        return port.statistics().fired

    assert run(device, main) == 1


def test_a_thread_wakes_the_loop(device):
    async def main(xen, device):
        with xen.events.alloc_unbound(0) as port:
            await asyncio.to_thread(device.fire, port.number)
            await port.wait()

    run(device, main)


def test_closing_a_port_wakes_who_waits_for_it(device):
    async def main(xen, device):
        port = xen.events.alloc_unbound(0)
        waiting = asyncio.create_task(port.wait())
        await asyncio.sleep(0)
        port.close()
        with pytest.raises(PortClosed):
            await waiting

    run(device, main)


def test_a_port_that_fires_all_the_time_starves_nobody(device):
    async def main(xen, device):
        with xen.events.alloc_unbound(0) as busy, xen.events.alloc_unbound(0) as quiet:

            async def storm():
                while True:
                    device.fire(busy.number)
                    await busy.wait()

            storming = asyncio.create_task(storm())
            while busy.statistics().fired < 10:
                await asyncio.sleep(0)
            device.fire(quiet.number)
            async with asyncio.timeout(patience(5)):
                await quiet.wait()
                assert await asyncio.to_thread(lambda: "done") == "done"
            storming.cancel()

    run(device, main)
