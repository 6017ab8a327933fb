"""Pings: ARP to learn who has an address, then ICMP echoes.

Frames are made and understood by functions that wait for nothing; `Pinger` sends and receives.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import NamedTuple

import dpkt
from dpkt.arp import ARP, ARP_HRD_ETH, ARP_OP_REPLY, ARP_OP_REQUEST, ARP_PRO_IP
from dpkt.dpkt import in_cksum
from dpkt.ethernet import ETH_TYPE_ARP, ETH_TYPE_IP, Ethernet
from dpkt.icmp import ICMP, ICMP_ECHO, ICMP_ECHOREPLY
from dpkt.ip import IP, IP_PROTO_ICMP

from activations.demo.figures import Ring
from activations.drivers.net import Interface

ARP_OF_ETHERNET: tuple[int, int, int, int] = (ARP_HRD_ETH, ARP_PRO_IP, 6, 4)
"""Hardware, protocol, the lengths of their addresses."""
BROADCAST = b"\xff" * 6
PAYLOAD = 56
"""Bytes, as `ping` sends."""
PATIENCE = 10.0
"""Seconds, for an answer: an emulated machine that is not alone may rest for some."""
NO_PACKET = (dpkt.Error, IndexError, AttributeError, RecursionError)
"""What dpkt raises for bytes that are none of the many protocols it looks into, however deep."""


class Station(NamedTuple):
    """Somebody on the network."""

    mac: bytes
    address: bytes
    """IPv4's four bytes."""


class Echo(NamedTuple):
    """An ICMP echo, or the reply to one."""

    sequence: int
    payload: bytes


class Message(NamedTuple):
    """An ICMP message to us: who sent it, of what type it is, and what it holds."""

    sender: Station
    kind: int
    content: Echo


def who_has(own: Station, address: bytes) -> bytes:
    """The frame that asks all who has the address."""
    return _arp(own, ARP_OP_REQUEST, Station(BROADCAST, address))


def is_at(own: Station, frame: bytes) -> Station | None:
    """Who says in this frame, to us, that it has an address; None for any other frame."""
    if (arp := _arp_in(frame)) and arp.op == ARP_OP_REPLY and arp.tha == own.mac:
        return Station(arp.sha, arp.spa)
    return None


def echo(own: Station, peer: Station, sent: Echo) -> bytes:
    return _icmp(own, peer, ICMP_ECHO, sent)


def reply_in(own: Station, frame: bytes) -> Echo | None:
    """The reply to us in this frame; None for any other frame, and one with a wrong checksum."""
    found = _icmp_in(own, frame)
    return found.content if found and found.kind == ICMP_ECHOREPLY else None


def answer(own: Station, frame: bytes) -> bytes | None:
    """What a station answers this frame with, if anything: ARP for its address, and echoes."""
    if arp := _arp_in(frame):
        asked = arp.op == ARP_OP_REQUEST and arp.tpa == own.address
        return _arp(own, ARP_OP_REPLY, Station(arp.sha, arp.spa)) if asked else None
    if (found := _icmp_in(own, frame)) and found.kind == ICMP_ECHO:
        return _icmp(own, found.sender, ICMP_ECHOREPLY, found.content)
    return None


def _arp(own: Station, operation: int, peer: Station) -> bytes:
    arp = ARP(op=operation, sha=own.mac, spa=own.address, tha=peer.mac, tpa=peer.address)
    return bytes(Ethernet(src=own.mac, dst=peer.mac, type=ETH_TYPE_ARP, data=arp))


def _arp_in(frame: bytes) -> ARP | None:
    arp = _inside(frame, ETH_TYPE_ARP)
    if isinstance(arp, ARP) and (arp.hrd, arp.pro, arp.hln, arp.pln) == ARP_OF_ETHERNET:
        return arp
    return None


def _icmp(own: Station, peer: Station, kind: int, content: Echo) -> bytes:
    message = ICMP(type=kind, data=ICMP.Echo(seq=content.sequence, data=content.payload))
    packet = IP(src=own.address, dst=peer.address, p=IP_PROTO_ICMP, data=message)
    return bytes(Ethernet(src=own.mac, dst=peer.mac, data=packet))


def _icmp_in(own: Station, frame: bytes) -> Message | None:
    """An echo, or a reply to one, that is for us, whole, and has the right checksums."""
    packet = _inside(frame, ETH_TYPE_IP)
    if not isinstance(packet, IP) or packet.dst != own.address or packet.p != IP_PROTO_ICMP:
        return None
    message = packet.data
    whole = not packet.mf and len(packet) == packet.len
    if not whole or not isinstance(message, ICMP) or not isinstance(message.data, ICMP.Echo):
        return None
    # of the bytes as they came: to write a packet whose checksum is 0 is to have dpkt put one in
    sums = packet.pack_hdr() + packet.opts, message.pack_hdr() + bytes(message.data)
    if any(in_cksum(each) for each in sums):
        return None
    echoed = Echo(message.data.seq, message.data.data)
    return Message(Station(frame[6:12], packet.src), message.type, echoed)


def _inside(frame: bytes, kind: int) -> dpkt.Packet | None:
    """What a frame of this type holds; None for any other frame."""
    try:
        ethernet = Ethernet(frame)
    except NO_PACKET:
        return None
    return ethernet.data if ethernet.type == kind else None


@dataclass(slots=True)
class Pings:
    """How pinging went. Times are in seconds, and real."""

    sent: int = 0
    answered: int = 0
    times: list[float] = field(default_factory=list)

    def typical(self) -> float:
        """The median time from an echo to its reply."""
        return median(self.times) if self.times else 0.0


class Pinger:
    """A station on the network. `patience` is in seconds of the loop's clock."""

    def __init__(
        self, nic: Interface, own: Station, ring: Ring, *, patience: float = PATIENCE
    ) -> None:
        self.own = own
        self._nic = nic
        self._ring = ring
        self._patience = patience

    async def find(self, address: bytes, *, attempts: int = 5) -> Station:
        """The station with this address. Raises `TimeoutError` if none answers."""
        for attempt in range(1, attempts + 1):
            await self._send(who_has(self.own, address))
            try:
                async with asyncio.timeout(self._patience):
                    while (station := is_at(self.own, await self._receive())) is None:
                        pass
                return station
            except TimeoutError:
                if attempt == attempts:
                    raise
        raise AssertionError("the last attempt either found it or raised")

    async def ping(self, peer: Station, sequence: int, pings: Pings) -> None:
        """Send an echo and wait for its reply; one that differs, or is late, is lost."""
        sent = Echo(sequence & 0xFFFF, bytes((sequence + at) & 0xFF for at in range(PAYLOAD)))
        began = perf_counter()
        pings.sent += 1
        self._ring.in_flight = 1
        await self._send(echo(self.own, peer, sent))
        try:
            async with asyncio.timeout(self._patience):
                while reply_in(self.own, await self._receive()) != sent:
                    pass
        except TimeoutError:
            return
        finally:
            self._ring.in_flight = 0
        pings.answered += 1
        pings.times.append(perf_counter() - began)

    async def answer_one(self) -> None:
        """Take a frame, and answer it if that is called for."""
        answered = answer(self.own, await self._receive())
        if answered is not None:
            await self._send(answered)

    async def _send(self, frame: bytes) -> None:
        await self._nic.send(frame)
        self._ring.count(len(frame), done=1)

    async def _receive(self) -> bytes:
        frame = await self._nic.receive()
        self._ring.count(len(frame), done=1)
        return frame
