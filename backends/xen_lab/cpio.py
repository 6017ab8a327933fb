"""The `newc` archive, which is what Linux unpacks as an initramfs.

Written here because it is forty lines and saves asking for the `cpio` tool. Archives may be laid
one after another: the kernel unpacks them in order, so a later file replaces an earlier one.
Everything belongs to root, for any user that runs this, and times are zero, so equal trees give
equal bytes.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

TRAILER = "TRAILER!!!"


class Writer:
    """Writes entries to a binary stream; `close` ends the archive (not the stream)."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._inode = 0
        self._folders: set[str] = set()

    def folder(self, path: str, mode: int = 0o755) -> None:
        """A folder, and those above it. Asking again for one that is there does nothing."""
        path = path.strip("/")
        if not path or path in self._folders:
            return
        self.folder(str(Path(path).parent).strip("."))
        self._folders.add(path)
        self._entry(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A file of these bytes, in folders made as needed."""
        self._below_folder(path, stat.S_IFREG | mode, data)

    def symlink(self, path: str, target: str) -> None:
        self._below_folder(path, stat.S_IFLNK | 0o777, target.encode())

    def tree(self, root: Path, into: str = "") -> None:
        """Everything below a folder of this machine, in the order of the names."""
        for item in sorted(root.iterdir()):
            path = f"{into}/{item.name}"
            if item.is_symlink():
                self.symlink(path, str(item.readlink()))
            elif item.is_dir():
                self.folder(path)
                self.tree(item, path)
            else:
                self.file(path, item.read_bytes(), item.stat().st_mode & 0o777)

    def close(self) -> None:
        """The trailer, padded to a whole number of 512-byte blocks."""
        self._inode = -1
        self._entry(TRAILER, 0, b"")
        self._out.write(bytes(-self._out.tell() % 512))

    def _below_folder(self, path: str, mode: int, data: bytes) -> None:
        path = path.strip("/")
        self.folder(str(Path(path).parent).strip("."))
        self._entry(path, mode, data)

    def _entry(self, path: str, mode: int, data: bytes) -> None:
        self._inode += 1
        name = path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        self._out.write(header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4))
