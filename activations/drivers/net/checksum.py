"""The checksum of TCP and UDP, completed where its sender left it to somebody else.

Linux's front end takes no word of `feature-no-csum-offload` from a back end: it sends packets of
IPv4 whose checksum is that of the pseudo header alone, and counts on hardware that does the rest.
There is none here; and a frame on a wire must be whole, for any receiver.

The sum is one of 16-bit words in ones' complement, which is the remainder by 2^16 - 1 of the bytes
read as one number: a single division of long integers, instead of a loop.
"""

from __future__ import annotations

from activations.drivers.net.errors import NetError

_MODULUS = 0xFFFF
_ETHERTYPE_AT = 12
_VLAN = (0x8100, 0x88A8)
_IPV4, _IPV6 = 0x0800, 0x86DD
_TCP, _UDP = 6, 17
_FIELD = {_TCP: (16, 20), _UDP: (6, 8)}
"""Where the checksum lies behind the protocol's header's beginning; how long that header is."""
_SKIPPED = (0, 43, 60)
"""IPv6's extension headers that may lie before: hop by hop, routing, destination."""
_FRAGMENT = 0x3FFF
"""IPv4's bits for a piece of a packet: more to come, or not the first."""


class NoChecksum(NetError):
    """A frame whose checksum was left blank has none that could be completed."""


def complete(frame: bytearray) -> None:
    """Put the checksum of TCP or UDP into the Ethernet frame. Raises `NoChecksum`, the frame
    unchanged, if it holds neither, or less of it than it says."""
    kind, start = _network_layer(frame)
    try:
        if kind == _IPV4:
            protocol, begin, end, addresses = _ipv4(frame, start)
        elif kind == _IPV6:
            protocol, begin, end, addresses = _ipv6(frame, start)
        else:
            raise NoChecksum(f"a frame of type {kind:#06x} has no checksum to complete")
        at, least = _FIELD[protocol]
    except (IndexError, KeyError):
        raise NoChecksum("neither TCP nor UDP, so there is no checksum to complete") from None
    if not begin + least <= end <= len(frame):
        raise NoChecksum(f"a packet that ends at {end} in a frame of {len(frame)} bytes")
    field = begin + at
    frame[field : field + 2] = b"\0\0"
    total = _sum(frame[begin:end]) + _sum(addresses) + protocol + (end - begin)
    # a sum of nothing but zeros cannot be: there is a pseudo header
    checksum = _MODULUS - (total % _MODULUS or _MODULUS)
    if protocol == _UDP and not checksum:
        checksum = _MODULUS  # zero means that there is none
    frame[field : field + 2] = checksum.to_bytes(2, "big")


def _network_layer(frame: bytearray) -> tuple[int, int]:
    """The type of what an Ethernet frame holds, and where it begins."""
    at = _ETHERTYPE_AT
    while (kind := int.from_bytes(frame[at : at + 2], "big")) in _VLAN:
        at += 4
    return kind, at + 2


def _ipv4(frame: bytearray, start: int) -> tuple[int, int, int, bytearray]:
    """Protocol, where it begins and ends, and the addresses."""
    header = 4 * (frame[start] & 15)
    if header < 20 or int.from_bytes(frame[start + 6 : start + 8], "big") & _FRAGMENT:
        raise NoChecksum("a fragment, or no IPv4 header: there is no checksum to complete")
    end = start + int.from_bytes(frame[start + 2 : start + 4], "big")
    return frame[start + 9], start + header, end, frame[start + 12 : start + 20]


def _ipv6(frame: bytearray, start: int) -> tuple[int, int, int, bytearray]:
    protocol, begin = frame[start + 6], start + 40
    end = begin + int.from_bytes(frame[start + 4 : start + 6], "big")
    while protocol in _SKIPPED:
        protocol, begin = frame[begin], begin + 8 + 8 * frame[begin + 1]
    return protocol, begin, end, frame[start + 8 : start + 40]


def _sum(data: bytearray) -> int:
    number = int.from_bytes(data, "big")
    return (number << 8 if len(data) % 2 else number) % _MODULUS
