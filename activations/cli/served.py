"""Which guest has an image already, from another back end of this domain: Xen's own.

Linux's back end for disks, and QEMU where it is one, lock nothing. What they serve is in xenstore,
and Xen's own scripts look there before they serve a disk that would be written by two.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from activations.abi.xenstore_paths import back_ends
from activations.domain import Domain
from activations.drivers.block.names import name_of
from activations.store import StoreError

KINDS = ("vbd", "qdisk")
"""Linux's back end, and QEMU."""


async def who_has(xen: Domain, file: Path, read_only: bool) -> str | None:
    """The guest's disk that this file or block device is, in words; None where it is none, or both
    only read."""
    async for folder, nodes in _disks(xen):
        only_reads = read_only and nodes.get("mode", "w").startswith("r")
        if not only_reads and _is(file, nodes):
            domid, devid = folder.split("/")[-2:]
            return f"{name_of(int(devid))} of domain {domid}"
    return None


def _is(file: Path, nodes: dict[str, str]) -> bool:
    with suppress(OSError):
        this = file.stat()
        if stat.S_ISBLK(this.st_mode):
            number = f"{os.major(this.st_rdev):x}:{os.minor(this.st_rdev):x}"
            return nodes.get("physical-device") == number
        served = nodes.get("params", "").rpartition(":")[2]  # QEMU's has a format before it
        return served.startswith("/") and os.path.samestat(this, Path(served).stat())
    return False


async def _disks(xen: Domain) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """What this domain serves: the back end's folder, and what is in it."""
    for kind in KINDS:
        top = back_ends(xen.domid, kind)
        for guest in await _below(xen, top):
            for devid in await _below(xen, guest):
                names = await _below(xen, devid)
                yield devid, {each.rpartition("/")[2]: await _value(xen, each) for each in names}


async def _below(xen: Domain, path: str) -> list[str]:
    with suppress(StoreError):  # there is none, or it went away
        return [f"{path}/{name}" for name in await xen.store.list(path)]
    return []


async def _value(xen: Domain, path: str) -> str:
    with suppress(StoreError):
        return await xen.store.read(path)
    return ""
