"""What tests take from Debian's packages: programs of Xen's, and what C programs are built with.

Nothing is installed. It is fetched once, and kept. Where it cannot be had, `what` is left out.
"""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from activations.errors import BackendError
from support import places
from support.needs import leave_out, need_compiler
from xen_lab import packages

KEPT = places.KEPT / "debian"
"""In pytest's cache: `--cache-clear` frees it."""


def kept(name: str, make: Callable[[Path], None]) -> Path:
    """A folder, and in it what `make` makes there when it is first asked for. Of several processes
    of tests one makes it, and the others wait."""
    KEPT.mkdir(parents=True, exist_ok=True)
    place = KEPT / name
    with (KEPT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with TemporaryDirectory(dir=KEPT) as work:
                made = Path(work) / name
                made.mkdir()
                make(made)
                made.rename(place)
    return place


def unpacked(what: str, names: Sequence[str]) -> Path:
    """The root of a file system in which these packages are."""

    def make(root: Path) -> None:
        with TemporaryDirectory() as folder:
            try:
                found = packages.fetch(names, Path(folder), Path(folder) / "apt")
            except BackendError as error:
                leave_out(what, str(error))
            for package in found.values():
                packages.unpack(package, root)

    return kept("+".join(names), make)


def source(what: str, name: str) -> Path:
    """The archive of a source package's upstream."""

    def make(folder: Path) -> None:
        with TemporaryDirectory() as state:
            try:
                packages.fetch_source(name, folder, Path(state))
            except BackendError as error:
                leave_out(what, str(error))

    return min(kept(f"{name}-source", make).glob("*.orig.tar.*"))  # its signature is longer


def compiled(what: str, program: Path, root: Path, *arguments: str | Path) -> Path:
    """A C program, made with the headers and libraries of packages that were `unpacked`."""
    need_compiler(what)
    places = [f"-I{root}/usr/include", *(f"-L{each}" for each in root.glob("usr/lib/*-linux-gnu*"))]
    subprocess.run(["cc", "-O2", "-Wall", "-o", program, *places, *arguments], check=True)
    return program
