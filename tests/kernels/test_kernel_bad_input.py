"""Kernels in C that are not as they should be: a word with the line, and the engine lives."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.lower_halves import need_gcc

from xen_kernel import KERNELS, KernelError, Scenario, build, decide, replay
from xen_kernel.assembly import rewrite
from xen_sim.explore.finding import ASLEEP_DEAF, LIVELOCK, REENTERED
from xen_sim.explore.token import TokenError

need_gcc()

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("kernel_cache")]

Kernel = Callable[..., Scenario]


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """Solo5's lower half with some text in place of another."""

    def made(before: str, after: str, **options: object) -> Scenario:
        text = (KERNELS / "solo5.c").read_text()
        assert before in text
        path = tmp_path / "mine.c"
        path.write_text(text.replace(before, after))
        return Scenario((path,), **options)  # type: ignore[arg-type]

    return made


LARGE = ' char big[200000]; __asm__ volatile("" :: "r"(big) : "memory");'
DEMUX = "	uint64_t selected, ready;\n"
UPCALL = "	acknowledge(vcpu);\n"


@pytest.mark.parametrize(
    ("before", "after", "kind", "said"),
    [
        (DEMUX, ' for (;;) __asm__ volatile("");', "spins for ever", "mine.c:41"),
        (DEMUX, " volatile int n = 0; n = 7 / n;", "crash", "mine.c:41: divides by zero"),
        (DEMUX, " *(volatile int *)8 = 1;", "outside of its memory", "mine.c:41: writes"),
        (DEMUX, " (void)*(volatile int *)8;", "outside of its memory", "mine.c:41: reads"),
        (DEMUX, " static volatile int n; while (!n);", "spins for ever", "mine.c:41"),
        (DEMUX, " ((void (*)(void))8)();", "outside of its memory", "mine.c:41: jumps to"),
        (DEMUX, LARGE, "stack overrun", "mine.c:"),
        (DEMUX, ' __asm__ volatile("ud2");', "assertion", "mine.c:41"),
        ("	upcalls_off(vcpu);\n", ' __asm__ volatile("hlt");', ASLEEP_DEAF, "mine.c:"),
        (UPCALL, ' __asm__ volatile("sti"); (void)announced(vcpu);', REENTERED, "mine.c"),
        ("	upcalls_off(vcpu);\n", " while (!announced(vcpu));", LIVELOCK, ""),
    ],
)
def test_what_a_kernel_does_to_itself_is_a_finding_with_its_line(
    kernel: Kernel, before: str, after: str, kind: str, said: str
) -> None:
    found = decide(kernel(before, before + after + "\n")).found
    assert [(each.finding.kind, said in each.finding.said) for each in found] == [(kind, True)]


def test_a_stack_that_is_overrun_is_found(kernel: Kernel) -> None:
    deep = (
        "static __attribute__((noinline)) int deep(volatile int *n)\n"
        "{ volatile int here[64]; here[0] = *n; return deep(here) + here[0]; }\n"
    )
    scenario = kernel("void lower_half_upcall(", deep + "void lower_half_upcall(")
    text = scenario.kernel[0].read_text()
    scenario.kernel[0].write_text(text.replace(DEMUX, DEMUX + "	int n = 1; n = deep(&n);\n"))
    found = decide(scenario).found
    assert found[0].finding.kind == "stack overrun"


def test_a_level_whose_flag_is_never_cleared_is_a_livelock(kernel: Kernel) -> None:
    found = decide(kernel(UPCALL, "", delivery="callback")).found
    assert found[0].finding.kind == LIVELOCK


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (DEMUX, " int n = ;", "mine.c:41:"),
        (DEMUX, " nobody(1);", "nobody"),
        (DEMUX, " extern void elsewhere(void); elsewhere();", "elsewhere, "),
        (DEMUX, ' __asm__ volatile("wrmsr");', "mine.c:41: the engine does not know"),
        (DEMUX, ' __asm__ volatile("movl %%gs:(%0), %%eax" :: "r"(0ul) : "eax");', "mine.c:41"),
        (DEMUX, ' __asm__ volatile("incl shared_info" ::: "memory");', "accesses shared_info"),
        (DEMUX, ' __asm__ volatile("movq %%gs:0, %%rax" ::: "rax");', "accesses %gs:0"),
        (DEMUX, ' __asm__ volatile("movsb" ::: "rsi", "rdi", "memory");', "accesses strings"),
        (
            DEMUX,
            ' __asm__ volatile(".byte 0x0f, 0x05" ::: "memory");',
            "does not know what the bytes",
        ),
        (
            DEMUX,
            ' __asm__ volatile(".pushsection .text.more\\n syscall\\n .popsection");',
            "does not know the instruction 'syscall'",
        ),
        (DEMUX, " void explore_nobody(void); explore_nobody();", "explore_nobody, "),
        (DEMUX, " static __thread volatile int mine; mine++;", "thread-local data"),
        (DEMUX, " hypercall(63, 0, 0, 0);", "not modelled"),
        ("void lower_half_start(unsigned vcpu)\n{\n", " *(volatile int *)8 = 1;", "while it boots"),
    ],
)
def test_what_cannot_be_explored_is_refused_with_its_line(
    kernel: Kernel, before: str, after: str, said: str
) -> None:
    with pytest.raises(KernelError) as refused:
        decide(kernel(before, before + after + "\n"))
    assert said in str(refused.value)


def test_a_file_is_c_whatever_its_name_and_its_encoding(tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"caf\xe9 'of' \"mine\".txt")
    strange.write_bytes((KERNELS / "solo5.c").read_bytes() + b"/* caf\xe9 */\n")
    found = decide(Scenario((strange,), defines=("FAULT=4",))).found[0]
    assert any("caf\N{REPLACEMENT CHARACTER}" in moment.note for moment in found.moments)
    strange.write_bytes(b"caf\xe9\n")
    with pytest.raises(KernelError, match="error:"):
        decide(Scenario((strange,)))


def test_without_gcc_it_says_what_to_install(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    build.compiler.cache_clear()
    with pytest.raises(KernelError, match="apt install gcc"):
        decide(kernel(DEMUX, DEMUX))
    build.compiler.cache_clear()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"nothing\.c"):
        decide(Scenario((tmp_path / "nothing.c",)))


def test_more_than_the_engine_takes_is_refused(kernel: Kernel) -> None:
    with pytest.raises(KernelError, match="the engine takes 1 to 4"):
        kernel(DEMUX, DEMUX, vcpus=5)


def test_a_token_of_a_kernel_that_was_mended_no_longer_fits() -> None:
    def scenario(fault: int) -> Scenario:
        return Scenario((KERNELS / "solo5.c",), defines=(f"FAULT={fault}",))

    token = decide(scenario(4)).found[0].token
    with pytest.raises(TokenError):
        replay(scenario(0), token)


def test_what_lies_on_the_stack_by_the_name_of_its_offset_is_found_below_what_is_saved() -> None:
    listing = '#APP\n# 1 "x.c" 1\n\tlock incl frame(%rsp)\n\tlock incl -8(%rsp)\n#NO_APP'
    rewritten = rewrite(listing, Path("x.c"))
    assert "frame+32(%rsp)" in rewritten
    assert "-8+32(%rsp)" in rewritten
