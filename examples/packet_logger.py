"""A wire that writes down every frame: a network device's back end, and a pcap file behind it.

    activations run examples/packet_logger.py
    activations run examples/packet_logger.py --backend lab

dom0 plugs a device into the guest. Behind its back end is a cable, and between the two an interface
that passes everything on and writes it into a file, which tcpdump and Wireshark read.
"""

from contextlib import suppress
from tempfile import TemporaryFile
from typing import BinaryIO

from dpkt import pcap

from activations import Domain, Scenario
from activations.drivers import net
from activations.drivers.net import Interface, NicClosed, cable
from activations.xenbus import Device, front_device, plug, unplug

packet_logger = Scenario("packet_logger")

KIND = "example-vif"
"""One that no kernel has a driver for; Linux's would take a `vif`."""
MAC = "00:16:3e:00:00:01"
WORDS = [b"one", b"two", b"three"]


class Logged:
    """An interface, and every frame that goes through it in a file."""

    def __init__(self, inner: Interface, file: BinaryIO, xen: Domain) -> None:
        self.inner, self.xen = inner, xen
        self.pcap = pcap.Writer(file, snaplen=65535)

    async def send(self, frame: bytes) -> None:
        await self.inner.send(self.logged(frame))

    async def receive(self) -> bytes:
        return self.logged(await self.inner.receive())

    def receive_nowait(self) -> bytes | None:
        frame = self.inner.receive_nowait()
        return None if frame is None else self.logged(frame)

    def logged(self, frame: bytes) -> bytes:
        self.pcap.writepkt_time(frame, self.xen.time_ns() / 10**9)
        return frame


@packet_logger.domain("dom0")
async def log(xen: Domain) -> int:
    device = Device(KIND, 0, await xen.find("guest"), 0)
    near, far = cable()
    await plug(xen, device, front={"mac": MAC})
    with TemporaryFile() as file:
        async with net.serve(xen, device, Logged(far, file, xen)):
            for _ in WORDS:
                frame = await near.receive()
                await near.send(frame[6:12] + frame[:6] + frame[12:])
            await unplug(xen, device)
        file.seek(0)
        written = [frame[14:].decode() for _, frame in pcap.Reader(file)]
    print("in the file:", *written)
    return len(written)


@packet_logger.domain("guest")
async def chat(xen: Domain) -> list[str]:
    heard = []
    async with net.open(xen, await front_device(xen, KIND, 0)) as nic:
        for word in WORDS:
            await nic.send(b"\xff" * 6 + nic.mac + b"\x88\xb5" + word)
            heard.append((await nic.receive())[14:].decode())
        with suppress(NicClosed):
            await nic.receive()  # until it is unplugged
    return heard
