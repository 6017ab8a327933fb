"""Block devices between domains, compatible with Linux's xen-blkfront and xen-blkback.

`back` serves a disk to other domains; `front` uses one that is served to this domain.
"""

from activations.drivers.block.back import BlkBack
from activations.drivers.block.disk import Disk
from activations.drivers.block.disks import MemoryDisk, ObjectDisk, ServedDisk
from activations.drivers.block.errors import DiskError, DiskGone
from activations.drivers.block.file import FileDisk
from activations.drivers.block.names import devid_of
from activations.drivers.block.protocol import BadRequest, BlockError
from activations.drivers.block.volatile import VolatileDisk

__all__ = [
    "BadRequest",
    "BlkBack",
    "BlockError",
    "Disk",
    "DiskError",
    "DiskGone",
    "FileDisk",
    "MemoryDisk",
    "ObjectDisk",
    "ServedDisk",
    "VolatileDisk",
    "devid_of",
]


def __dir__() -> list[str]:
    return __all__
