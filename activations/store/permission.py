"""Who may do what with a node: `n0`, `r5`, `w5`, `b5`.

The first permission of a node names its owner, who may do everything, and says what every domain
that is not listed may do. Each further one is about the domain it names.
Source: docs/misc/xenstore.txt, GET_PERMS and SET_PERMS.
"""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple


class Access(IntFlag):
    """What a domain may do with a node."""

    NONE = 0
    READ = 1
    WRITE = 2


ACCESSES = {
    "n": Access.NONE,
    "r": Access.READ,
    "w": Access.WRITE,
    "b": Access.READ | Access.WRITE,
}
"""What each letter of the wire's form says."""
_LETTER = {access: letter for letter, access in ACCESSES.items()}
_DOMID_MAX = 0xFFFF


class Permission(NamedTuple):
    """One permission: `Permission(5, Access.READ)` is `r5`."""

    domid: int
    access: Access

    @classmethod
    def parse(cls, wire: str) -> Permission:
        """From the wire's form. Raises `ValueError` for anything else."""
        letter, digits = wire[:1], wire[1:]
        if letter not in ACCESSES or not (digits.isascii() and digits.isdecimal()):
            raise ValueError(f"{wire!r} is not a permission: give n, r, w or b, and a domid, as r5")
        domid = int(digits)
        if domid > _DOMID_MAX:
            raise ValueError(f"{wire!r} has a domid beyond {_DOMID_MAX}, the last there can be")
        return cls(domid, ACCESSES[letter])

    def __str__(self) -> str:
        return f"{_LETTER[self.access]}{self.domid}"
