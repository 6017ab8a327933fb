"""Block devices between domains, compatible with Linux's xen-blkfront and xen-blkback.

from activations.drivers import block

async with block.serve(xen, device, block.FileDisk("disk.img")) as end:  # in the driver domain
    await end.finished()

async with block.open(xen, device) as disk:                              # in the guest
    data = await disk.read(0, 4096)
"""

from activations.drivers.block.back import BlkBack, serve
from activations.drivers.block.disk import Disk
from activations.drivers.block.disks import MemoryDisk, ObjectDisk, ServedDisk
from activations.drivers.block.errors import (
    DiskError,
    DiskGone,
    ImageError,
    ImageInUse,
    ImageReadOnly,
    UnfitImage,
)
from activations.drivers.block.file import FileDisk
from activations.drivers.block.front import BlkFront, open
from activations.drivers.block.names import devid_of
from activations.drivers.block.nbd import NbdSource
from activations.drivers.block.nbd_connection import NbdError, NbdLost
from activations.drivers.block.protocol import BadRequest, BlockError
from activations.drivers.block.snapshot import SnapshotDisk
from activations.drivers.block.volatile import VolatileDisk
from activations.drivers.block.web import WebSource

__all__ = [
    "BadRequest",
    "BlkBack",
    "BlkFront",
    "BlockError",
    "Disk",
    "DiskError",
    "DiskGone",
    "FileDisk",
    "ImageError",
    "ImageInUse",
    "ImageReadOnly",
    "MemoryDisk",
    "NbdError",
    "NbdLost",
    "NbdSource",
    "ObjectDisk",
    "ServedDisk",
    "SnapshotDisk",
    "UnfitImage",
    "VolatileDisk",
    "WebSource",
    "devid_of",
    "open",
    "serve",
]


def __dir__() -> list[str]:
    return __all__
