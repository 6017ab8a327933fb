"""What addresses of a program mean: lines of source, and names of memory."""

from __future__ import annotations

import bisect
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from xen_kernel.scenario import named

_VCPU_INFO, _VCPUS = 64, 32
_PENDING, _MASK = 0x800, 0xA00


class Symbols:
    """Those of one program."""

    def __init__(self, program: Path, kernel: Sequence[Path]) -> None:
        self._program = program
        self._kernel = [path.resolve() for path in kernel]
        self._lines: dict[int, str] = {}
        symbols = []
        for line in _output("nm", "-n", str(program)).split("\n"):
            fields = line.split()
            if len(fields) == 3 and fields[1] in "bBdDrR":
                symbols.append((int(fields[0], 16), fields[2]))
        self._addresses = [address for address, _ in symbols]
        self._names = [name for _, name in symbols]
        self._page = self._addresses[self._names.index("shared_info")]

    def memory(self, address: int) -> str:
        """A name for a word of memory."""
        if 0 <= (offset := address - self._page) < 4096:
            return _shared_info(offset)
        if (number := bisect.bisect(self._addresses, address) - 1) < 0:
            return hex(address)
        inside = address - self._addresses[number]
        name = self._names[number].partition(".")[0]
        return f"{name}+{inside}" if inside else name

    def resolve(self, sites: Iterable[int]) -> None:
        """Find the lines of many sites at once."""
        unknown = sorted({site for site in sites if site and site not in self._lines})
        if not unknown:
            return
        text = _output("addr2line", "-a", "-i", "-e", str(self._program), *map(hex, unknown))
        places: list[str] = []
        site = 0
        for line in [*text.split("\n"), "0x0"]:
            if line.startswith("0x"):
                if places:
                    self._lines[site] = self._best(places)
                site, places = int(line, 16), []
            elif line:
                places.append(line.partition(" (")[0])

    def line(self, site: int) -> str:
        """`file.c:41`, or nothing."""
        self.resolve([site])
        return self._lines.get(site, "")

    def _best(self, places: Sequence[str]) -> str:
        """Of the places that were inlined into one another, innermost first: the first that is in a
        file of the kernel's, or else in any C file."""
        files = [(Path(place.rpartition(":")[0]), place.rpartition(":")[2]) for place in places]
        known = [(path, line) for path, line in files if path.name != "??"]
        for path, line in known:
            if path.resolve() in self._kernel:
                return f"{named(path)}:{line}"
        for path, line in known:
            if path.suffix == ".c":
                return f"{named(path)}:{line}"
        return f"{named(known[0][0])}:{known[0][1]}" if known else ""


def _shared_info(offset: int) -> str:
    if offset < _VCPU_INFO * _VCPUS:
        vcpu, inside = divmod(offset, _VCPU_INFO)
        names = {0: "evtchn_upcall_pending", 1: "evtchn_upcall_mask", 8: "evtchn_pending_sel"}
        name = names.get(inside, f"vcpu_info+{inside}")
        return f"{name} of vCPU {vcpu}" if vcpu else name
    if _PENDING <= offset < _MASK:
        return f"evtchn_pending[{(offset - _PENDING) // 8}]"
    if _MASK <= offset < _MASK + 512:
        return f"evtchn_mask[{(offset - _MASK) // 8}]"
    return f"shared_info+{offset:#x}"


def _output(*command: str) -> str:
    done = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="surrogateescape", check=True
    )
    return done.stdout
