"""The probe's kernel, compiled where the tests run.

Xen's public headers are Debian's, from the package libxen-dev: nothing of them is kept here. The
compiler is any for x86-64, and no C library is needed.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.debian import unpacked
from support.needs import need_compiler

from . import halves, steps

WHAT = "the probe on a real Xen"
KERNEL = Path(__file__).resolve().parent / "kernel"
FLAGS = (
    *("-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"),
    *("-ffreestanding", "-fno-pic", "-no-pie", "-mno-red-zone", "-mgeneral-regs-only"),
    *("-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables"),
    *("-fno-tree-loop-distribute-patterns", "-fno-strict-aliasing"),
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
)
LINK = (
    *("-nostdlib", "-static", "-Wl,-z,max-page-size=4096", "-Wl,--no-warn-rwx-segments"),
    *("-Wl,--build-id=none", "-s"),
)


def kernel(folder: Path) -> bytes:
    """The kernel as an ELF file, made in this folder. Where something is missing for it, the test
    is left out."""
    need_compiler(WHAT)
    headers = unpacked(WHAT, ["libxen-dev"]) / "usr/include"
    (folder / "kinds.h").write_text(steps.header())
    made = folder / "probe"
    sources = [*KERNEL.glob("*.c"), KERNEL / "boot.S", *halves.objects(FLAGS, folder)]
    places = (f"-I{headers}", f"-I{folder}", f"-I{KERNEL}", "-T", KERNEL / "link.ld")
    subprocess.run(["cc", *FLAGS, *LINK, *places, "-o", made, *sources], check=True)
    return made.read_bytes()
