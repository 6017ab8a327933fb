"""What `attach block` can serve: a file, memory, or what is at a URL, and a snapshot of each."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from activations.abi.blkif import SECTOR_SIZE
from activations.cli.output import size
from activations.cli.served import who_has
from activations.domain import Domain
from activations.drivers.block import (
    FileDisk,
    MemoryDisk,
    NbdSource,
    ServedDisk,
    SnapshotDisk,
    WebSource,
)
from activations.drivers.block.errors import ImageError, ImageReadOnly
from activations.drivers.block.nbd import parse
from activations.errors import ActivationsError


class CannotServe(ActivationsError):
    """What is to be served cannot be: it is not there, or somebody else has it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for: one of the first three."""

    file: Path | None = None
    memory: int | None = None
    """Bytes."""
    url: str | None = None
    read_only: bool = False
    format: Literal["raw"] | None = None
    snapshot: bool = False

    async def open(self, xen: Domain) -> tuple[ServedDisk, str, AsyncExitStack]:
        """The disk, what it is in words, and what closes it. Raises `CannotServe`."""
        async with AsyncExitStack() as undo:
            disk, what = await self._below(xen, undo)
            if self.snapshot:
                disk, what = undo.enter_context(_snapshot(disk)), f"a snapshot of {what}"
            return disk, what, undo.pop_all()

    async def _below(self, xen: Domain, undo: AsyncExitStack) -> tuple[ServedDisk, str]:
        if self.url is not None:
            return await _fetched(self.url, undo), self.url
        if self.file is None:
            return memory_disk(self.memory or 0), f"{size(self.memory or 0)} of memory"
        read_only = self.read_only or self.snapshot
        if has := await who_has(xen, self.file, read_only):
            raise CannotServe(f"{self.file} is in use: it is {has} (xl block-detach)")
        disk = undo.enter_context(file_disk(self.file, read_only, self.format))
        return disk, f"{self.file}{_filled_up(disk)}"


def memory_disk(length: int) -> MemoryDisk:
    """So much memory. Raises `CannotServe`."""
    try:
        return MemoryDisk(length)
    except (MemoryError, OverflowError):
        raise CannotServe(
            f"this machine has no {size(length)} of memory left: give a smaller --memory, or a file"
        ) from None


def file_disk(file: Path, read_only: bool, format: Literal["raw"] | None = None) -> FileDisk:
    """A raw image or a block device. Raises `CannotServe`."""
    try:
        return FileDisk(file, read_only=read_only, format=format)
    except ImageReadOnly as error:
        raise CannotServe(f"{error} (to serve it without writing: --read-only)") from None
    except ImageError as error:
        raise CannotServe(str(error)) from None
    except OSError as error:
        raise CannotServe(f"{file}: {error.strerror}") from None


async def _fetched(url: str, undo: AsyncExitStack) -> ServedDisk:
    source = NbdSource(url) if url.startswith("nbd") else WebSource(url)
    try:
        disk = await undo.enter_async_context(source)
    except OSError as error:
        raise CannotServe(error.strerror or f"{url}: {error}") from None
    if not disk.sectors:
        raise CannotServe(f"{url} is empty: a disk has a sector at least")
    return disk


def is_source(url: str) -> bool:
    """Whether it is a URL that can be served."""
    try:
        if url.startswith("nbd"):
            return bool(parse(url))
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, say
        return False


def _snapshot(disk: ServedDisk) -> SnapshotDisk:
    try:
        return SnapshotDisk(disk)
    except OSError as error:
        raise CannotServe(f"there can be no layer for a snapshot: {error}") from None


def _filled_up(disk: FileDisk) -> str:
    lacks = disk.sectors * SECTOR_SIZE - disk.size
    return f" and {lacks} zeroes that fill its last sector" if lacks else ""
