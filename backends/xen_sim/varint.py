"""Numbers in as few bytes as they take: tokens are short by it, and protobuf's are written so."""

from __future__ import annotations


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first; all but the last have the eighth set. Not negative, and
    below 2^64: `ValueError`."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value} is not from 0 to 2^64 - 1")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
