"""What holds of event channels on a simulated Xen and on a real one alike."""

from __future__ import annotations

import asyncio
import errno
from contextlib import ExitStack

from patience import patience
from rule import loopback, rule

from activations import PROGRAM_START, Domain, Port, PortClosed, Scenario, XenError
from activations.abi.event_channel import NR_VIRQS, Virq


async def nothing_comes(port: Port) -> bool:
    """Whether no event comes within a while."""
    try:
        async with asyncio.timeout(0.2):
            await port.wait()
    except TimeoutError:
        return True
    return False


def refusal(operation: object, *args: object) -> int:
    """The errno with which an operation is refused; 0 if it is not."""
    try:
        port = operation(*args)  # type: ignore[operator]
    except XenError as error:
        return error.errno or 0
    if isinstance(port, Port):
        port.close()
    return 0


@rule
async def an_event_before_the_wait_is_kept(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near, far:
        far.notify()
        await asyncio.sleep(0.1)  # nobody waits
        await asyncio.wait_for(near.wait(), patience(5))


@rule
async def a_burst_is_delivered_once_or_twice(xen: Domain) -> None:
    """Xen keeps one event for a port; Linux's device may have taken another one before."""
    near, far = await loopback(xen)
    with near, far:
        for _ in range(10):
            far.notify()
        await asyncio.wait_for(near.wait(), patience(5))
        if not await nothing_comes(near):
            assert await nothing_comes(near)
        assert near.statistics().fired <= 2


@rule
async def an_event_reaches_every_waiter(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near, far:
        async with asyncio.timeout(patience(5)), asyncio.TaskGroup() as group:
            waiters = [group.create_task(near.wait()) for _ in range(5)]
            await asyncio.sleep(0.05)
            far.notify()
        assert {waiter.result() for waiter in waiters} == {1}


@rule
async def independent_waiters_count_for_themselves(xen: Domain) -> None:
    """Each passes the event it last saw: none can take an event from another."""
    near, far = await loopback(xen)
    with near, far:
        far.notify()
        first = await asyncio.wait_for(near.after(PROGRAM_START), patience(5))
        assert await asyncio.wait_for(near.after(PROGRAM_START), patience(5)) == first
        far.notify()
        assert await asyncio.wait_for(near.after(first), patience(5)) > first


@rule
async def cancelling_a_wait_leaves_the_event_for_the_next(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near, far:
        waiter = asyncio.create_task(near.wait())
        await asyncio.sleep(0.05)
        far.notify()
        waiter.cancel()
        await asyncio.gather(waiter, return_exceptions=True)
        await asyncio.wait_for(near.wait(), patience(5))


@rule
async def who_begins_to_wait_while_another_is_cancelled_is_not_woken_for_it(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near, far:
        first = asyncio.create_task(near.wait())
        await asyncio.sleep(0.05)
        first.cancel()
        second = asyncio.create_task(near.wait())
        await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert first.cancelled()
        assert not second.done()
        far.notify()
        await asyncio.wait_for(second, patience(5))


@rule
async def who_begins_to_wait_in_the_turn_of_an_event_waits_for_the_next(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near, far:
        first = asyncio.create_task(near.wait())

        async def wait_again() -> asyncio.Task[int]:
            await near.after(near.statistics().fired)
            second = asyncio.create_task(near.wait())
            first.cancel()  # too late: it has had its event
            return second

        meddling = asyncio.create_task(wait_again())
        await asyncio.sleep(0.05)
        far.notify()
        second = await asyncio.wait_for(meddling, patience(5))
        await asyncio.sleep(0.05)
        assert (first.done(), first.cancelled(), second.done()) == (True, False, False)
        far.notify()
        await asyncio.wait_for(second, patience(5))


@rule
async def a_masked_port_holds_back_and_then_fires_once(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near, far:
        near.mask()
        for _ in range(10):
            far.notify()
        assert await nothing_comes(near)
        near.unmask()
        await asyncio.wait_for(near.wait(), patience(5))
        assert await nothing_comes(near)


@rule
async def the_side_that_binds_gets_one_event_by_binding(xen: Domain) -> None:
    with (
        xen.events.alloc_unbound(xen.domid) as near,
        xen.events.bind_interdomain(xen.domid, near.number) as far,
    ):
        await asyncio.wait_for(far.wait(), patience(5))
        assert await nothing_comes(far)
        assert await nothing_comes(near)


@rule
async def a_notify_to_nobody_is_no_error(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near:
        far.close()
        near.notify()


@rule
async def a_port_whose_peer_went_can_be_bound_again(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near:
        far.close()
        with xen.events.bind_interdomain(xen.domid, near.number) as again:
            again.notify()
            await asyncio.wait_for(near.wait(), patience(5))


@rule
async def a_closed_port_wakes_its_waiter_with_an_error(xen: Domain) -> None:
    with xen.events.alloc_unbound(xen.domid) as port:
        waiter = asyncio.create_task(port.wait())
        await asyncio.sleep(0.05)
    [outcome] = await asyncio.gather(waiter, return_exceptions=True)
    assert isinstance(outcome, PortClosed)


@rule
async def a_number_used_again_starts_clean(xen: Domain) -> None:
    near, far = await loopback(xen)
    far.notify()
    near.close()
    far.close()
    with xen.events.alloc_unbound(xen.domid) as again:
        assert await nothing_comes(again)
        assert again.statistics().fired == 0


@rule
async def xen_refuses_what_cannot_be_bound(xen: Domain) -> None:
    bind, virq = xen.events.bind_interdomain, xen.events.bind_virq
    assert refusal(bind, xen.domid, 1023) == errno.EINVAL, "a port that is free"
    assert refusal(bind, 1234, 1) == errno.ESRCH, "no such domain"
    near, far = await loopback(xen)
    with near, far:
        assert refusal(bind, xen.domid, near.number) == errno.EINVAL, "a port that is taken"
    assert refusal(virq, NR_VIRQS) == errno.EINVAL, "no such virq"
    assert refusal(virq, Virq.TIMER) == errno.EEXIST, "the timer is the system's own"
    assert refusal(xen.events.alloc_unbound, 1234) == 0, "a domain that is still to come"


@rule
async def a_virq_binds_once(xen: Domain) -> None:
    with xen.events.bind_virq(Virq.DEBUG):
        assert refusal(xen.events.bind_virq, Virq.DEBUG) == errno.EEXIST
    assert refusal(xen.events.bind_virq, Virq.DEBUG) == 0


@rule
async def a_busy_port_starves_neither_another_nor_a_timer(xen: Domain) -> None:
    busy, echo = await loopback(xen)
    quiet, bell = await loopback(xen)
    with busy, echo, quiet, bell:

        async def answer(port: Port) -> None:
            async for _ in port:
                port.notify()

        async with asyncio.timeout(patience(20)), asyncio.TaskGroup() as group:
            storm = [group.create_task(answer(port)) for port in (busy, echo)]
            busy.notify()
            for _ in range(3):
                await asyncio.sleep(0.05)
                bell.notify()
                await quiet.wait()
            for task in storm:
                task.cancel()
        assert busy.statistics().fired > 10


@rule
async def hundreds_of_ports_fire_in_one_turn_and_none_is_missed(xen: Domain) -> None:
    with ExitStack() as ports:
        pairs = []
        for _ in range(300):
            near, far = await loopback(xen)
            ports.enter_context(near)
            ports.enter_context(far)
            pairs.append((near, far))
        for _, far in pairs:
            far.notify()
        async with asyncio.timeout(patience(20)):
            for near, _ in pairs:
                await near.wait()


pingpong = Scenario("two_domains_ping_and_pong")
ROUNDS = 20


@pingpong.domain("dom0")
async def server(xen: Domain) -> int:
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/data/port", str(port.number))
        for _ in range(ROUNDS):
            await port.wait()
            port.notify()
        return port.statistics().woken + port.statistics().coalesced


@pingpong.domain("guest")
async def client(xen: Domain) -> int:
    with xen.events.bind_interdomain(0, int(await xen.store.wait_for("data/port"))) as port:
        await port.wait()  # binding's own event
        for _ in range(ROUNDS):
            port.notify()
            await port.wait()
        return port.statistics().fired


stranger = Scenario("a_port_is_for_the_domain_it_was_allocated_for")


@stranger.domain("dom0")
async def owner(xen: Domain) -> None:
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest + 1) as port:
        await xen.store.write(f"/local/domain/{guest}/data/port", str(port.number))
        await xen.store.wait_for(f"/local/domain/{guest}/data/refused")


@stranger.domain("guest")
async def intruder(xen: Domain) -> None:
    number = int(await xen.store.wait_for("data/port"))
    refused = refusal(xen.events.bind_interdomain, 0, number)
    await xen.store.write("data/refused", str(refused))
    assert refused == errno.EINVAL
