"""Runs in dom0: makes probes and reads their reports, out of the guests' own memory.

    python3 in_dom0.py SECONDS FOLDER...

A folder has `module` and `guest`, xl's configuration, and where it is to have a peer `peer`, that
of another guest, which has to be done before the first begins; each is told the other's domid. The
report is written into `report` there, whatever becomes of the guest, as it stands in the end or
after so many seconds. While one guest
runs, the next is made. Of each, a line of JSON is printed: its domid, and what xl says of one that
still ran.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import mmap
import os
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

PAGE = 4096
REPORT = 0x1000000
HEADER = struct.Struct("<16Q")
MAGIC = 0x424F5250
OTHER = (3 + 12) * 8
"""Where in the report a guest is told of another: kernel/probe.h."""
RUNNING = 1
MMAPBATCH_V2 = 0x205004
"""IOCTL_PRIVCMD_MMAPBATCH_V2: {u32 num, u16 domid, u64 address, u64 *frames, int *errors}."""


class Guest:
    """A domain that xl has made."""

    def __init__(self, folder: Path, which: str = "guest") -> None:
        self.folder = folder
        name = f"{which}-{folder.name}"
        xl("create", "-q", "-p", "-e", str(folder / which), f"name='{name}'")
        self.domid = int(xl("domid", name))
        self._privcmd = os.open("/dev/xen/privcmd", os.O_RDWR | os.O_CLOEXEC)
        self._header = self._mapped(1)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        xl("destroy", str(self.domid))

    def unpause(self) -> None:
        xl("unpause", str(self.domid))

    def tell(self, other: Guest) -> None:
        """Whom else there is."""
        struct.pack_into("<Q", self._header, OTHER, other.domid)

    @property
    def words(self) -> tuple[int, ...]:
        """The header of its report: magic, state, used, and the task's own."""
        return HEADER.unpack_from(self._header)

    @property
    def runs(self) -> bool:
        magic, state, *_ = self.words
        return magic != MAGIC or state <= RUNNING

    def wait(self, seconds: float) -> None:
        """Until it says that it is done, or Xen that it is down."""
        begun = time.monotonic()
        looked = begun + 1
        while self.runs and (now := time.monotonic()) < begun + seconds:
            if now > looked + 1:
                if self.is_down:
                    break
                looked = time.monotonic()
            time.sleep(0.005)

    @property
    def is_down(self) -> bool:
        """Whether it has shut down, or crashed."""
        state = xl("list", str(self.domid)).split()[-2]
        return "s" in state or "c" in state

    def write_report(self) -> None:
        used = self.words[2]
        pages = -(-(HEADER.size + used) // PAGE)
        (self.folder / "report").write_bytes(self._mapped(pages)[: HEADER.size + used])

    def _mapped(self, pages: int) -> mmap.mmap:
        """The first pages of its report."""
        mapped = mmap.mmap(self._privcmd, pages * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        frames = (ctypes.c_uint64 * pages)(*range(REPORT // PAGE, REPORT // PAGE + pages))
        errors = (ctypes.c_int * pages)()
        asked = struct.pack(
            "<IHxxQQQ",
            *(pages, self.domid, address),
            *(ctypes.addressof(frames), ctypes.addressof(errors)),
        )
        fcntl.ioctl(self._privcmd, MMAPBATCH_V2, asked)
        assert not any(errors), f"frames of domain {self.domid} cannot be mapped: {errors[:4]}"
        return mapped


def peer(guest: Guest, seconds: float) -> Guest:
    """The other guest of one that has a peer, done."""
    other = Guest(guest.folder, "peer")
    other.tell(guest)
    guest.tell(other)
    other.unpause()
    other.wait(seconds)
    return other


def xl(*arguments: str) -> str:
    done = subprocess.run(["xl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"xl {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def main(seconds: float, folders: list[Path]) -> None:
    with ExitStack() as made:
        waiting = made.enter_context(Guest(folders[0]))
        for following in [*folders[1:], None]:
            guest = waiting
            if (guest.folder / "peer").exists():
                made.enter_context(peer(guest, seconds))
            guest.unpause()
            if following:
                waiting = made.enter_context(Guest(following))
            guest.wait(seconds)
            state = xl("list", str(guest.domid)) if guest.runs else ""
            guest.write_report()
            print(json.dumps([guest.domid, state]), flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), list(map(Path, sys.argv[2:])))
