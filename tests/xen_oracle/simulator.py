"""The simulator as a World.

A vCPU makes a hypercall that may sleep on a greenlet of its own, and the scheduler, which is the
only one who knows who sleeps, hands control back here when it does. No guest runs: interrupts that
are due stay due.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from errno import EINVAL
from typing import Any

from greenlet import getcurrent, greenlet

from activations.abi.event_channel import NR_VIRQS, PER_VCPU_VIRQS
from activations.errors import XenError
from xen_sim.hardware.cpu import Unconnected
from xen_sim.hardware.memory import Frame
from xen_sim.schedule.scheduler import Fiber, Scheduler
from xen_sim.xen.delivery import Callback, Delivery, PvUpcall, UpcallVector
from xen_sim.xen.domain import XenDomain
from xen_sim.xen.hypercall import Hypercalls
from xen_sim.xen.hypervisor import Hypervisor
from xen_sim.xen.vcpu import VCPU

from .program import Kind
from .world import ASLEEP, Buffer, Domain

LACKS = frozenset({Kind.LISTEN, Kind.NOTIFY, Kind.SILENCE, Kind.PAUSE, Kind.UNPAUSE})
"""Kinds of steps that it has not (docs/truth.md says why)."""
VECTOR = 32


class Simulated:
    """Domains of a simulated machine, with nothing running on them."""

    explored = False

    def __init__(self, domains: Sequence[Domain], frames: int) -> None:
        xen = self._xen = Hypervisor(explored=self.explored)
        self._scheduler = xen.scheduler = _Scheduler(xen.scheduler)
        self._signals = array("I", bytes(12 * sum(domain.vcpus for domain in domains)))
        self._domains: list[XenDomain] = []
        self._hypercalls: list[list[Hypercalls]] = []
        self._handlers: dict[int, int] = {}
        """Domains by the global VIRQ they handle: the simulator has nobody who asks for one."""
        at = 0
        for number, (vcpus, highest, delivery) in enumerate(domains):
            domain = XenDomain(
                xen, number, f"dom{number}", vcpus=vcpus, max_ports=highest, pv=delivery == "pv"
            )
            xen.domains[number] = domain
            domain.frames = {frame: Frame(frame) for frame in range(frames)}
            for vcpu in domain.vcpus:
                vcpu.deliver_by(_DELIVERIES[delivery](vcpu))
                vcpu.cpu.line = Unconnected()  # it is told, and takes no interrupt by itself
                _count_upcalls(vcpu, self._signals, at)
                self._scheduler.watched[vcpu.cpu] = (self._signals, at + 2)
                at += 3
            self._domains.append(domain)
            self._hypercalls.append([Hypercalls(vcpu) for vcpu in domain.vcpus])
        for domain in self._domains:
            for vcpu in domain.vcpus:
                self.acknowledge(domain.domid, vcpu.number)
                self.interrupts(domain.domid, vcpu.number, False)

    def __del__(self) -> None:
        """Who sleeps still is ended before any of this is taken apart: a garbage collection says
        not in which order it does that, and from Python 3.15 on domains may go before sleepers."""
        self._scheduler.end()

    @property
    def signals(self) -> Sequence[int]:
        return self._signals

    def memory(self, domain: int) -> Sequence[Buffer]:
        of = self._domains[domain]
        return [of.shared_info.bytes, *(frame.bytes for frame in of.frames.values())]

    # Hypercalls

    def event_channel_op(self, domain: int, vcpu: int, command: int, argument: bytearray) -> int:
        try:
            self._hypercalls[domain][vcpu].event_channel_op(command, argument)
        except XenError as error:
            return _result(error)
        finally:
            self._scheduler.resume()
        return 0

    def poll(self, domain: int, vcpu: int, ports: Sequence[int]) -> int:
        return self._may_sleep(lambda: self._hypercalls[domain][vcpu].poll(ports))

    def block(self, domain: int, vcpu: int) -> int:
        return self._may_sleep(self._hypercalls[domain][vcpu].block)

    def _may_sleep(self, hypercall: Callable[[], None]) -> int:
        result: list[int] = []

        def make() -> None:
            try:
                hypercall()
            except XenError as error:
                result.append(_result(error))
            else:
                result.append(0)

        greenlet(make).switch()
        return result[0] if result else ASLEEP

    # Processors

    def interrupts(self, domain: int, vcpu: int, enabled: bool) -> None:
        of = self._domains[domain]
        of.vcpus[vcpu].cpu.interrupts = enabled or of.pv

    def acknowledge(self, domain: int, vcpu: int) -> None:
        cpu = self._domains[domain].vcpus[vcpu].cpu
        cpu.apic.irr = cpu.apic.isr = 0
        cpu.due = False

    def wake(self, domain: int, vcpu: int) -> None:
        self._scheduler.wake(self._domains[domain].vcpus[vcpu].cpu)
        self._scheduler.resume()

    # Xen's own business

    def raise_virq(self, domain: int, vcpu: int, virq: int) -> None:
        channels = self._domains[domain].event_channels
        channels.raise_virq(virq, vcpu if virq in PER_VCPU_VIRQS else 0)
        self._scheduler.resume()

    def raise_global_virq(self, virq: int) -> None:
        self.raise_virq(self._handlers.get(virq, 0), 0, virq)

    def handle_virq(self, domain: int, virq: int) -> int:
        if virq >= NR_VIRQS or virq in PER_VCPU_VIRQS:
            return -EINVAL
        self._handlers[virq] = domain
        return 0

    def raise_pirq(self, domain: int, pirq: int) -> None:
        channels = self._domains[domain].event_channels
        if port := channels._pirqs.get(pirq):
            channels.raise_port(port)
            self._scheduler.resume()

    def listen(self, domain: int, vcpu: int, remote: int) -> int:
        raise NotImplementedError

    def notify(self, domain: int, port: int) -> None:
        raise NotImplementedError

    def silence(self, domain: int, port: int) -> None:
        raise NotImplementedError

    def pause(self, domain: int) -> None:
        raise NotImplementedError

    def unpause(self, domain: int) -> None:
        raise NotImplementedError

    def suspend(self, domain: int) -> None:
        self._leave(domain)
        self._domains[domain].suspend()

    def destroy(self, domain: int) -> None:
        self._leave(domain)
        self._domains[domain].release()
        del self._xen.domains[domain]

    def _leave(self, domain: int) -> None:
        self._handlers = {virq: of for virq, of in self._handlers.items() if of != domain}
        for vcpu in self._domains[domain].vcpus:
            self._scheduler.wake(vcpu.cpu)
        self._scheduler.resume()


class Explored(Simulated):
    """A machine whose every step could be preempted, as nobody wants to here: its lines are the
    readable ones, and a plain machine's two-level ABI has others of its own."""

    explored = True


class _Scheduler(Scheduler):
    """Who waits gives control back to whoever had it; who is woken goes on when Xen is done."""

    def __init__(self, before: Scheduler) -> None:
        super().__init__(before._clock, None)
        self.watched: dict[Fiber, tuple[array[int], int]] = {}
        self._woken: list[Fiber] = []

    def wait(self, fiber: Fiber) -> None:
        signals, at = self.watched[fiber]
        fiber.asleep = True
        signals[at] = 1
        fiber.greenlet = getcurrent()
        parent = fiber.greenlet.parent
        assert parent
        parent.switch()

    def give_way(self, fiber: Fiber) -> None:
        """There is nobody else."""

    def wake(self, fiber: Fiber) -> None:
        if fiber.asleep:
            fiber.asleep = False
            signals, at = self.watched[fiber]
            signals[at] = 0
            self._woken.append(fiber)

    def end(self) -> None:
        for fiber in self.watched:
            if fiber.asleep:
                fiber.greenlet.parent = getcurrent()
                fiber.greenlet.throw()

    def resume(self) -> None:
        """Whoever was woken ends its hypercall."""
        while self._woken:
            self._woken.pop().greenlet.switch()


def _result(error: XenError) -> int:
    assert error.errno
    return -error.errno


def _count_upcalls(vcpu: VCPU, signals: array[int], at: int) -> None:
    """Count each time that the vCPU is told."""
    announce: Any = vcpu.delivery.announce

    def count_and_announce() -> None:
        signals[at] += 1
        announce()

    vcpu.delivery.announce = count_and_announce  # type: ignore[method-assign]


def _handler() -> None:
    raise AssertionError("no guest runs here")


_DELIVERIES: dict[str, Callable[[VCPU], Delivery]] = {
    "vector": lambda vcpu: UpcallVector(vcpu.delivery, VECTOR),
    "callback": lambda vcpu: Callback(vcpu.delivery, VECTOR),
    "pv": lambda vcpu: PvUpcall(vcpu.delivery, _handler),
}
