"""Where a Python buffer lies, for kernel interfaces that take an address."""

from __future__ import annotations

from ctypes import addressof, c_char
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def address_of(buffer: WriteableBuffer) -> int:
    """The address of a writable buffer's first byte.

    The number does not keep the buffer alive: the caller has to.
    """
    return addressof(c_char.from_buffer(buffer))
