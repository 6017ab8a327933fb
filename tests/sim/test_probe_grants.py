"""Grant tables: two bare guests of ours on a real Xen, against the simulator: see docs/truth.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest
from probe import compare, grants, planted, simulated
from probe.compare import Recording
from probe.lab import Probe
from probe.steps import COPY, ProbeKind
from support import probed
from support.drawn import by_turns, drawn
from xen_oracle.program import Step

from activations.abi import grant_table as abi
from activations.abi.grant_table import GntStatus, Op
from xen_lab import Lab

ENOUGH = 5_000
"""Steps in which every planted fault shows."""
SEEN = (
    *(GntStatus.OKAY, GntStatus.GENERAL_ERROR, GntStatus.BAD_DOMAIN, GntStatus.BAD_GNTREF),
    *(GntStatus.BAD_HANDLE, GntStatus.BAD_VIRT_ADDR, GntStatus.PERMISSION_DENIED),
    *(GntStatus.BAD_PAGE, GntStatus.BAD_COPY_ARG),
)
"""The statuses that programs meet. Bus addresses and transfers are not for such a guest; its own
table, in which it swaps, is used by nobody."""
STATUSES = {
    Op.MAP_GRANT_REF: (abi.MAP_GRANT_REF, 4),
    Op.UNMAP_GRANT_REF: (abi.UNMAP_GRANT_REF, 3),
    Op.COPY: (COPY, -1),
    Op.SWAP_GRANT_REF: (abi.SWAP_GRANT_REF, 2),
    Op.SETUP_TABLE: (abi.SETUP_TABLE, 2),
    Op.QUERY_SIZE: (abi.QUERY_SIZE, 3),
}


def test_programs_of_grants_have_every_operation_and_every_status() -> None:
    guest, steps = grants.asked(12_000, seed=1)
    answers = simulated.answers(steps, guest.delivery, with_peer=guest.peer)
    operations, statuses = set(), set()
    for step, answer in zip(steps, answers, strict=True):
        if step.kind != ProbeKind.GRANT_TABLE_OP:
            continue
        command = step.number & 0xFFFF
        operations.add(command)
        structure, status = STATUSES.get(Op(command) if command < 13 else Op.DUMP_TABLE, (None, 0))
        if structure and answer.result == 0 and len(answer.argument) == structure.size:
            statuses.add(structure.unpack(answer.argument)[status])
    assert operations >= {*Op}
    assert statuses >= {*SEEN}


def test_a_machine_that_could_be_preempted_grants_the_same() -> None:
    steps = [step for program in islice(grants.programs(3), 10) for step in program]
    plain, explored = (
        simulated.answers(steps, "none", with_peer=True, explore=explore)
        for explore in (False, True)
    )
    assert plain == explored


# On a real Xen


probe = probed.probe


MENDED = (4, 17, 7)
"""Xen's version. An older one (4.17.5) copies to the page that a grant's reader has mapped, though
the entry names another one by now."""


@pytest.fixture(scope="module")
def recordings(lab: Lab, probe: Probe) -> list[Recording]:
    has = lab.facts["xen"]
    assert tuple(map(int, re.findall(r"\d+", has)[:3])) >= MENDED, (
        f"this lab's Xen is {has}, and the simulator copies as a newer one does: have apt know "
        "Debian's security updates, then `activations lab refresh`"
    )
    return compare.record(probe.programs, [grants.asked(20_000, seed=2026)])


@pytest.mark.lab
def test_grants_of_the_simulator_never_differ_from_a_real_xens(
    probe: Probe, recordings: Sequence[Recording]
) -> None:
    assert compare.agree(probe.programs, recordings) >= 20_000


@pytest.mark.lab
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", drawn(1))
def test_grants_of_the_simulator_never_differ_in_many_steps(probe: Probe, seed: int) -> None:
    some = [grants.asked(10_000, 5 * seed + more) for more in range(5)]
    assert compare.agree(probe.programs, compare.record(probe.programs, some)) >= 50_000


@pytest.mark.lab
@pytest.mark.parametrize("first", [0, *by_turns(2, (1, 2))])
def test_a_fault_that_is_planted_in_the_simulators_grants_is_seen(
    recordings: Sequence[Recording], tmp_path: Path, first: int
) -> None:
    """In a part of what was recorded: every third of them from this one on."""
    guest, domid, steps, answers = recordings[0]
    part = Recording(guest, domid, steps[:ENOUGH], answers[:ENOUGH])
    assert not probed.unseen(planted.OF_GRANTS[first::3], [part], tmp_path)


@pytest.mark.lab
def test_a_guest_that_maps_a_page_of_its_own_loses_it_where_it_was(probe: Probe) -> None:
    """Xen moves it: the guest has it at the new place alone. So programs map the peer's only, and
    the simulator refuses."""
    entry = grants.entry(grants.OWN_TABLE | 20, abi.Gtf.PERMIT_ACCESS, grants.OWN, 3)
    mapped = grants.map_at(0, abi.Map.HOST, 20, grants.OWN)
    steps: list[Step] = [*grants.begin(1), entry, mapped]
    (_, answers), *_ = probe.programs([(grants.GUEST, steps)])
    assert abi.MAP_GRANT_REF.unpack(answers[-1].argument)[4] == GntStatus.OKAY
    gone = {where: value for where, value in answers[-1].changes if where >> 16 == 4}
    assert len(gone) == 512
    assert set(gone.values()) == {2**64 - 1}, "nothing is there any more"
