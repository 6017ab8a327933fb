"""Benchmarks on a real Xen under QEMU, beside a C program on libxenevtchn in the same boot.

The program is built here, against the headers of Debian's libxen-dev and the library that goes
with them, both unpacked into a temporary folder, and runs in dom0, whose image has the library.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path

from measure import Figure

from activations import scenario
from xen_lab import Lab, packages

HERE = Path(__file__).parent
PROGRAM = "/lab/linux_rates"


def build(folder: Path) -> Path:
    """The C program, built against libxenevtchn."""
    debs = packages.fetch(["libxen-dev", "libxenevtchn1"], folder, folder)
    for deb in debs.values():
        subprocess.run(["dpkg-deb", "-x", str(deb), str(folder / "root")], check=True)
    program = folder / "linux_rates"
    subprocess.run(
        [
            *("cc", "-O2", "-o", str(program), str(HERE / "linux_rates.c")),
            *("-I", str(folder / "root/usr/include")),
            *("-L", str(folder / "root/usr/lib/x86_64-linux-gnu"), "-lxenevtchn"),
            "-Wl,--allow-shlib-undefined",
        ],
        check=True,
    )
    return program


class Told:
    """An observer that says on standard error how far things are."""

    def progress(self, text: str) -> None:
        print(f"... {text}", flush=True)

    def line(self, domain: str, text: str) -> None:
        print(f"    {text}", flush=True)


@functools.cache
def rates() -> dict[str, float]:
    """What tests/benchmarks/linux_rates.py measures in dom0."""
    told = Told()
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder)).read_bytes()
    with Lab(extra_files={PROGRAM: program}, progress=told.progress) as lab:
        outcome = lab.run(scenario.load(str(HERE / "linux_rates.py")), told)
    if outcome.failures:
        raise SystemExit("\n".join(outcome.failures.values()))
    result: dict[str, float] = outcome.results["dom0"]
    return result


def ping_pong() -> list[Figure]:
    """Rates, as multiples of C's: the higher the better."""
    contenders = {
        "C, libxenevtchn": "C round trips/s",
        "this package's device, no loop": "bare round trips/s",
        "stock asyncio, add_reader": "asyncio round trips/s",
        "two tasks, two ports": "round trips/s",
    }
    base = rates()["C round trips/s"]
    return [
        Figure(name, rates()[key], "round trips a second", rates()[key] / base)
        for name, key in contenders.items()
    ]


def fan_in() -> list[Figure]:
    """Times, as multiples of C's: the lower the better."""
    base = rates()["C fan-in ms"]
    return [
        Figure("C, one read and one unmask an event", base, "ms for 1,024 ports", 1.0),
        Figure("1,024 ports awaited", rates()["fan-in ms"], "ms", rates()["fan-in ms"] / base),
    ]


BENCHMARKS = {"Ping-pong on a real Xen": ping_pong, "Fan-in on a real Xen": fan_in}
