"""The pages that a disk's data goes through: granted once, used over and over.

Granting costs a hypercall or two, and revoking must wait for the back end to unmap; so a front end
grants its pages when it begins, and keeps them granted until it ends. A back end that knows
`feature-persistent` leaves them mapped; any other maps them for each request, which is as good.

How many there are is bounded, since a domain's grants are: Linux's gntalloc gives 1024 pages.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import NamedTuple

from activations.abi.blkif import SECTORS_PER_PAGE
from activations.abi.grant_table import PAGE_SIZE
from activations.drivers.block.protocol import Segment, encode_segments
from activations.errors import XenError
from activations.grants import Grant


class Page(NamedTuple):
    """A granted page."""

    memory: memoryview
    ref: int
    whole: bytes
    """All of it, as a request's segment."""


class Pool:
    """The pages of one device; none before `stock`."""

    def __init__(self) -> None:
        self._pages: list[Page] = []
        self._free: list[Page] = []

    def stock(self, share: Callable[[int], Grant], pages: int) -> Grant:
        """Grant so many pages; `share` makes a grant of them, which is given, to be closed after
        `release`.

        If the domain cannot grant so many, half as many are tried, and so on; raises `XenError`
        (ENOSPC) if there is not even one.
        """
        grant = _as_many(share, pages)
        memory, last = grant.memory, SECTORS_PER_PAGE - 1
        self._pages = [
            Page(
                memory[at * PAGE_SIZE : (at + 1) * PAGE_SIZE],
                ref,
                encode_segments([Segment(ref, 0, last)]),
            )
            for at, ref in enumerate(grant.refs)
        ]
        self._free = self._pages.copy()
        return grant

    @property
    def size(self) -> int:
        """Pages in all."""
        return len(self._pages)

    @property
    def free(self) -> int:
        """Pages that no request uses."""
        return len(self._free)

    def take(self, count: int) -> list[Page]:
        """So many pages, of which there are as many free."""
        left = len(self._free) - count
        taken = self._free[left:]
        del self._free[left:]
        return taken

    def give(self, pages: Iterable[Page]) -> None:
        """Pages that no request uses any more."""
        self._free += pages

    def release(self) -> None:
        """No request uses any of them: give up the views of their memory."""
        for page in self._pages:
            page.memory.release()
        self._pages.clear()
        self._free.clear()


def _as_many(share: Callable[[int], Grant], pages: int) -> Grant:
    while True:
        try:
            return share(pages)
        except XenError as error:
            if error.errno != errno.ENOSPC or pages == 1:
                raise
            pages //= 2
