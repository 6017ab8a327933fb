"""QEMU: the one installed here, or else Debian 12's, fetched into the cache.

The fetched one is never installed: its own dynamic linker starts it on its own libraries, so it
runs as any user on any x86-64 Linux, and is at hand where the installed one is too new.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from activations.errors import BackendError
from xen_lab import cache, packages

PROGRAM = "qemu-system-x86_64"
PACKAGE = "qemu-system-x86"
MEND = f"apt-get install {PACKAGE}"
FAULTY_FROM = 10
"""QEMU's major version since which a PVHv2 guest dies at once (seen on 10.0; 7.2 works)."""

LINKER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
"""Under its own name: the one in `lib64` is a link to an absolute path, so to the machine's linker,
and another Debian's is none for this C library."""
LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
MODULES = "usr/lib/x86_64-linux-gnu/qemu"
FIRMWARE = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
BINARY = f"usr/bin/{PROGRAM}"


@dataclass(frozen=True, slots=True)
class Qemu:
    """A QEMU that can be run: the words to start it with, and what it wants in the environment."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def version(self) -> str:
        """Its version, as `7.2.22`. Raises `BackendError` if it does not run."""
        environment = {**os.environ, **self.environment}
        try:
            said = subprocess.run(
                [*self.command, "--version"],
                capture_output=True,
                text=True,
                timeout=30,
                env=environment,
            ).stdout
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BackendError(f"{self.command[0]} does not run ({error}): {MEND}") from error
        found = re.search(r"version (\d+(?:\.\d+)*)", said)
        if found is None:
            raise BackendError(f"{self.command[0]} does not say its version: {MEND}")
        return found[1]


def installed() -> Qemu | None:
    """The QEMU on the path, whatever its version."""
    path = shutil.which(PROGRAM)
    return Qemu((path,)) if path else None


def serves(version: str) -> bool:
    """Whether guests live on a QEMU of this version."""
    return int(version.partition(".")[0]) < FAULTY_FROM


def ensure(progress: cache.Progress, folder: Path) -> tuple[Qemu, str]:
    """The QEMU to use and its version: the installed one if it serves, else the fetched one.

    Raises `BackendError` naming the mending command.
    """
    here = installed()
    if here is not None and serves(version := here.version()):
        return here, version
    try:
        keep(progress, folder)
    except BackendError as error:
        raise BackendError(f"{PROGRAM} is not here ({error}). With root: {MEND}") from error
    kept = _unpacked(where(folder))
    return kept, kept.version()


def keep(progress: cache.Progress, folder: Path, *, refresh: bool = False) -> None:
    """Have a QEMU in the cache; with `refresh`, the one that Debian has now."""
    build = partial(_build, progress, folder, refresh)
    cache.keep(where(folder), build, progress, refresh=refresh)


def newest(folder: Path) -> dict[str, str]:
    """The versions of the packages that a QEMU fetched now would be made of."""
    return packages.newest_with_dependencies(PACKAGE, folder / "apt")


def fetched(folder: Path) -> Qemu | None:
    """The QEMU in the cache, if it is there and whole."""
    kept = where(folder)
    return _unpacked(kept) if cache.peek(kept) else None


def where(folder: Path) -> Path:
    """The place of the fetched one in a cache folder."""
    return folder / "qemu"


def _unpacked(root: Path) -> Qemu:
    libraries = ":".join(str(root / place) for place in LIBRARIES)
    firmware = [word for place in FIRMWARE for word in ("-L", str(root / place))]
    command = (str(root / LINKER), "--library-path", libraries, str(root / BINARY), *firmware)
    return Qemu(command, {"QEMU_MODULE_DIR": str(root / MODULES)})


def _build(
    progress: cache.Progress, folder: Path, fresh: bool, work: Path, result: Path
) -> dict[str, str]:
    debs, root = work / "debs", work / "root"
    debs.mkdir()
    root.mkdir()
    progress("fetching QEMU from Debian's packages (40 MB, once)")
    found = packages.fetch_with_dependencies(PACKAGE, debs, folder / "apt", fresh=fresh)
    for package in found.values():
        packages.unpack(package, root)
    shutil.rmtree(root / "usr/lib/x86_64-linux-gnu/gconv", ignore_errors=True)
    for place in (*LIBRARIES, *FIRMWARE):
        shutil.copytree(root / place, result / place, symlinks=True, dirs_exist_ok=True)
    for place in (BINARY, LINKER):
        (result / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / place, result / place)
    return {name: packages.version(package) for name, package in found.items()}
