"""What a file is that somebody gives for a raw image: the formats that are told by their first
bytes, or by their last.

Served as it lies on the disk, such a file is nonsense to the guest, and what the guest then writes
destroys it. So it is refused, with the command that makes a raw image of it. A guest can make its
own raw disk begin like anything, and then its owner has to insist that it is raw.

Sources: docs/interop/qcow2.txt, qed_spec.txt and parallels.txt of QEMU's; the specifications of
VHD, VHDX and VMDK; RFC 1952 (gzip) and RFC 8878 (Zstandard); bzip2's, xz's and LZ4's own.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is not raw."""

    name: str
    offset: int
    """Where its mark is; from the file's end, if negative."""
    mark: bytes
    converts: str
    """The command that makes a raw image of `{file}`, called `{raw}`."""

    def marks(self, fd: int, size: int) -> bool:
        offset = self.offset if self.offset >= 0 else size + self.offset
        return offset >= 0 and os.pread(fd, len(self.mark), offset) == self.mark

    def command(self, path: Path) -> str:
        """What to type to have a raw image of this file, beside it."""
        raw = path.with_suffix(".raw" if path.suffix in ("", ".img") else ".img")
        return self.converts.format(file=shlex.quote(str(path)), raw=shlex.quote(str(raw)))


def _qemu(name: str) -> str:
    """QEMU can read it, under this name."""
    return f"qemu-img convert -f {name} -O raw {{file}} {{raw}}"


def _unpacks(tool: str) -> str:
    return f"{tool} -dc {{file}} > {{raw}}"


FORMATS = (
    Format("qcow2", 0, b"QFI\xfb\0\0\0\3", _qemu("qcow2")),
    Format("qcow2", 0, b"QFI\xfb\0\0\0\2", _qemu("qcow2")),
    Format("qcow", 0, b"QFI\xfb", _qemu("qcow")),
    Format("QED", 0, b"QED\0", _qemu("qed")),
    Format("VHD", 0, b"conectix", _qemu("vpc")),
    Format("VHD", -SECTOR, b"conectix", _qemu("vpc")),
    Format("VHDX", 0, b"vhdxfile", _qemu("vhdx")),
    Format("VMDK", 0, b"KDMV", _qemu("vmdk")),
    Format("VMDK", 0, b"COWD", _qemu("vmdk")),
    Format("VMDK", 0, b"# Disk DescriptorFile", _qemu("vmdk")),
    Format("VDI", 64, b"\x7f\x10\xda\xbe", _qemu("vdi")),
    Format("Parallels", 0, b"WithouFreSpacExt", _qemu("parallels")),
    Format("Parallels", 0, b"WithoutFreeSpace", _qemu("parallels")),
    Format("gzip", 0, b"\x1f\x8b\x08", _unpacks("gzip")),
    Format("xz", 0, b"\xfd7zXZ\0", _unpacks("xz")),
    Format("Zstandard", 0, b"\x28\xb5\x2f\xfd", _unpacks("zstd")),
    Format("LZ4", 0, b"\x04\x22\x4d\x18", _unpacks("lz4")),
    Format("bzip2", 0, b"BZh", _unpacks("bzip2")),
)


def found_in(fd: int, size: int) -> Format | None:
    """The format of an open file of so many bytes; None where it looks like none of these."""
    return next((each for each in FORMATS if each.marks(fd, size)), None)
