"""A guest that answers ARP, pings, and whatever comes by UDP: a server without a network stack.

    activations run examples/programs/echo_guest.py
    activations run examples/programs/echo_guest.py --backend lab

dom0 plugs a device into the guest and asks at the other end of a cable. With a TAP device in the
cable's place the guest would answer dom0's own `ping`. dpkt makes and reads the packets.
"""

import dpkt
from dpkt.arp import ARP, ARP_OP_REPLY, ARP_OP_REQUEST
from dpkt.ethernet import ETH_TYPE_ARP, Ethernet
from dpkt.icmp import ICMP, ICMP_ECHO, ICMP_ECHOREPLY
from dpkt.ip import IP, IP_PROTO_ICMP, IP_PROTO_UDP
from dpkt.udp import UDP

from activations import Domain, Scenario
from activations.drivers import net
from activations.drivers.net import NicClosed, cable
from activations.xenbus import Device, front_device, plug, unplug

echo_guest = Scenario("echo_guest")

KIND = "example-vif"
"""One that no kernel has a driver for; Linux's would take a `vif`."""
MAC = bytes.fromhex("00163e000001")
ASKER = bytes.fromhex("00163e0000ff")
GUEST, DOM0 = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1])
ALL = b"\xff" * 6


def answer(frame: bytes) -> bytes | None:
    """The guest's reply to a frame, if it is for us and asks for one."""
    try:
        asked = Ethernet(frame)
    except (dpkt.Error, IndexError, AttributeError, RecursionError):
        return None  # frames that make no sense
    inner = asked.data
    if isinstance(inner, ARP) and inner.op == ARP_OP_REQUEST and inner.tpa == GUEST:
        inner = ARP(op=ARP_OP_REPLY, sha=MAC, spa=GUEST, tha=inner.sha, tpa=inner.spa)
    elif isinstance(inner, IP) and inner.dst == GUEST and answered(inner.data):
        inner.src, inner.dst = inner.dst, inner.src
    else:
        return None
    return bytes(Ethernet(src=MAC, dst=asked.src, type=asked.type, data=inner))


def answered(message: object) -> bool:
    """Make a ping or a datagram its own answer, if that is what it is."""
    if isinstance(message, ICMP) and message.type == ICMP_ECHO:
        message.type, message.sum = ICMP_ECHOREPLY, 0  # the latter has dpkt compute it
        return True
    if isinstance(message, UDP):
        message.sport, message.dport = message.dport, message.sport
        return True
    return False


@echo_guest.domain("guest")
async def serve(xen: Domain) -> int:
    answered = 0
    async with net.open(xen, await front_device(xen, KIND, 0)) as nic:
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
    async with net.serve(xen, device, far):
        await near.send(question())
        mac = Ethernet(await near.receive()).arp.sha
        await near.send(packet(mac, IP_PROTO_ICMP, ICMP(data=ICMP.Echo(seq=1, data=b"howdy"))))
        pong = Ethernet(await near.receive()).ip.icmp
        hello = UDP(sport=7000, dport=7, ulen=13, data=b"hello")
        await near.send(packet(mac, IP_PROTO_UDP, hello))
        echo = Ethernet(await near.receive()).ip.udp
        await unplug(xen, device)
    assert (pong.type, echo.sport, echo.dport) == (ICMP_ECHOREPLY, 7, 7000)
    said = [mac.hex(":"), pong.data.data.decode(), echo.data.decode()]
    print(*said)
    return said


def question() -> bytes:
    """Who has the guest's address?"""
    arp = ARP(sha=ASKER, spa=DOM0, tpa=GUEST)
    return bytes(Ethernet(src=ASKER, dst=ALL, type=ETH_TYPE_ARP, data=arp))


def packet(to: bytes, protocol: int, inner: ICMP | UDP) -> bytes:
    """A packet for the guest, in a frame."""
    return bytes(Ethernet(src=ASKER, dst=to, data=IP(src=DOM0, dst=GUEST, p=protocol, data=inner)))
