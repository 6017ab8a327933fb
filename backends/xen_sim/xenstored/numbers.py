"""Numbers in requests, read as C's library reads them for Xen's xenstored: leniently."""

from __future__ import annotations

import re

_U32 = 0xFFFF_FFFF
_LONG_MAX = 2**63 - 1
_AT_THE_BEGINNING = re.compile(r"[ \t-\r]*([+-]?[0-9]+)")
_ALL_OF_IT = re.compile(r"[ \t-\r]*([+-]?)(?:(0[xX][0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))")


def leading(text: str) -> int:
    """`atoi`, as an unsigned number of 32 bits: what the text begins with, and 0 if that is no
    number."""
    found = _AT_THE_BEGINNING.match(text)
    return _clamped(int(found[1])) if found else 0


def whole(text: str) -> int | None:
    """`strtol` of the whole text, as an unsigned number of 32 bits; hexadecimal after 0x, octal
    after 0. None if it is not a number."""
    found = _ALL_OF_IT.fullmatch(text)
    if not found:
        return None
    sign, hexadecimal, octal, decimal = found.groups()
    value = int(hexadecimal, 16) if hexadecimal else int(octal, 8) if octal else int(decimal)
    return _clamped(-value if sign == "-" else value)


def signed(value: int) -> int:
    """The number of 32 bits as C prints it with a sign."""
    return value - 2**32 if value >> 31 else value


def _clamped(value: int) -> int:
    return max(-_LONG_MAX - 1, min(value, _LONG_MAX)) & _U32
