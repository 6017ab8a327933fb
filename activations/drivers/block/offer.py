"""What a block back end says of itself and of its disk, read off its keys with suspicion."""

from __future__ import annotations

from dataclasses import dataclass

from activations.abi import blkif as abi
from activations.abi.blkif import SECTOR_SIZE, Info
from activations.drivers.block.protocol import BlockError
from activations.xenbus import Keys

_DISK = range(1 << 54)
"""Sectors: their bytes are counted in 63 bits everywhere."""
_SECTOR = range(SECTOR_SIZE, 1 << 20)


@dataclass(frozen=True, slots=True)
class Offer:
    """What rings a back end takes; said before there are any."""

    ring_order: int
    """Rings may be of 2^this pages."""
    queues: int

    @classmethod
    def of(cls, keys: Keys) -> Offer:
        """Raises `BadKey`."""
        return cls(keys.integer(abi.MAX_RING_PAGE_ORDER_KEY, 0), keys.integer(abi.MAX_QUEUES, 1))


@dataclass(frozen=True, slots=True)
class Geometry:
    """What the disk is, and what the back end does with it; said when the ends connect."""

    sectors: int = 0
    """Of 512 bytes."""
    sector_size: int = SECTOR_SIZE
    """Bytes that every request is to be aligned to."""
    read_only: bool = True
    flush: bool = False
    discard: bool = False
    max_indirect: int = 0
    """Segments of an indirect request; 0 where there are none."""

    @classmethod
    def of(cls, keys: Keys) -> Geometry:
        """Raises `MissingKey`, `BadKey`, and `BlockError` for a sector of an odd size."""
        sector_size = keys.integer(abi.SECTOR_SIZE_KEY, SECTOR_SIZE, within=_SECTOR)
        if sector_size & (sector_size - 1):
            raise BlockError(
                f"{keys.owner} has sectors of {sector_size} bytes: that must be a power of two"
            )
        return cls(
            sectors=keys.integer(abi.SECTORS, within=_DISK),
            sector_size=sector_size,
            read_only=bool(keys.integer(abi.INFO, 0) & Info.READONLY),
            flush=keys.flag(abi.FEATURE_FLUSH_CACHE),
            discard=keys.flag(abi.FEATURE_DISCARD),
            max_indirect=keys.integer(abi.MAX_INDIRECT_SEGMENTS, 0),
        )
