"""QEMU's NBD server, as another program's end of the protocol."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from random import Random

from support.needs import leave_out

IMAGE = Random(3).randbytes(64 * 512)


class Qemu:
    """qemu-nbd with one disk, at a Unix socket."""

    def __init__(self, folder: Path, *options: str) -> None:
        if shutil.which("qemu-nbd") is None:
            leave_out("NBD with qemu-nbd", "apt-get install qemu-utils")
        self.file = folder / "disk.img"
        self.file.write_bytes(IMAGE)
        self.url = f"nbd+unix:///a%20disk?socket={folder / 's'}"
        self._pid = folder / "pid"
        self._command = (
            *("qemu-nbd", "--format=raw", "--export-name=a disk", "--persistent", "--shared=9"),
            *("--discard=unmap", f"--socket={folder / 's'}", f"--pid-file={self._pid}", "--fork"),
            *(*options, str(self.file)),
        )

    def start(self) -> None:
        """It listens when this is over."""
        subprocess.run(self._command, check=True, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        os.kill(int(self._pid.read_text()), signal.SIGKILL)

    def __enter__(self) -> Qemu:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
