"""A guest that answers ARP, pings, and whatever comes by UDP: a server without a network stack.

    activations run examples/echo_guest.py
    activations run examples/echo_guest.py --backend lab

dom0 plugs a device into the guest and asks, by hand, at the other end of a cable. With a TAP device
in the cable's place the guest would answer dom0's own `ping`.
"""

from struct import pack, unpack_from

from activations import Domain, Scenario
from activations.drivers.net import NicClosed, cable
from activations.drivers.net import back as netback
from activations.drivers.net import front as netfront
from activations.drivers.net.checksum import complete
from activations.xenbus import Device, front_device, plug, unplug

echo_guest = Scenario("echo_guest")

KIND = "example-vif"
"""One that no kernel has a driver for; Linux's would take a `vif`."""
MAC = bytes.fromhex("00163e000001")
ASKER = bytes.fromhex("00163e0000ff")
GUEST, DOM0 = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1])
ALL = b"\xff" * 6
ARP, IPV4 = b"\x08\x06", b"\x08\x00"
ICMP, UDP = 1, 17
PING = 8


def answer(frame: bytes) -> bytes | None:
    """The guest's reply to a frame, if it is for us and asks for one. Turning addresses around
    leaves every checksum as it is."""
    back = frame[6:12] + MAC + frame[12:14]
    if frame[12:14] == ARP and frame[20:22] == b"\0\1" and frame[38:42] == GUEST:
        return back + frame[14:20] + b"\0\2" + MAC + GUEST + frame[22:32]
    if frame[12:14] != IPV4 or frame[30:34] != GUEST:
        return None
    back += frame[14:26] + GUEST + frame[26:30]
    if frame[23] == UDP:
        return back + frame[36:38] + frame[34:36] + frame[38:]
    if frame[23] == ICMP and frame[34] == PING:
        checksum = unpack_from("!H", frame, 36)[0] + (PING << 8)
        return back + b"\0\0" + pack("!H", checksum % 0xFFFF) + frame[38:]
    return None


@echo_guest.domain("guest")
async def serve(xen: Domain) -> int:
    answered = 0
    async with netfront.open(xen, await front_device(xen, KIND, 0)) as nic:
        try:
            while True:
                if reply := answer(await nic.receive()):
                    await nic.send(reply)
                    answered += 1
        except NicClosed:
            print(f"{answered} frames answered")
    return answered


@echo_guest.domain("dom0")
async def ask(xen: Domain) -> list[str]:
    guest = await xen.find("guest")
    device = Device(KIND, 0, guest, 0)
    near, far = cable()
    await plug(xen, device, front={"mac": MAC.hex(":")})
    async with netback.serve(xen, device, far):
        await near.send(ALL + ASKER + ARP + b"\0\1\x08\0\6\4\0\1" + ASKER + DOM0 + bytes(6) + GUEST)
        mac = (await near.receive())[22:28]
        await near.send(packet(mac, ICMP, pack("!BBHI", PING, 0, 0xF7FF - 0x1234, 0x1234)))
        pong = await near.receive()
        await near.send(packet(mac, UDP, pack("!4H", 7000, 7, 13, 0) + b"hello"))
        echo = await near.receive()
        await unplug(xen, device)
    said = [mac.hex(":"), pong[34:].hex(), echo[42:].decode()]
    print(*said)
    return said


def packet(to: bytes, protocol: int, inner: bytes) -> bytes:
    """An IPv4 packet in a frame; its own checksum is left out, since nobody here looks at it."""
    header = pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 0, 0, 64, protocol, 0)
    frame = bytearray(to + ASKER + IPV4 + header + DOM0 + GUEST + inner)
    if protocol == UDP:
        complete(frame)
    return bytes(frame)
