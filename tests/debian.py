"""What tests take from Debian's packages: programs of Xen's, and what C programs are built with.

Nothing is installed. Where it cannot be had, `what` is left out.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from needs import leave_out

from activations.errors import BackendError
from xen_lab import packages


def unpacked(what: str, names: Sequence[str], folder: Path) -> Path:
    """The root of a file system in which these packages are."""
    try:
        for package in packages.fetch(names, folder, folder / "apt").values():
            packages.unpack(package, folder / "root")
    except BackendError as error:
        leave_out(what, str(error))
    return folder / "root"


def source(what: str, name: str, folder: Path) -> Path:
    """The archive of a source package's upstream."""
    try:
        files = packages.fetch_source(name, folder, folder / "apt")
    except BackendError as error:
        leave_out(what, str(error))
    return next(file for file in files if ".orig.tar." in file.name)


def compiled(what: str, program: Path, root: Path, *arguments: str | Path) -> Path:
    """A C program, made with the headers and libraries of packages that were `unpacked`."""
    need_compiler(what)
    places = [f"-I{root}/usr/include", *(f"-L{each}" for each in root.glob("usr/lib/*-linux-gnu*"))]
    subprocess.run(["cc", "-O2", "-Wall", "-o", program, *places, *arguments], check=True)
    return program


def need_compiler(what: str) -> None:
    if shutil.which("cc") is None:
        leave_out(what, "needs a C compiler: apt-get install gcc libc6-dev")
