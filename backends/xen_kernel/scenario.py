"""What is explored: a kernel's files, and who does what to it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xen_kernel.errors import KernelError

HERE = Path(__file__).parent
KERNELS = HERE / "kernels"
"""Lower halves of this project's own, by name: `kernels/solo5.c`."""

HARNESS = HERE / "include" / "harness.c"
"""That of lower halves: include/lower_half.h."""

Delivery = Literal["vector", "callback", "pv"]
DELIVERIES: dict[str, int] = {"vector": 1, "callback": 2, "pv": 3}
Arch = Literal["x86", "arm64"]
ARCHES: dict[str, int] = {"x86": 1, "arm64": 2}
"""In whose order others see stores: enum processor in engine/engine.h."""
Abi = Literal["any", "2l", "fifo"]
ABIS: dict[str, int] = {"any": 0, "2l": 1, "fifo": 2}
_DEFINE = re.compile(r"[A-Za-z_$]\w*(\([^)]*\))?(=|$)")
MOST = {"vcpus": 4, "ports": 6, "sends": 200}


@dataclass(frozen=True, slots=True)
class Scenario:
    """Raises `KernelError` where there are more than the engine takes."""

    kernel: tuple[Path, ...]
    """The files, as they stand in their tree."""
    include: tuple[Path, ...] = ()
    """Folders with headers, the kernel's own or stand-ins for them; and files, to be included
    before everything else."""
    harness: Path = HARNESS
    """Who the peers are, what is produced and what must be seen: see include/explore.h."""
    defines: tuple[str, ...] = ()
    """`NAME` or `NAME=VALUE`."""
    delivery: Delivery = "vector"
    vcpus: int = 1
    ports: int = 1
    sends: int = 2
    """How many events each peer sends."""
    spread: bool = False
    """Whether each port has a selector's bit of its own: in one word, events hide each other's
    loss."""
    timer: bool = False
    """Whether the kernel sets timers, and they fire."""
    buffers: bool = False
    """Whether stores are seen late by others, as x86 allows it."""
    arch: Arch = "x86"
    """`arm64`: stores are seen late and in another order, as it allows that: engine/buffers.c."""
    passes: int = 0
    """Within how many passes of the demux a port is served that is pending and not masked. 0: it
    may wait for as long as others are served."""
    abi: Abi = "any"
    """What Xen offers. `2l` refuses `EVTCHNOP_init_control`, as an old Xen does; with `fifo` a
    kernel that does not ask for it is refused."""

    def __post_init__(self) -> None:
        if self.delivery not in DELIVERIES:
            ways = ", ".join(DELIVERIES)
            raise KernelError(f"Xen has no delivery {self.delivery!r}; it has: {ways}")
        if self.arch not in ARCHES:
            raise KernelError(
                f"there is no architecture {self.arch!r}; there are: {', '.join(ARCHES)}"
            )
        if self.arch == "arm64" and (self.buffers or self.delivery == "pv"):
            what = "--buffers are x86's" if self.buffers else "delivery 'pv' is x86's"
            raise KernelError(f"{what}: leave it out with arm64, whose stores are seen late always")
        for define in self.defines:
            if not _DEFINE.match(define):
                raise KernelError(f"--define {define}: it is NAME or NAME=VALUE, as gcc's -D")
        if self.abi not in ABIS:
            raise KernelError(f"Xen has no ABI {self.abi!r}; it has: {', '.join(ABIS)}")
        if not 0 <= self.passes <= 200:
            raise KernelError(f"{self.passes} passes: the engine takes 1 to 200")
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise KernelError(f"{getattr(self, name)} {name}: the engine takes 1 to {most}")
        agents = self.vcpus * (2 if self.timer else 1) + self.ports
        if agents > 12:
            raise KernelError(f"{agents} vCPUs, timers and peers: the engine takes 12 in all")

    @property
    def name(self) -> str:
        """The names of the kernel's files."""
        return ", ".join(map(named, self.kernel))

    @property
    def title(self) -> str:
        """Its name, and the scenario in a line."""
        return f"{self.name} {self.told}"

    @property
    def told(self) -> str:
        """The scenario in a line."""
        parts = [f"by {self.delivery}", _many(self.vcpus, "vCPU"), _many(self.ports, "port")]
        parts.append(_many(self.sends, "event") + (" each" if self.ports > 1 else ""))
        switches = {
            "in words of their own": self.spread,
            "a timer": self.timer,
            "store buffers": self.buffers,
            "arm64's order": self.arch == "arm64",
            f"served within {_many(self.passes, 'pass')}": bool(self.passes),
            f"{self.abi} alone": self.abi != "any",
        }
        parts += [said for said, is_on in switches.items() if is_on]
        return ", ".join(parts)

    def arguments(self) -> list[str]:
        """For the engine's program."""
        return [
            f"delivery={DELIVERIES[self.delivery]}",
            f"vcpus={self.vcpus}",
            f"ports={self.ports}",
            f"sends={self.sends}",
            f"spread={int(self.spread)}",
            f"timer={int(self.timer)}",
            f"order={ARCHES[self.arch] if self.buffers or self.arch == 'arm64' else 0}",
            f"passes={self.passes}",
            f"abi={ABIS[self.abi]}",
        ]


def named(path: Path) -> str:
    """A file's name, as it can be printed."""
    return os.fsencode(path.name).decode(errors="replace")


def _many(number: int, what: str) -> str:
    if number == 1:
        return f"{number} {what}"
    return f"{number} {what}{'es' if what.endswith('s') else 's'}"
