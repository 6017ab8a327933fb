"""The pages that a disk's data goes through: granted once, used over and over.

Granting costs a hypercall or two, and revoking must wait for the back end to unmap; so a front end
grants its pages when it begins, and keeps them granted until it ends, or until a suspend of its
domain ends all grants: then they are granted anew, with what is in them. A back end that knows
`feature-persistent` leaves them mapped; any other maps them for each request, which is as good.

How many there are is bounded, since a domain's grants are: Linux's gntalloc gives 1024 pages.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from activations.abi.blkif import SECTORS_PER_PAGE
from activations.abi.grant_table import PAGE_SIZE
from activations.drivers.block.protocol import Segment, encode_segments
from activations.errors import XenError
from activations.grants import Grant


@dataclass(slots=True, eq=False)
class Page:
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
        self._pages = [Page(*each) for each in _cut(grant)]
        self._free = self._pages.copy()
        return grant

    def lift(self) -> list[bytes]:
        """What is in each page, free or not. Their memory is given up, until `restock`."""
        content = [bytes(page.memory) for page in self._pages]
        for page in self._pages:
            page.memory.release()
        return content

    def restock(self, share: Callable[[int], Grant], content: list[bytes]) -> Grant:
        """Grant all pages anew, and put into them what they held.

        Raises `XenError` if the domain cannot grant as many as before.
        """
        grant = share(len(content))
        for page, (memory, ref, whole), held in zip(self._pages, _cut(grant), content, strict=True):
            memory[:] = held
            page.memory, page.ref, page.whole = memory, ref, whole
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


def _cut(grant: Grant) -> Iterator[tuple[memoryview, int, bytes]]:
    """What a page is made of, for each."""
    for at, ref in enumerate(grant.refs):
        memory = grant.memory[at * PAGE_SIZE : (at + 1) * PAGE_SIZE]
        yield memory, ref, encode_segments([Segment(ref, 0, SECTORS_PER_PAGE - 1)])


def _as_many(share: Callable[[int], Grant], pages: int) -> Grant:
    while True:
        try:
            return share(pages)
        except XenError as error:
            if error.errno != errno.ENOSPC or pages == 1:
                raise
            pages //= 2
