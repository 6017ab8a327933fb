"""Which domains there are, and since when xenstored has known each of them.

It gets to know a domain when it is introduced, or when somebody names it in a node's permissions.
Permissions older than that are not for it, but for a domain that had its number before.
"""

from __future__ import annotations

from collections.abc import Callable


class Domains:
    """`generation` gives the database's, which is the time here."""

    def __init__(self, generation: Callable[[], int]) -> None:
        self._generation = generation
        self._exist: set[int] = set()
        self._known: dict[int, int] = {}

    def come(self, domid: int) -> None:
        """Xen has made such a domain."""
        self._exist.add(domid)

    def go(self, domid: int) -> None:
        """Xen has no such domain any more."""
        self._exist.discard(domid)
        self.forget(domid)

    def meet(self, domid: int) -> bool:
        """Get to know it; False if there is no such domain."""
        if domid in self._exist:
            self._known.setdefault(domid, self._generation())
        return domid in self._known

    def forget(self, domid: int) -> None:
        """Whatever it has here is gone; the domain may still be there."""
        self._known.pop(domid, None)

    def since(self, domid: int) -> int | None:
        """The generation of the database at which it came to be known."""
        return self._known.get(domid)
