"""A harness says what it likes, in whatever words; one that asks for what there is not is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.lower_halves import need_gcc

from xen_kernel import KernelError, Scenario, decide, replay
from xen_kernel.verdicts import KINDS
from xen_sim.explore.finding import DEADLOCK
from xen_sim.explore.verdict import EXHAUSTED, FOUND

need_gcc()

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("kernel_cache")]

Harness = Callable[..., Scenario]

PROLOGUE = """
#include "explore.h"
#include "lower_half.h"
static volatile uint64_t x, y;
static volatile uint8_t never;
"""


@pytest.fixture
def harness(tmp_path: Path) -> Harness:
    """What the first of two agents does; or all of a harness."""

    def made(does: str, whole: bool = False, **options: object) -> Scenario:
        (tmp_path / "kernel.c").write_text("")
        text = does
        if not whole:
            text = f"static void one(unsigned long who) {{ (void)who; {does} }}\n"
            text += 'void explore_setup(void) { explore_agent("v \\"0\\" \\\\", one, 0);'
            text += ' explore_agent("third", one, 1); }'
        (tmp_path / "harness.c").write_bytes(PROLOGUE.encode() + text.encode("latin-1"))
        kernel = (tmp_path / "kernel.c",)
        return Scenario(kernel, harness=tmp_path / "harness.c", **options)  # type: ignore[arg-type]

    return made


def test_an_assertion_is_told_in_its_own_words_with_its_own_line(harness: Harness) -> None:
    scenario = harness("""x = 1; explore_assert(x == '"' && "a\\\\b\\n");""")
    found = decide(scenario).found[0]
    assert found.finding.said == r"""harness.c:6: x == '"' && "a\\b\n" """.strip()
    assert found.actors == ('v "0" \\', "third")
    assert replay(scenario, found.token).finding == found.finding


def test_words_that_are_no_text_are_told_as_far_as_they_are(harness: Harness) -> None:
    said = decide(harness('x = 1; if (x) explore_wrong(6, "caf\xe9\\t!");')).found[0].finding.said
    assert said.endswith("caf\N{REPLACEMENT CHARACTER}\t!")


@pytest.mark.parametrize(
    ("does", "kind", "said"),
    [
        ("explore_wait(&never);", DEADLOCK, 'v "0"'),
        ("if (who) explore_wait(&never);", DEADLOCK, "third"),
        ("explore_wait((void *)8);", "outside of its memory", "harness.c:6: waits for what"),
        ("explore_delivered(4096);", "outside of its memory", "beyond the 4,096"),
    ],
)
def test_what_goes_wrong_with_whom_is_a_finding(
    harness: Harness, does: str, kind: str, said: str
) -> None:
    found = decide(harness(does)).found[0].finding
    assert found.kind == kind
    assert kind in KINDS
    assert said in found.said


NOBODY = "void explore_setup(void) { }"
TOO_MANY = """
static void one(unsigned long who) { x = who; }
void explore_setup(void) { for (int i = 0; i < 13; i++) explore_agent("one", one, 0); }
"""
FALSE_AT_BOOT = "void explore_setup(void) { explore_assert(x == 1); }"
NO_VCPU = "void explore_setup(void) { explore_port(7); }"
UNKNOWN_AT_BOOT = "void explore_setup(void) { hypercall(63, 0, 0, 0); }"


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (NOBODY, "fewer agents than there are vCPUs"),
        (TOO_MANY, "harness.c:8: more than 12 agents, while it boots"),
        (FALSE_AT_BOOT, "harness.c:6: x == 1, while it boots"),
        (NO_VCPU, "a port of a vCPU that there is not, while it boots"),
        (UNKNOWN_AT_BOOT, "a hypercall that is not modelled, while it boots"),
    ],
)
def test_what_cannot_be_begun_is_one_clear_error(harness: Harness, does: str, said: str) -> None:
    with pytest.raises(KernelError) as refused:
        decide(harness(does, whole=True))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ('explore_agent("late", one, 2);', "harness.c:6: who takes part is said before the first"),
        ("explore_produce(16);", "an item beyond the 16 that there are"),
    ],
)
def test_what_nobody_has_modelled_is_refused(harness: Harness, does: str, said: str) -> None:
    with pytest.raises(KernelError, match=said):
        decide(harness(does))


REGISTERS = """
struct control { uint64_t frame; uint32_t offset, vcpu; uint8_t bits[8]; };
static uint8_t page[4096] __attribute__((aligned(4096)));
static void one(unsigned long who)
{
	(void)who;
	explore_assert(answers[0] && !answers[1] && answers[2] && answers[3]);
	explore_assert(timer[0] == -2 && timer[1] == 0);
}
void explore_setup(void)
{
	struct control there = {(uint64_t)page >> 12, 0, 0, {0}}, nowhere = {1, 0, 0, {0}};
	uint64_t frame = 0x123456789;

	answers[0] = hypercall(EVENT_CHANNEL_OP, EVTCHNOP_INIT_CONTROL, &nowhere, 0);
	answers[1] = hypercall(EVENT_CHANNEL_OP, EVTCHNOP_INIT_CONTROL, &there, 0);
	answers[2] = hypercall(EVENT_CHANNEL_OP, EVTCHNOP_EXPAND_ARRAY, &frame, 0);
	frame = -1ul;
	answers[3] = hypercall(EVENT_CHANNEL_OP, EVTCHNOP_EXPAND_ARRAY, &frame, 0);
	timer[0] = hypercall(VCPU_OP, VCPUOP_SET_SINGLESHOT_TIMER, 1, 0);
	timer[1] = hypercall(VCPU_OP, VCPUOP_SET_SINGLESHOT_TIMER, 0, 0);
	explore_agent("one", one, 0);
}
"""


def test_xen_refuses_frames_and_vcpus_that_there_are_not(harness: Harness) -> None:
    before = "static long answers[4], timer[2];\n"
    assert decide(harness(before + REGISTERS, whole=True)).kind == EXHAUSTED


EXPECTED = """
static uint64_t expected;
static void one(unsigned long who)
{
	if (who) {
		x = 1;
	} else {
		int same = __atomic_compare_exchange_n(&x, &expected, 7, 0, 5, 5);

		explore_assert(same ? !expected : expected == 1);
		y = 1;
	}
	(void)(who && y);
}
void explore_setup(void) { explore_agent("a", one, 0); explore_agent("b", one, 1); }
"""


def test_what_a_compare_and_exchange_has_found_instead_is_a_part_of_a_state(
    harness: Harness,
) -> None:
    assert decide(harness(EXPECTED, whole=True)).kind == EXHAUSTED


COPIED = """
static volatile uint64_t from[BYTES / 8], to[BYTES / 8];
static volatile unsigned long bytes = BYTES;
static uint64_t seen;
static void copies(unsigned long who)
{
	(void)who;
	COPY((void *)to, (void *)from, bytes);
	y = 1;
}
static void changes(unsigned long who)
{
	(void)who;
	from[0] = 1;
	seen = to[0];
	explore_wait((void *)&y);
	explore_assert(seen != 5 || to[0] != 0);
}
void explore_setup(void)
{
	to[0] = 5;
	explore_agent("copies", copies, 0);
	explore_agent("changes", changes, 1);
}
"""


@pytest.mark.parametrize("copy", ["__builtin_memcpy", "__builtin_memmove"])
@pytest.mark.parametrize("size", [8, 1040])
def test_a_copy_is_of_what_was_there_as_it_was_read(harness: Harness, copy: str, size: int) -> None:
    """What was changed behind the read, and in front of the write, is not in it."""
    defines = (f"COPY={copy}", f"BYTES={size}")
    assert decide(harness(COPIED, whole=True, defines=defines)).kind == FOUND


OVERLAPS = """
static uint64_t words[300];
static volatile unsigned long bytes = 8 * 290;
static void one(unsigned long who)
{
	(void)who;
	__builtin_memmove(words + UP, words + DOWN, bytes);
	for (unsigned i = 0; i < 290; i++)
		explore_assert(words[UP + i] == DOWN + i + 1);
}
void explore_setup(void)
{
	for (unsigned i = 0; i < 300; i++)
		words[i] = i + 1;
	explore_agent("one", one, 0);
}
"""


@pytest.mark.parametrize(("up", "down"), [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("order", [{}, {"buffers": True}], ids=str)
def test_a_move_may_overlap(harness: Harness, up: int, down: int, order: dict[str, bool]) -> None:
    defines = (f"UP={up}", f"DOWN={down}")
    assert decide(harness(OVERLAPS, whole=True, defines=defines, **order)).kind == EXHAUSTED
