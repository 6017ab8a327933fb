"""In which order others see what a kernel in C has written: as it is written, as x86 allows it, and
as arm64 does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.lower_halves import NAMES, harness_alone, need_gcc, of

from xen_kernel import KERNELS, KernelError, Limits, Scenario, decide
from xen_kernel.build import program
from xen_kernel.engine import Program
from xen_sim.explore.finding import LOST_WAKEUP
from xen_sim.explore.verdict import EXHAUSTED, FOUND

need_gcc()

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("kernel_cache")]

ORDERS: tuple[dict[str, Any], ...] = ({}, {"buffers": True}, {"arch": "arm64"})
"""In order, x86's store buffers, arm64."""

LITMUS = """
#include "explore.h"
#define LOAD(at, order) __atomic_load_n(&at, __ATOMIC_##order)
#define STORE(at, value, order) __atomic_store_n(&at, value, __ATOMIC_##order)
#define ADD(at, order) __atomic_fetch_add(&at, 1, __ATOMIC_##order)
#define ASM(text) __asm__ volatile(text ::: "memory")
#define ON(at, text) __asm__ volatile(text : "+m"(at) : : "memory", "cc")
static volatile uint64_t x, y, pair[2];
static uint64_t a, b;
static volatile uint64_t through;
static void ends(void)
{
	if (__sync_fetch_and_add(&through, 1))
		explore_assert(!(OUTCOME));
}
static void one(unsigned long n) { (void)n; ONE; ends(); }
static void other(unsigned long n) { (void)n; OTHER; ends(); }
void explore_setup(void)
{
	explore_agent("vCPU 0", one, 0);
	explore_agent("peer", other, 0);
}
"""
EVERYWHERE = "order x86 arm64"
PASSED = "a = y; b = x"
BOTH_OLD, NEW_THEN_OLD = "a == 0 && b == 0", "a == 1 && b == 0"

LITMUS_TESTS = {
    "message passing": ("x = 1; y = 1", PASSED, NEW_THEN_OLD, "arm64"),
    "... dmb ishst": ('x = 1; ASM("dmb ishst"); y = 1', PASSED, NEW_THEN_OLD, ""),
    "... dmb ishld": ('x = 1; ASM("dmb ishld"); y = 1', PASSED, NEW_THEN_OLD, "arm64"),
    "... dmb ish": ('x = 1; ASM("dmb ish"); y = 1', PASSED, NEW_THEN_OLD, ""),
    "... a compiler's barrier": ('x = 1; ASM(""); y = 1', PASSED, NEW_THEN_OLD, "arm64"),
    "... a release": ("x = 1; STORE(y, 1, RELEASE)", PASSED, NEW_THEN_OLD, ""),
    "... what follows a release": ("STORE(x, 1, RELEASE); y = 1", PASSED, NEW_THEN_OLD, "arm64"),
    "... a fence": (
        "x = 1; __atomic_thread_fence(__ATOMIC_RELEASE); y = 1",
        *(PASSED, NEW_THEN_OLD, ""),
    ),
    "... an acquire fence": (
        "x = 1; __atomic_thread_fence(__ATOMIC_ACQUIRE); y = 1",
        *(PASSED, NEW_THEN_OLD, "arm64"),
    ),
    "... by a relaxed atomic": ("x = 1; ADD(y, RELAXED)", PASSED, NEW_THEN_OLD, "arm64"),
    "... by an acquiring atomic": ("x = 1; ADD(y, ACQUIRE)", PASSED, NEW_THEN_OLD, "arm64"),
    "... by a releasing atomic": ("x = 1; ADD(y, RELEASE)", PASSED, NEW_THEN_OLD, ""),
    "... behind an atomic": ("ADD(x, SEQ_CST); y = 1", PASSED, NEW_THEN_OLD, "arm64"),
    "... behind a __sync": ("__sync_fetch_and_add(&x, 1); y = 1", PASSED, NEW_THEN_OLD, ""),
    "... behind lock": ('ON(x, "lock; incq %0"); y = 1', PASSED, NEW_THEN_OLD, ""),
    "store buffering": ("x = 1; a = y", "y = 1; b = x", BOTH_OLD, "x86 arm64"),
    "... a store barrier": (
        *('x = 1; ASM("dmb ishst"); a = y', 'y = 1; ASM("dmb ishst"); b = x'),
        *(BOTH_OLD, "x86 arm64"),
    ),
    "... full barriers": (
        *('x = 1; ASM("dmb ish"); a = y', 'y = 1; ASM("mfence"); b = x'),
        *(BOTH_OLD, ""),
    ),
    "... one full barrier": (
        *('x = 1; ASM("dmb ish"); a = y', "y = 1; b = x"),
        *(BOTH_OLD, "x86 arm64"),
    ),
    "... release and acquire": (
        *(
            "STORE(x, 1, RELEASE); a = LOAD(y, ACQUIRE)",
            "STORE(y, 1, RELEASE); b = LOAD(x, ACQUIRE)",
        ),
        *(BOTH_OLD, "x86 arm64"),
    ),
    "... sequential consistency": (
        *(
            "STORE(x, 1, SEQ_CST); a = LOAD(y, SEQ_CST)",
            "STORE(y, 1, SEQ_CST); b = LOAD(x, SEQ_CST)",
        ),
        *(BOTH_OLD, ""),
    ),
    "... atomics": ("ADD(x, SEQ_CST); a = y", "ADD(y, SEQ_CST); b = x", BOTH_OLD, "arm64"),
    "... __sync": (
        *("__sync_fetch_and_add(&x, 1); a = y", "__sync_fetch_and_add(&y, 1); b = x"),
        *(BOTH_OLD, ""),
    ),
    "two and two writes": ("x = 1; y = 2", "y = 1; x = 2", "x == 1 && y == 1", "arm64"),
    "... store barriers": (
        *('x = 1; ASM("dmb ishst"); y = 2', 'y = 1; ASM("dmb ishst"); x = 2'),
        *("x == 1 && y == 1", ""),
    ),
    "... releases": (
        *("x = 1; STORE(y, 2, RELEASE)", "y = 1; STORE(x, 2, RELEASE)"),
        *("x == 1 && y == 1", ""),
    ),
    "coherence": ("x = 1; x = 2", "a = x; b = x", "a == 2 && b == 1", ""),
    "its own write": ("x = 1; a = x", "x = 2", "a == 0", ""),
    "atomics lose nothing": ("ADD(x, RELAXED)", "ADD(x, RELAXED)", "x == 1", ""),
    "nor beside a write": ("ADD(x, RELAXED)", "x = 5", "x == 1", ""),
    "a change that is not locked": ("x++", "ADD(x, RELAXED)", "x == 1", EVERYWHERE),
    "... in assembly": ('ON(x, "incq %0")', 'ON(x, "lock; incq %0")', "x == 1", EVERYWHERE),
    "... of a bit": ('ON(x, "btsq $1,%0")', 'ON(x, "lock; btsq $2,%0")', "x != 6", EVERYWHERE),
    "... and one that is": ('ON(x, "lock; incq %0")', 'ON(x, "lock; incq %0")', "x == 1", ""),
    "a copy's words": (
        "uint64_t from[2] = {1, 1}; __builtin_memcpy((void *)pair, from, 16)",
        *("a = pair[1]; b = pair[0]", NEW_THEN_OLD, "arm64"),
    ),
}
"""What two processors do, an outcome, and where that is possible: in the order of the program, on
x86, on arm64. From the processors' published models: those of reads are left out."""

FEW = (
    *("message passing", "... dmb ishst", "... behind a __sync", "store buffering"),
    *("... full barriers", "... atomics", "two and two writes", "... in assembly"),
)
"""Those of the plain run."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FEW else pytest.mark.long) for name in LITMUS_TESTS],
)
def test_an_outcome_is_found_where_the_processor_has_it(tmp_path: Path, name: str) -> None:
    one, other, outcome, where = LITMUS_TESTS[name]
    text = LITMUS.replace("OUTCOME", outcome).replace("ONE", one).replace("OTHER", other)
    seen = [
        word
        for word, order in zip(EVERYWHERE.split(), ORDERS, strict=True)
        if decide(harness_alone(tmp_path, text, **order)).kind == FOUND
    ]
    assert seen == where.split()


ARM64_FAULTS: dict[tuple[str, int], dict[str, Any]] = {
    ("mini_os", 6): {"ports": 2, "sends": 1, "spread": True},
    ("linux_2l", 6): {},
    ("openbsd", 5): {"ports": 2, "sends": 1},
}
"""Faults that are none on x86, and where each is found."""


@pytest.mark.parametrize(("name", "fault"), ARM64_FAULTS)
def test_what_is_a_fault_on_arm64_alone_is_found_there_alone(name: str, fault: int) -> None:
    options = ARM64_FAULTS[name, fault]
    kinds = [decide(of(name, fault, **options, **order)).kind for order in ORDERS]
    assert kinds == [EXHAUSTED, EXHAUSTED, FOUND]
    found = decide(of(name, fault, **options, **ORDERS[2])).found[0]
    assert found.finding.kind == LOST_WAKEUP
    assert decide(of(name, **options, **ORDERS[2])).kind == EXHAUSTED


SHORTLY = ("solo5", "linux_fifo")


@pytest.mark.parametrize("delivery", ["vector", "callback"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SHORTLY else pytest.mark.long) for name in NAMES],
)
def test_a_right_lower_half_loses_nothing_on_arm64(name: str, delivery: str) -> None:
    for options in ({}, {"ports": 2, "sends": 1}):
        verdict = decide(of(name, delivery=delivery, arch="arm64", **options))
        assert verdict.kind == EXHAUSTED, verdict


def test_on_arm64_every_state_has_the_ends_of_every_schedule() -> None:
    scenario = of("zephyr", sends=1, arch="arm64")
    asked = Program(program(scenario), scenario)
    learned, _ = asked.search(Limits(), goes_on=True)

    def ends(**options: Any) -> set[str]:
        _, told = asked.search(Limits(), goes_on=True, ends=True, shared=learned.shared, **options)
        return {each["end"] for each in told}

    assert ends(bound=1) == ends(bound=1, every=True)
    assert ends(bound=1) <= ends()


NOTIFIED = """
#include "explore.h"
#include "lower_half.h"
void event(unsigned vcpu, unsigned port) { (void)vcpu, (void)port; }
int work(unsigned vcpu) { return !vcpu; }
static volatile uint64_t index;
static volatile uint8_t told;
static unsigned peers;
static void tell(unsigned port) { (void)port, told = 1; }
static void guest(unsigned long vcpu)
{
	(void)vcpu;
	index = 1;
	BARRIER;
	hypercall(EVENT_CHANNEL_OP, 4, &peers, 0);
}
static void peer(unsigned long n)
{
	(void)n;
	explore_wait(&told);
	explore_assert(index == 1);
}
void explore_setup(void)
{
	explore_on_send = tell;
	peers = explore_port(0);
	explore_agent("vCPU 0", guest, 0);
	explore_agent("peer", peer, 0);
}
"""


@pytest.mark.parametrize(
    ("barrier", "where"), [("barrier()", ["arm64"]), ('__asm__ volatile("dmb ishst")', [])]
)
def test_a_barrier_that_is_missing_between_an_index_and_its_notification_is_found_on_arm64(
    tmp_path: Path, barrier: str, where: list[str]
) -> None:
    (tmp_path / "harness.c").write_text(NOTIFIED.replace("BARRIER", barrier))
    kernel = (KERNELS / "solo5.c",)
    scenarios = [Scenario(kernel, harness=tmp_path / "harness.c", **order) for order in ORDERS]
    found = [decide(each).kind == FOUND for each in scenarios]
    assert [
        word for word, is_found in zip(EVERYWHERE.split(), found, strict=True) if is_found
    ] == where


ASLEEP = """
#include "explore.h"
#define ASM(text) __asm__ volatile(text ::: "memory")
static volatile uint64_t fired;
static unsigned port;
static void upcall(unsigned vcpu)
{
	extern void eoi(void);

	(void)vcpu;
	eoi();
	fired = 1;
}
static void idle(unsigned long vcpu)
{
	(void)vcpu;
	ASM("msr daifset, #2");
	while (!fired) {
		ASM("SLEEP");
		ASM("msr daifclr, #2");
		ASM("isb");
		ASM("msr daifset, #2");
	}
	explore_see(0);
}
static void peer(unsigned long n)
{
	(void)n;
	explore_produce(0);
	explore_send(port);
}
void explore_setup(void)
{
	explore_handler(upcall);
	port = explore_port(0);
	explore_agent("vCPU 0", idle, 0);
	explore_agent("peer", peer, 0);
}
"""


@pytest.mark.parametrize(("how", "kind"), [("wfi", EXHAUSTED), ("hlt", FOUND)])
def test_arm64s_own_wfi_wakes_for_an_interrupt_that_is_masked(
    tmp_path: Path, how: str, kind: str
) -> None:
    scenario = harness_alone(tmp_path, ASLEEP.replace("SLEEP", how), arch="arm64")
    assert decide(scenario).kind == kind


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arch": "arm64", "buffers": True}, "--buffers are x86's"),
        ({"arch": "arm64", "delivery": "pv"}, "delivery 'pv' is x86's"),
        ({"arch": "riscv"}, "there are: x86, arm64"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(KernelError, match=said):
        of("solo5", **options)


def test_what_is_left_out_of_arm64_stands_in_the_verdict() -> None:
    assert any("dmb ishld" in each for each in decide(of("solo5", arch="arm64")).leaves_out)
