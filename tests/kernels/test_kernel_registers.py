"""Dead registers are cleared in a kernel's code: live ones are kept, whatever the code does."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest
from support.drawn import drawn
from support.lower_halves import need_gcc

from xen_kernel import registers

need_gcc()

pytestmark = pytest.mark.once

VARIABLES = "abcdefgh"
FUNCTIONS = 40


def statements(random: Random, depth: int) -> str:
    return "".join(statement(random, depth) for _ in range(random.randint(2, 5)))


def statement(random: Random, depth: int) -> str:
    to, one, other = (random.choice(VARIABLES) for _ in range(3))
    sign = random.choice("+-^&|")
    kind = random.randrange(9 if depth else 4)
    match kind:
        case 0 | 1:
            return f"{to} = {one} {sign} seen({other});\n"
        case 2:
            return f"{to} = {one} * {random.randrange(9)} {sign} {other};\n"
        case 3:
            return f'__asm__ volatile("add %1, %0" : "+r"({to}) : "r"({one}) : "cc");\n'
        case 4 | 5:
            inner = statements(random, depth - 1)
            return f"for (long i = 0; i < {random.randint(1, 4)}; i++) {{\n{inner}}}\n"
        case 6:
            rest, label = statements(random, depth - 1), f"l{random.getrandbits(40)}"
            jump = f'__asm__ goto("test %0, %0; jz %l1" :: "r"({one}) : "cc" : {label});'
            return f"{jump}\n{rest}{label}:;\n"
        case 7:
            cases = "".join(
                f"case {n}: {statements(random, 0)}{random.choice(('break;', ''))}\n"
                for n in range(4)
            )
            return f"switch ({one} & 7) {{\n{cases}default: {to} = seen({other});\n}}\n"
        case _:
            inner = statements(random, depth - 1)
            return f"if ({one} > {other}) {{\n{inner}}} else {to} = seen({one});\n"


def function(number: int, random: Random) -> str:
    declared = ", ".join(f"{name} = seen(n + {at})" for at, name in enumerate(VARIABLES))
    summed = " ^ ".join(f"{name} * {3 + 2 * at}" for at, name in enumerate(VARIABLES))
    body = f"long {declared};\n{statements(random, 2)}return {summed};\n"
    return f"__attribute__((noinline)) long f{number}(long n)\n{{\n{body}}}\n"


def program(seed: int) -> str:
    random = Random(seed)
    told = "".join(f'printf("%ld\\n", f{n}({random.randrange(99)}));\n' for n in range(FUNCTIONS))
    return (
        "#include <stdio.h>\nstatic long sum;\n"
        "__attribute__((noinline)) long seen(long n) { return sum = sum * 31 + n; }\n"
        + "".join(function(n, random) for n in range(FUNCTIONS))
        + f"int main(void)\n{{\n{told}return 0;\n}}\n"
    )


def said(folder: Path, text: str, cleared: bool) -> tuple[str, int]:
    """What a program prints, and how many registers were cleared in it."""
    source, assembly, made = (folder / name for name in ("it.c", "it.s", "it"))
    source.write_text(text)
    flags = ["-O2", "-std=gnu11", "-fno-jump-tables", "-w"]
    subprocess.run(["gcc", *flags, "-S", source, "-o", assembly], check=True)
    before = assembly.read_text()
    if cleared:
        assembly.write_text(registers.clear(before) + "\n")
    subprocess.run(["gcc", assembly, "-o", made], check=True)
    count = assembly.read_text().count("\n") - before.count("\n")
    return subprocess.run([made], check=True, capture_output=True, text=True).stdout, count


@pytest.mark.parametrize("seed", [0, 1, *drawn(6)])
def test_a_program_drawn_by_chance_computes_the_same(seed: int, tmp_path: Path) -> None:
    expected, _ = said(tmp_path, program(seed), cleared=False)
    got, count = said(tmp_path, program(seed), cleared=True)
    assert got == expected
    assert count > FUNCTIONS


def cleared(*lines: str) -> list[str]:
    """What is put before the calls of a function that keeps rbx."""
    text = "\n".join(("f:", "\tpushq\t%rbx", *lines, "\tpopq\t%rbx", "\tret"))
    added = registers.clear(text).split("\n")
    return [line.strip() for line in added if line not in text.split("\n")]


def test_what_is_not_read_any_more_is_cleared() -> None:
    assert cleared("\tmovl\t%edi, %ebx", "\tcall\tg") == ["xorl %ebx, %ebx"]


@pytest.mark.parametrize(
    "reads",
    [
        "\tmovq\t%rbx, %rax",
        "\tmovq\t(%rbx), %rbx",
        "\tmovb\t$1, %bl",
        "\taddq\t$1, %rbx",
        "\tmovl\t$1, 8(%rax,%rbx,8)",
        "\tje\t.Lnowhere",
        "\tjmp\t*%rax",
        "#APP\n\tmov %rax, %rbx\n#NO_APP",
    ],
)
def test_what_may_be_read_is_kept(reads: str) -> None:
    assert cleared("\tmovl\t%edi, %ebx", "\tcall\tg", reads) == []


def test_what_is_read_in_the_next_round_of_a_loop_is_kept() -> None:
    loop = (".L2:", "\tcall\tg", "\tcmpl\t%eax, %ebx", "\tjne\t.L2")
    assert cleared("\tmovl\t%edi, %ebx", *loop) == []


def test_a_register_that_is_its_callers_is_kept() -> None:
    assert registers.clear("f:\n\tcall\tg\n\tret").count("xorl") == 0
