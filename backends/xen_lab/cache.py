"""The cache folder: what is made once, checked at every use, and made anew when damaged.

Each thing is a folder with a manifest. It is built aside and renamed into place under a lock, so
that neither a crash nor a second process leaves half of one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from activations.errors import BackendError
from xen_lab.manifest import Damaged, Manifest

Progress = Callable[[str], None]
Build = Callable[[Path, Path], dict[str, str]]
"""Given a folder to work in and one to fill; gives the versions of the packages it used."""

NEEDED = 700 << 20
"""Bytes of disk while something is made; 250 MB stay."""

MAKING = "making-"
"""How the folders are called in which something is being made, or was when its maker crashed."""


def default() -> Path:
    """The cache folder: `$XDG_CACHE_HOME/activations/lab`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "activations" / "lab"


def peek(folder: Path) -> Manifest | None:
    """The manifest of what is there and whole in size, or None; changes nothing."""
    try:
        return Manifest.check(folder)
    except Damaged:
        return None


def keep(
    folder: Path,
    build: Build,
    progress: Progress,
    *,
    refresh: bool = False,
    verify: bool = False,
) -> Manifest:
    """Have a thing in the cache, made now if it is not there.

    `refresh` makes it anew; `verify` reads every file to compare its hash. What turns out to be
    damaged is made anew, and `progress` hears of it. Raises `BackendError` when it cannot be made.
    """
    with _locked(folder.parent):
        if not refresh and folder.exists():
            try:
                return Manifest.check(folder, hashes=verify)
            except Damaged as damage:
                progress(f"{folder} is damaged ({damage}): making it anew")
        return _make(folder, build)


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """While the block runs, nothing in this cache folder is replaced or removed by others."""
    with _open_lock(folder, "in-use") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def unused(folder: Path) -> Iterator[None]:
    """While the block runs, no lab begins to run from this cache folder.

    Raises `BackendError` if one runs already.
    """
    with _open_lock(folder, "in-use") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackendError(f"a lab runs from {folder}: end it first") from None
        yield


def remove(folder: Path, paths: Iterable[Path]) -> None:
    """Remove what was kept, and what a crash left; not while something is being made."""
    with _locked(folder):
        for path in paths:
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise BackendError(f"cannot remove {path}: {error}") from error


def _open_lock(cache: Path, name: str) -> IO[str]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        return (cache / name).open("a+")
    except OSError as error:
        raise BackendError(
            f"cannot write to the lab's cache ({error}): set XDG_CACHE_HOME to a folder of yours"
        ) from error


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    """One process at a time; the lock goes with the process."""
    with _open_lock(cache, "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache.glob(f"{MAKING}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _make(folder: Path, build: Build) -> Manifest:
    cache = folder.parent
    free = shutil.disk_usage(cache).free
    if free < NEEDED:
        raise BackendError(
            f"the lab needs {NEEDED >> 20} MB to make its image and {cache} has {free >> 20} MB "
            "left: free some, or set XDG_CACHE_HOME to a folder with more room"
        )
    with TemporaryDirectory(prefix=MAKING, dir=cache) as making:
        work = Path(making)
        result = work / "result"
        result.mkdir()
        manifest = Manifest.record(result, build(work, result))
        if folder.exists():
            folder.rename(work / "old")
        result.rename(folder)
    return manifest
