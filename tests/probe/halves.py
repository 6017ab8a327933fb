"""The lower halves that the probe has: those of `xen_kernel.KERNELS`, the same files that the
engine explores, each with each of its faults, in one kernel.

Each is compiled by itself, as a user's kernel would be, and its names get its own before them.
Their data lie in one section, so that a round can begin as a boot does.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xen_kernel import KERNELS

INCLUDE = KERNELS.parent / "include"
GIVES = ("takes_in_handler", "start", "upcall", "demux", "bound", "unmask", "block")
"""What the contract has of each, without `lower_half_`: include/lower_half.h."""


class Half(NamedTuple):
    """A lower half, with one of its faults; 0 is none."""

    name: str
    fault: int


def faults(name: str) -> list[int]:
    """The faults that a file says can be planted in it."""
    text = (KERNELS / f"{name}.c").read_text()
    return sorted({int(number) for number in re.findall(r"FAULT [!=]= (\d)", text)})


NAMES = sorted(path.stem for path in KERNELS.glob("*.c"))
HALVES = [Half(name, fault) for name in NAMES for fault in (0, *faults(name))]


def objects(flags: Sequence[str], folder: Path) -> list[Path]:
    """All of them, compiled into this folder, where table.h is written too."""
    made = []
    for number, half in enumerate(HALVES):
        path = folder / f"half{number}.o"
        source = KERNELS / f"{half.name}.c"
        command = ["cc", *flags, f"-DFAULT={half.fault}", f"-I{INCLUDE}", "-c", str(source)]
        subprocess.run([*command, "-o", path], check=True)
        renamed = [f"--redefine-sym=lower_half_{each}=half{number}_{each}" for each in GIVES]
        renamed.append(f"--redefine-sym=lower_half_mask=half{number}_mask")
        sections = [
            f"--rename-section={each}=halves,alloc,load,data,contents" for each in (".data", ".bss")
        ]
        subprocess.run(["objcopy", *renamed, *sections, path], check=True)
        made.append(path)
    (folder / "table.h").write_text(_table())
    return made


def _table() -> str:
    lines = []
    for number in range(len(HALVES)):
        one = f"half{number}"
        lines += [
            f"extern const int {one}_takes_in_handler;",
            f"void {one}_start(unsigned), {one}_upcall(unsigned), {one}_demux(unsigned);",
            f"void {one}_bound(unsigned, unsigned), {one}_unmask(unsigned);",
            f"void {one}_block(unsigned, int);",
        ]
    lines.append("static const struct half halves[] = {")
    for number in range(len(HALVES)):
        gives = ", ".join(f"half{number}_{each}" for each in GIVES[1:])
        lines.append(f"\t{{ &half{number}_takes_in_handler, {gives} }},")
    return "\n".join([*lines, "};\n"])
