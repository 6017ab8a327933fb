"""The lower halves in C that come along, as tests know them."""

from __future__ import annotations

from typing import Any

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
