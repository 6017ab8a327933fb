"""Protobuf's wire format, as far as it takes to write messages.

A message is its fields, one after the other: a key (the field's number and how its value is
written) and the value. Public description: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from struct import pack

from xen_sim.varint import varint

_VARINT, _FIXED64, _LENGTH_DELIMITED = 0, 1, 2


def number(field: int, value: int) -> bytes:
    """An unsigned integer, a bool or an enum; also an int64 that is not negative."""
    return varint(field << 3 | _VARINT) + varint(value)


def fixed64(field: int, value: int) -> bytes:
    """An unsigned integer in eight bytes."""
    return varint(field << 3 | _FIXED64) + pack("<Q", value)


def text(field: int, value: str) -> bytes:
    """A string."""
    return message(field, value.encode())


def message(field: int, *fields: bytes) -> bytes:
    """A message of these fields within another one."""
    body = b"".join(fields)
    return varint(field << 3 | _LENGTH_DELIMITED) + varint(len(body)) + body
