"""Pings, by hand: ARP to learn who has an address, then ICMP echoes (RFC 826, 791, 792).

Frames are made and understood by functions that wait for nothing; `Pinger` sends and receives.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from statistics import median
from struct import Struct
from time import perf_counter
from typing import NamedTuple

from activations.demo.figures import Ring
from activations.drivers.net import Interface

ETHERNET = Struct("!6s6sH")
"""Destination, source, type."""
ARP = Struct("!HHBBH6s4s6s4s")
"""Hardware, protocol, the lengths of their addresses, operation; sender's two, target's two."""
IPV4 = Struct("!BBHHHBBH4s4s")
ICMP = Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence number."""

BROADCAST = b"\xff" * 6
TYPE_IPV4, TYPE_ARP = 0x0800, 0x0806
ARP_OF_ETHERNET = (1, TYPE_IPV4, 6, 4)
WHO_HAS, IS_AT = 1, 2
PROTOCOL_ICMP = 1
ECHO_REPLY, ECHO = 0, 8
TTL = 64
PAYLOAD = 56
"""Bytes, as `ping` sends."""


class Station(NamedTuple):
    """Somebody on the network."""

    mac: bytes
    address: bytes
    """IPv4's four bytes."""


class Echo(NamedTuple):
    """An ICMP echo, or the reply to one."""

    sequence: int
    payload: bytes


def who_has(own: Station, address: bytes) -> bytes:
    """The frame that asks all who has the address."""
    arp = ARP.pack(*ARP_OF_ETHERNET, WHO_HAS, *own, bytes(6), address)
    return ETHERNET.pack(BROADCAST, own.mac, TYPE_ARP) + arp


def is_at(own: Station, frame: bytes) -> Station | None:
    """Who says in this frame, to us, that it has an address; None for any other frame."""
    said = _arp(frame)
    return said[1] if said and said[0] == IS_AT and frame[:6] == own.mac else None


def echo(own: Station, peer: Station, sent: Echo) -> bytes:
    return _icmp(own, peer, ECHO, sent)


def reply_in(own: Station, frame: bytes) -> Echo | None:
    """The reply to us in this frame; None for any other frame, and one with a wrong checksum."""
    found = _ip(own, frame)
    return found[2] if found and found[1] == ECHO_REPLY else None


def answer(own: Station, frame: bytes) -> bytes | None:
    """What a station answers this frame with, if anything: ARP for its address, and echoes."""
    if said := _arp(frame):
        operation, asker, target = said
        if operation != WHO_HAS or target != own.address:
            return None
        arp = ARP.pack(*ARP_OF_ETHERNET, IS_AT, *own, *asker)
        return ETHERNET.pack(asker.mac, own.mac, TYPE_ARP) + arp
    if (found := _ip(own, frame)) and found[1] == ECHO:
        return _icmp(own, found[0], ECHO_REPLY, found[2])
    return None


def checksum(data: bytes) -> int:
    """The internet's (RFC 1071); that of bytes which hold their own is 0."""
    if len(data) % 2:
        data += b"\0"
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    return ~(total % 0xFFFF or (total and 0xFFFF)) & 0xFFFF


def _arp(frame: bytes) -> tuple[int, Station, bytes] | None:
    """Operation, sender, and the address that it is about."""
    if len(frame) < ETHERNET.size + ARP.size or _type(frame) != TYPE_ARP:
        return None
    *kind, operation, mac, address, _, target = ARP.unpack_from(frame, ETHERNET.size)
    return (operation, Station(mac, address), target) if tuple(kind) == ARP_OF_ETHERNET else None


def _ip(own: Station, frame: bytes) -> tuple[Station, int, Echo] | None:
    """An ICMP message to us in a packet without options: its sender, type and content."""
    packet = frame[ETHERNET.size :]
    if len(packet) < IPV4.size + ICMP.size or _type(frame) != TYPE_IPV4:
        return None
    version, _, length, _, fragment, _, protocol, _, source, target = IPV4.unpack_from(packet)
    packet = packet[:length]
    message = packet[IPV4.size :]
    whole = version == 0x45 and not fragment & 0x3FFF and len(packet) == length
    if not whole or protocol != PROTOCOL_ICMP or target != own.address or len(message) < ICMP.size:
        return None
    if checksum(packet[: IPV4.size]) or checksum(message):
        return None
    kind, _, _, _, sequence = ICMP.unpack_from(message)
    return Station(frame[6:12], source), kind, Echo(sequence, message[ICMP.size :])


def _icmp(own: Station, peer: Station, kind: int, content: Echo) -> bytes:
    sequence, payload = content
    message = ICMP.pack(kind, 0, 0, 0, sequence) + payload
    message = ICMP.pack(kind, 0, checksum(message), 0, sequence) + payload
    fields = [0x45, 0, IPV4.size + len(message), 0, 0, TTL, PROTOCOL_ICMP, 0]
    fields[-1] = checksum(IPV4.pack(*fields, own.address, peer.address))
    packet = IPV4.pack(*fields, own.address, peer.address) + message
    return ETHERNET.pack(peer.mac, own.mac, TYPE_IPV4) + packet


def _type(frame: bytes) -> int:
    return int.from_bytes(frame[12:14])


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

    def __init__(self, nic: Interface, own: Station, ring: Ring, *, patience: float = 2.0) -> None:
        self.own = own
        self._nic = nic
        self._ring = ring
        self._patience = patience

    async def find(self, address: bytes, *, attempts: int = 5) -> Station:
        """Who has this address. Raises `TimeoutError` if nobody says so."""
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
