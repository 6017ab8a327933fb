"""A Linux domain that was saved and restored has lost its ports, and its programs are told."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest
from support.linux_fakes import FakeEventDevice, FakeResumes
from support.pace import patience

from activations import Domain, EventLoop, GenerationEnded, PortClosed, XenError
from activations.abi.event_channel import DOMID_SELF
from activations.abi.xs_wire import MessageType
from activations.backend import new_generation
from activations.store import StoreClosed
from activations.store.wire import Decoder, Message
from xen_linux import resume, store
from xen_linux.evtchn import EventDevice
from xen_linux.grants import LinuxGrantTable
from xen_linux.identity import Identity
from xen_linux.lower import LinuxLowerHalf
from xen_linux.resume import Resumes

RESTORED = 8


class Guest:
    """A domain on stand-ins, whose domid is another one after a resume."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.device = FakeEventDevice()
        self.resumes = FakeResumes()
        self.lower = LinuxLowerHalf(
            3, "guest", self.device, LinuxGrantTable(3, "PVH"), self.resumes
        )
        restored = Identity(RESTORED, "guest", "PVH")
        monkeypatch.setattr("xen_linux.lower.identify", lambda: restored)
        self.xenstored: list[socket.socket] = []
        monkeypatch.setattr("xen_linux.lower.open_connection", self._connect)

    def _connect(self) -> store.DescriptorConnection:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.xenstored.append(theirs)
        return store.DescriptorConnection(ours.detach())

    def close(self) -> None:
        self.lower.close()
        for end in self.xenstored:
            end.close()

    def run(self, main: Callable[[Domain], Awaitable[None]]) -> None:
        def make() -> EventLoop:
            loop = EventLoop(self.lower)
            self.lower.resumed = partial(new_generation, loop)
            return loop

        async def bounded(xen: Domain) -> None:
            async with asyncio.timeout(patience(30)):
                await main(xen)

        with asyncio.Runner(loop_factory=make) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, EventLoop)
            runner.run(bounded(loop.domain))


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    guest = Guest(monkeypatch)
    yield guest
    guest.close()


def test_whoever_waits_for_an_event_is_told_that_the_generation_ended(guest: Guest) -> None:
    async def main(xen: Domain) -> None:
        port = xen.events.alloc_unbound(0)
        waiting = asyncio.create_task(port.wait())
        await asyncio.sleep(0)
        guest.resumes.resume()
        with pytest.raises(GenerationEnded):
            await waiting
        assert (xen.generation, xen.domid) == (1, RESTORED)
        port.close()  # no more than it does in any other generation

    guest.run(main)
    assert guest.device.abandoned


def test_whoever_asks_the_store_is_told_and_the_store_connects_anew(guest: Guest) -> None:
    async def main(xen: Domain) -> None:
        before = xen.store
        asking = asyncio.create_task(before.read("name"))
        await asyncio.sleep(0)
        guest.resumes.resume()
        with pytest.raises(StoreClosed, match="suspended"):
            await asking
        assert xen.store is not before
        assert len(guest.xenstored) == 2
        assert guest.xenstored[0].recv(1000)  # the request
        assert guest.xenstored[0].recv(1000) == b""  # the end

    guest.run(main)


def test_a_new_generation_has_its_own_device_and_its_own_ports(guest: Guest) -> None:
    async def main(xen: Domain) -> None:
        old = xen.events.alloc_unbound(0)
        guest.resumes.resume()
        with pytest.raises(GenerationEnded):
            await old.wait()
        new = xen.events.alloc_unbound(0)
        assert new.number == old.number
        device = guest.lower._events
        assert isinstance(device, FakeEventDevice)
        assert device is not guest.device
        device.fire(new.number)
        assert await new.wait() == 1
        new.close()

    guest.run(main)


@pytest.mark.parametrize("bind", ["alloc_unbound", "bind_interdomain", "bind_virq"])
def test_what_is_bound_before_the_word_has_come_belongs_to_the_new_generation(
    guest: Guest, bind: str
) -> None:
    arguments = {"alloc_unbound": (0,), "bind_interdomain": (0, 4), "bind_virq": (1,)}[bind]

    async def main(xen: Domain) -> None:
        old = xen.events.alloc_unbound(0)
        guest.resumes.resume(quietly=True)
        with getattr(xen.events, bind)(*arguments) as new:
            assert old.closed
            assert not new.closed
            assert xen.generation == 1

    guest.run(main)


def test_a_port_that_went_with_the_suspend_is_not_unbound(guest: Guest) -> None:
    """The driver would stop at a BUG."""
    unbound = []

    async def main(xen: Domain) -> None:
        port = xen.events.alloc_unbound(0)
        guest.device.unbind = unbound.append  # type: ignore[method-assign]
        guest.resumes.resume(quietly=True)
        port.close()
        with pytest.raises(PortClosed):
            await port.wait()

    guest.run(main)
    assert unbound == []
    assert guest.device.abandoned


def test_a_program_that_ends_before_the_word_has_come_unbinds_nothing(guest: Guest) -> None:
    unbound = []
    guest.lower.alloc_unbound(0)
    guest.device.unbind = unbound.append  # type: ignore[method-assign]
    guest.resumes.resume(quietly=True)
    guest.lower.close()
    guest.lower.close()
    assert unbound == []


# The word


class Kernel:
    """Of /dev/xen/xenbus, as much as a watch needs: each open file is a socket's end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files: list[socket.socket] = []
        self.lag = 0.0
        self.on_watch: Callable[[], None] = lambda: None
        monkeypatch.setattr(store, "open_device", self._open)
        monkeypatch.setattr(os, "write", self._write)
        monkeypatch.setattr(resume, "_suspended", lambda: self.lag)

    def _open(self, path: str) -> int:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.files.append(theirs)
        return ours.detach()

    def _write(self, descriptor: int, data: bytes) -> int:
        (message,) = Decoder().feed(data)
        assert message.kind == MessageType.WATCH
        self.on_watch()
        self.fire(self.files[-1])
        self.files[-1].send(Message(MessageType.WATCH, b"OK\0").encode())
        return len(data)

    def fire(self, file: socket.socket) -> None:
        file.send(Message(MessageType.WATCH_EVENT, b"domid\0\0").encode())

    def close(self) -> None:
        for file in self.files:
            file.close()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel(monkeypatch)
    yield kernel
    kernel.close()


def test_a_watch_that_fires_again_is_word_of_a_resume_and_its_first_event_is_not(
    kernel: Kernel,
) -> None:
    resumes = Resumes()
    assert not resumes.heard()
    kernel.fire(kernel.files[0])
    assert resumes.heard()
    assert not resumes.heard()
    resumes.close()
    resumes.close()


def test_right_after_a_suspend_the_word_is_waited_for(kernel: Kernel) -> None:
    """Events are handed out in the order in which they came: the resume's first."""
    resumes = Resumes()
    kernel.lag = 20.0
    kernel.on_watch = lambda: kernel.fire(kernel.files[0])
    assert resumes.happened()
    assert not resumes.happened()
    assert len(kernel.files) == 2
    resumes.close()


def test_a_suspend_that_was_called_off_is_no_resume(kernel: Kernel) -> None:
    resumes = Resumes()
    kernel.lag = 20.0
    assert not resumes.happened()
    assert len(kernel.files) == 2
    resumes.close()


# The device


class Driver:
    """Of /dev/xen/evtchn, how it binds: Xen gives the lowest free number, and one that the open
    file has already is refused, freed, and has all of the file's forgotten."""

    def __init__(self, *taken: int) -> None:
        self.taken = set(taken)
        self.bound: list[int] = []
        self.closed: list[Restored] = []
        self.quicker: set[int] = set()
        """Taken by somebody else as soon as they are free."""

    def device(self, *stale: int) -> Restored:
        return Restored(self, stale)


class Restored(EventDevice):
    """Has these numbers, of the time before."""

    def __init__(self, driver: Driver, stale: tuple[int, ...] = ()) -> None:
        self._driver = driver
        self._packed = {port: bytearray(4) for port in stale}
        self._forgotten_by_driver = False

    def _again(self) -> EventDevice:
        return Restored(self._driver)

    def bind_unbound_port(self, remote_domid: int) -> int:
        assert remote_domid == DOMID_SELF, "nobody else may send to it"
        taken = self._driver.taken
        port = next(n for n in range(1, 99) if n not in taken)
        if port in self._packed and not self._forgotten_by_driver:
            self._forgotten_by_driver = True
            raise XenError(errno.EEXIST, "EVTCHNOP_alloc_unbound")
        taken.add(port)
        self._driver.bound.append(port)
        self._packed[port] = bytearray(4)
        return port

    def unbind(self, port: int) -> None:
        assert port in self._packed
        del self._packed[port]
        if port in self._driver.quicker:
            self._driver.quicker.remove(port)
        else:
            self._driver.taken.remove(port)

    def close(self) -> None:
        assert self._forgotten_by_driver or not self._packed, "the kernel stops at a BUG"
        self._driver.closed.append(self)


@pytest.mark.parametrize(
    ("taken", "stale", "bound"),
    [
        ((1, 2), (5, 6), [3, 4, 5]),
        ((1, 2, 5), (5, 6), [3, 4, 6]),
        ((), (1,), [1]),
        ((), (), []),
    ],
)
def test_an_open_file_is_closed_once_the_driver_has_forgotten_its_ports(
    taken: tuple[int, ...], stale: tuple[int, ...], bound: list[int]
) -> None:
    driver = Driver(*taken)
    device = driver.device(*stale)
    fresh = device.renewed()
    assert driver.bound == bound
    assert driver.closed == [device]
    assert driver.taken == set(taken), "what was held on the way is free again"
    assert fresh.ports == []


def test_a_number_that_somebody_takes_meanwhile_is_let_be() -> None:
    driver = Driver()
    driver.quicker = {1}
    device = driver.device(1, 4)
    device.renewed()
    assert driver.closed == [device]
    assert driver.taken == {1}


def test_an_open_file_whose_numbers_are_all_taken_by_others_stays_open() -> None:
    driver = Driver(*range(1, 20))
    driver.device(5, 6).renewed()
    assert driver.closed == []
    assert driver.taken == set(range(1, 20))


def test_an_open_file_that_was_forgotten_already_is_closed() -> None:
    """An exception struck between the two."""
    driver = Driver()
    device = driver.device(1, 4)
    assert device._forgotten(driver.device())
    device.renewed()
    assert driver.closed == [device]
