"""Numbers that Xen keeps in so many bits.

One that its structures have no room for is one clear error, the same on every backend, before
anything is taken for it.
"""

from __future__ import annotations

from operator import index

DOMID_BITS = 16
NUMBER_BITS = 32
"""Of a port, a VIRQ and a grant reference."""


def unsigned(what: str, number: int, bits: int = NUMBER_BITS) -> int:
    """The number. Raises `ValueError` for one that does not fit, `TypeError` for what is none."""
    number = index(number)
    if not 0 <= number < 1 << bits:
        raise ValueError(f"{what} {number}: it must be from 0 to {(1 << bits) - 1}")
    return number


def domain(domid: int) -> int:
    """The number of a domain. Raises as `unsigned` does."""
    return unsigned("domain", domid, DOMID_BITS)
