"""Linux's own event code, explored: 139 MB are fetched for it once, and so it is long."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import linux_events
import pytest
from support.lower_halves import need_gcc
from support.needs import leave_out

from activations.errors import BackendError
from xen_kernel import decide
from xen_sim.explore.finding import LOST_WAKEUP
from xen_sim.explore.verdict import EXHAUSTED

need_gcc()

pytestmark = [
    *(pytest.mark.long, pytest.mark.once, pytest.mark.timeout(900)),
    pytest.mark.usefixtures("kernel_cache"),
]


@pytest.fixture(scope="module")
def linux() -> Path:
    try:
        return linux_events.sources()
    except BackendError as error:
        leave_out("Linux's event code", str(error))


@pytest.mark.parametrize(
    ("abi", "delivery"), list(product(linux_events.ABIS, linux_events.DELIVERIES))
)
def test_linux_loses_nothing_on_either_abi(linux: Path, abi: str, delivery: str) -> None:
    scenario = linux_events.scenario(linux, abi=abi, delivery=delivery, ports=2, sends=1)
    assert decide(scenario).kind == EXHAUSTED


@pytest.mark.parametrize("abi", linux_events.ABIS)
def test_with_bit_operations_that_are_not_locked_it_does(linux: Path, abi: str) -> None:
    scenario = linux_events.scenario(linux, abi=abi, ports=2, defines=("NO_LOCK",))
    assert [each.finding.kind for each in decide(scenario).found] == [LOST_WAKEUP]
