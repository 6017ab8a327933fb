"""Kernels in C, as tests ask for them: the lower halves that come along, and harnesses alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.needs import need_compiler
from support.places import TESTS
from xen_kernel import KERNELS, Limits, Scenario
from xen_kernel.engine import OUT_OF_STATES, Program

NAMES = sorted(path.stem for path in KERNELS.glob("*.c"))
DELIVERIES = ("vector", "callback", "pv")


def need_gcc() -> None:
    need_compiler("kernels in C", "gcc")


def of(name: str, fault: int = 0, **options: Any) -> Scenario:
    """A lower half that comes along, with one of its faults, or none."""
    return Scenario((KERNELS / f"{name}.c",), defines=(f"FAULT={fault}",), **options)


def looking(name: str, fault: int = 0, **options: Any) -> Scenario:
    """The same, and its harness notes every look of a guest at its item."""
    return of(name, fault, harness=TESTS / "kernels" / "looks.c", **options)


def harness_alone(folder: Path, text: str, **options: Any) -> Scenario:
    """No kernel: whatever is done is the harness's, whose text this is."""
    kernel, harness = folder / "kernel.c", folder / "harness.c"
    kernel.write_text("")
    harness.write_text(text)
    return Scenario((kernel,), harness=harness, **options)


def is_larger(than: int, asked: Program) -> bool:
    """Whether it has more states than so many."""
    result, _ = asked.search(Limits(states=than), goes_on=True)
    return result.result == OUT_OF_STATES


MANY = ("freebsd", "linux_2l", "linux_fifo")
"""Those that keep the ports of one vCPU from those of another."""

FAULTS: dict[tuple[str, int], dict[str, Any]] = {
    ("solo5", 1): {},
    ("solo5", 2): {},
    ("solo5", 3): {},
    ("solo5", 4): {},
    ("solo5", 5): {"ports": 2, "sends": 1},
    ("mini_os", 1): {},
    ("mini_os", 2): {"ports": 2, "sends": 1},
    ("mini_os", 3): {},
    ("mini_os", 4): {},
    ("mini_os", 5): {},
    ("linux_2l", 1): {},
    ("linux_2l", 2): {"vcpus": 2, "ports": 2, "sends": 1},
    ("linux_2l", 3): {"ports": 2, "sends": 1},
    ("linux_2l", 4): {},
    ("linux_2l", 5): {"ports": 2, "sends": 1},
    ("linux_fifo", 1): {"ports": 2, "sends": 1},
    ("linux_fifo", 2): {},
    ("linux_fifo", 3): {"ports": 2, "sends": 1},
    ("linux_fifo", 4): {"ports": 2, "sends": 1},
    ("freebsd", 1): {},
    ("freebsd", 2): {"ports": 2, "sends": 1},
    ("freebsd", 3): {},
    ("freebsd", 4): {},
    ("zephyr", 1): {"ports": 2, "sends": 1},
    ("zephyr", 2): {"ports": 2, "sends": 1},
    ("zephyr", 3): {},
    ("openbsd", 1): {"ports": 2, "sends": 1, "spread": True},
    ("openbsd", 2): {},
    ("openbsd", 3): {"ports": 2, "sends": 2, "spread": True},
    ("openbsd", 4): {"ports": 2, "sends": 1},
    ("turns", 1): {"ports": 2, "passes": 2},
    ("turns", 2): {"ports": 2, "sends": 1, "spread": True},
    ("turns", 3): {"ports": 2, "sends": 1},
}
"""In which scenario each is found: by the upcall vector, one port and two events else."""
