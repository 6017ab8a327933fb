"""Benchmarks on a real Xen under QEMU, beside C programs on Xen's own libraries in the same boot.

The programs are built here, against the headers of Debian's libxen-dev and the libraries that go
with them, all unpacked into a temporary folder, and run in domains whose image has the libraries.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

from measure import Figure

from activations import scenario
from xen_lab import Lab, Shape, packages

HERE = Path(__file__).parent
PROGRAMS = {"linux_rates": "xenevtchn", "vchan_rates": "xenvchan"}
"""C programs, and the library that each is on."""
KIB = 1 << 10
SECOND = {False: "a second", True: "500 million"}
"""What a rate is of: of time, or of instructions where those are the clock."""


def build(folder: Path) -> dict[str, bytes]:
    """The C programs, by their paths in the lab."""
    debs = packages.fetch(["libxen-dev", "libxenevtchn1", "libxenmisc4.17"], folder, folder)
    for deb in debs.values():
        packages.unpack(deb, folder / "root")
    return {f"/lab/{name}": _compile(folder, name, library) for name, library in PROGRAMS.items()}


def _compile(folder: Path, name: str, library: str) -> bytes:
    program = folder / name
    subprocess.run(
        [
            *("cc", "-O2", "-o", str(program), str(HERE / f"{name}.c")),
            *("-I", str(folder / "root/usr/include")),
            *("-L", str(folder / "root/usr/lib/x86_64-linux-gnu"), f"-l{library}"),
            "-Wl,--allow-shlib-undefined",
        ],
        check=True,
    )
    return program.read_bytes()


class Told:
    """An observer that says on standard error how far things are."""

    def progress(self, text: str) -> None:
        print(f"... {text}", flush=True)

    def line(self, domain: str, text: str) -> None:
        print(f"    {text}", flush=True)


@functools.cache
def rates(counted: bool) -> dict[str, float]:
    """What linux_rates.py and vchan_rates.py measure in dom0."""
    told = Told()
    with tempfile.TemporaryDirectory() as folder:
        programs = build(Path(folder))
    result: dict[str, float] = {}
    shape = Shape(counted=counted)
    with Lab(extra_files=programs, shape=shape, progress=told.progress) as lab:
        for name in PROGRAMS:
            outcome = lab.run(scenario.load(str(HERE / f"{name}.py")), told)
            if outcome.failures:
                raise SystemExit("\n".join(outcome.failures.values()))
            result |= outcome.results["dom0"]
    return result


def ping_pong(counted: bool) -> list[Figure]:
    """Rates, as multiples of C's: the higher the better."""
    found = rates(counted)
    contenders = {
        "C, libxenevtchn": "C round trips/s",
        "this package's device, no loop": "bare round trips/s",
        "stock asyncio, add_reader": "asyncio round trips/s",
        "two tasks, two ports": "round trips/s",
    }
    base = found["C round trips/s"]
    unit = f"round trips in {SECOND[counted]}"
    return [Figure(name, found[key], unit, found[key] / base) for name, key in contenders.items()]


def fan_in(counted: bool) -> list[Figure]:
    """Times, as multiples of C's: the lower the better."""
    found = rates(counted)
    base, ours = found["C fan-in ms"], found["fan-in ms"]
    return [
        Figure("C, one read and one unmask an event", base, "ms for 1,024 ports", 1.0),
        Figure("1,024 ports awaited", ours, "ms", ours / base),
    ]


def vchans(counted: bool) -> list[Figure]:
    """Rates, as multiples of C's through the same ring: the higher the better."""
    found = rates(counted)
    unit = f"MB in {SECOND[counted]}"
    figures = []
    for ring, size in product((16, 64, 256), (64, 4)):
        how = f"rings of {ring * KIB}, writes of {size * KIB}"
        base = found[f"C, {how}"]
        for kind in ("C", "Python"):
            name = f"{kind}, {size} KiB a write, rings of {ring} KiB"
            rate = found[f"{kind}, {how}"]
            figures.append(Figure(name, rate, unit, rate / base))
    return figures


KINDS = {"Ping-pong": ping_pong, "Fan-in": fan_in, "vchan": vchans}
BENCHMARKS = {
    f"{kind} on a real Xen{suffix}": partial(figures, counted)
    for counted, suffix in ((False, ""), (True, ", by instructions"))
    for kind, figures in KINDS.items()
}
