"""A ring of bytes in shared memory: xenstore's, the console's, vchan's.

Two u32 indices run freely and wrap at 2^32; the byte at index i lies at i modulo the size, which
is a power of two. The producer alone moves `prod`, the consumer alone `cons`, so that neither
needs a lock: bytes are stored before the index that announces them, and taken before the index
that frees them. The other end may be hostile: an index is read once, then checked, then used.

    cons                    prod
     v                       v
     [ bytes to be consumed  ) room for size - (prod - cons) more

Nothing here waits or notifies; that is for the skin above.
"""

from __future__ import annotations

from activations.errors import ActivationsError

__all__ = ["ByteRing", "RingError"]


def __dir__() -> list[str]:
    return __all__


_U32 = 0xFFFFFFFF


class RingError(ActivationsError):
    """The other end broke the ring: more bytes between its indices than it holds."""


class ByteRing:
    """One direction of bytes, for either end.

    `data` is the ring's bytes, its length a power of two. `control` is the memory that holds the
    indices, `cons` and `prod` their offsets in it, multiples of 4. Both may be views of one page.
    Every method raises `RingError` if the indices are further apart than the ring is long.
    """

    __slots__ = ("_cons", "_data", "_indices", "_prod", "size")

    def __init__(self, data: memoryview, control: memoryview, *, cons: int, prod: int) -> None:
        self.size: int = len(data)
        if self.size & (self.size - 1) or not self.size:
            raise ValueError(f"a ring of {self.size} bytes: its size must be a power of two")
        self._data = data
        # one aligned load or store an index: the struct module would go byte by byte, and the
        # other end could see half of an index
        self._indices = control.cast("I")
        self._cons = cons // 4
        self._prod = prod // 4

    @property
    def used(self) -> int:
        """Bytes to be consumed."""
        return self._span()[1]

    @property
    def free(self) -> int:
        """Bytes there is room for."""
        return self.size - self._span()[1]

    def read(self, limit: int | None = None, *, in_one_piece: bool = False) -> bytes:
        """Consume what there is, at most `limit` bytes, and `in_one_piece` only what lies before
        the ring's end; empty if there is nothing."""
        cons, used = self._span()
        count = used if limit is None else min(used, limit)
        if not count:
            return b""
        start = cons & (self.size - 1)
        if in_one_piece:
            count = min(count, self.size - start)
        data = bytes(self._data[start : start + count])
        if len(data) < count:
            data += bytes(self._data[: count - len(data)])
        self._indices[self._cons] = (cons + count) & _U32
        return data

    def write(self, data: bytes | bytearray | memoryview, *, in_one_piece: bool = False) -> int:
        """Produce as much of `data` as there is room for, and `in_one_piece` only before the ring's
        end; give how many bytes that was."""
        size, wanted, indices = self.size, len(data), self._indices
        cons, prod = indices[self._cons], indices[self._prod]
        count = size - ((prod - cons) & _U32)
        if count < 0:
            raise self._broken(cons, prod)
        if wanted < count:
            count = wanted
        if not count:
            return 0
        start = prod & (size - 1)
        head = size - start
        if in_one_piece:
            count = min(count, head)
        if count <= head:
            self._data[start : start + count] = data if count == wanted else data[:count]
        else:
            self._data[start:] = data[:head]
            self._data[: count - head] = data[head:count]
        indices[self._prod] = (prod + count) & _U32
        return count

    def release(self) -> None:
        """Give up the views of the memory: it cannot be unmapped while one lives."""
        self._data.release()
        self._indices.release()

    def _span(self) -> tuple[int, int]:
        cons, prod = self._indices[self._cons], self._indices[self._prod]
        used = (prod - cons) & _U32
        if used > self.size:
            raise self._broken(cons, prod)
        return cons, used

    def _broken(self, cons: int, prod: int) -> RingError:
        return RingError(
            f"the other end claims {(prod - cons) & _U32} bytes in a ring of {self.size}: "
            f"cons {cons:#x}, prod {prod:#x}"
        )
