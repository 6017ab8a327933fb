"""Makes inline assembly visible, in what gcc has made of a file.

Between `#APP` and `#NO_APP` stands what the source's own asm statements say. There

    cli, sti, hlt       become calls of the engine's processor. `sti` before `hlt` has its shadow
    pushf, popf         carry the virtual interrupt flag
    an access           is announced before the instruction: its kind, address, size, and bit
    a change            of memory that is not locked is a read and a write: another processor comes
                        between the two. Its own takes no interrupt there on x86, and does on arm64
    fences              are steps where stores are seen late
    dmb, dsb, wfi       and arm64's mask of interrupts are known as well: they stand in a source as
                        they are, and its other instructions have stand-ins
    rdtsc               gives 0: time stands still, and runs repeat
    ud2                 is the kernel's BUG

What only computes stays. An instruction that is none of these is refused, with its line: nothing is
taken for harmless that is not known to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

READ, WRITE, LOCKED, CHANGE = range(4)
"""Kinds of an access: enum kind in engine/engine.h, and CHANGE in engine/memory.c."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMPUTING = _words(
    "mov movz movs movzx movsx movabs lea add adc sub sbb and or xor not neg inc dec shl shr sal "
    "sar rol ror imul mul test cmp bt bts btr btc bsf bsr tzcnt lzcnt popcnt bswap xchg cmpxchg "
    "xadd push pop nop cld cltq cqto cwtl cltd clc stc leave ret movzb movzw movsb movsw movsl"
)
"""Instructions, without their suffix of size, that only compute and access their operands."""
_CHANGES = _words("add adc sub sbb and or xor not neg inc dec shl shr sal sar rol ror")
_BIT_CHANGES = _words("bts btr btc cmpxchg xadd")
_READS = _words("test cmp bt imul mul bsf bsr tzcnt lzcnt popcnt push")
_FENCES = frozenset(("mfence",))
_ARM64_FENCES = frozenset(("dmb", "dsb"))
_QUIET = frozenset(("lfence", "sfence", "pause", "nop", "cld", "isb", "yield"))
_JUMP = re.compile(r"j[a-z]+$|call[q]?$|ret[q]?$|set[a-z]+$|cmov[a-z]+$")
_MEMORY = re.compile(r"(%[c-gs]s:)?[-+\w.$@]*\((%\w+)?(,%\w+(,[1248])?)?\)")
_REGISTER = re.compile(r"%\w+(\(\d\))?")
_NUMBER = re.compile(r"\$.+")
_BYTES = re.compile(
    r"\.([248]?byte|d?word|short|value|hword|int|long|quad|octa|asci[iz]|string\d*|single|float|"
    r"double|fill|skip|space|zero|incbin|include|insn|inst|[su]leb128)\b"
)
"""Directives that put bytes where code is."""
_SECTION = re.compile(r'\.(?:push)?section\s+([\w.$]+)(?:\s*,[^"]*"(\w*)")?')
_STRINGS = frozenset(("movsb", "movsw", "movsl"))
"""With operands they extend a sign; without, they copy what rsi points to."""
_LABEL = re.compile(r"[\w.$]+:")
_SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}
_SHADOW = 12
"""Lines that are looked ahead for the hlt behind a sti."""


class UnknownInstruction(Exception):
    """An instruction that is not known; the message has its line in the source."""


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    inline: bool
    """Whether it is of an asm statement."""
    place: str
    """Which line of the source that is."""


def rewrite(text: str, source: Path) -> str:
    """The assembly of a file with its inline assembly made visible. Raises `UnknownInstruction`."""
    lines = list(_split(text, source))
    out: list[str] = []
    for number, line in enumerate(lines):
        if line.inline and _BYTES.match(line.text):
            raise UnknownInstruction(
                f"{line.place}: the engine does not know what the bytes of {line.text!r} do"
            )
        if line.inline and _is_instruction(line.text):
            out += _instruction(line, lines[number + 1 : number + 1 + _SHADOW])
        else:
            out.append(line.text)
    return "\n".join(out) + "\n"


def _split(text: str, source: Path) -> Iterator[_Line]:
    """One instruction a line, and where each comes from."""
    inline, place, data = False, source.name, False
    for raw in text.split("\n"):
        stripped = raw.strip()
        if stripped in ("#APP", "#NO_APP"):
            inline = stripped == "#APP"
        elif inline and (at := re.match(r'# (\d+) "(.*)" ', stripped)):
            place = f"{Path(at[2])}:{at[1]}"
        elif inline:
            for part in re.sub(r"\block\s*;", "lock", stripped).split(";"):
                piece = part.strip()
                label = _LABEL.match(piece)
                if label and piece[label.end() :].strip():
                    yield _Line(label.group(), True, place)
                    piece = piece[label.end() :].strip()
                if section := _SECTION.match(piece):
                    data = ".text" not in section[1] and "x" not in (section[2] or "")
                elif piece.startswith((".popsection", ".previous", ".text")):
                    data = False
                if piece:
                    yield _Line(piece, not data, place)
        else:
            yield _Line(raw, False, place)


def _is_instruction(text: str) -> bool:
    return not text.startswith(("#", ".", "/")) and not _LABEL.match(text)


def _instruction(line: _Line, following: Sequence[_Line]) -> list[str]:
    locked = line.text.startswith("lock")
    text = re.sub(r"^lock\s+", "", line.text)
    name, _, rest = re.sub(r"\s+", " ", text).partition(" ")
    match name:
        case "cli" | "hlt":
            return [f"\tcall assembly_{name}"]
        case "sti":
            return [
                "\tcall assembly_sti_shadow" if _hlt_follows(following) else "\tcall assembly_sti"
            ]
        case "pushf" | "pushfq":
            return ["\tpushfq", "\tcall assembly_pushf"]
        case "popf" | "popfq":
            return ["\tcall assembly_popf", "\tpopfq"]
        case "ud2" | "int3":
            return ["\tcall assembly_bug"]
        case "wfi":
            return ["\tcall assembly_wfi"]
        case "msr" if rest.startswith(("daifset", "daifclr")):
            return [f"\tcall assembly_{'cli' if rest.startswith('daifset') else 'sti'}"]
        case "rdtsc":
            return ["\txorl %eax, %eax", "\txorl %edx, %edx"]
    if name in _FENCES:
        return ["\tcall assembly_fence"]
    if name in _ARM64_FENCES:
        return _arm64_fence(rest)
    if name in _QUIET or (name == "rep" and rest.startswith("nop")):
        return ["\tpause"]
    base = _base(name)
    if base is None and not _JUMP.match(name):
        raise UnknownInstruction(
            f"{line.place}: the engine does not know the instruction {line.text!r}"
        )
    operands = _operands(rest)
    if base is not None and (unknown := _unknown(name, operands)):
        raise UnknownInstruction(
            f"{line.place}: the engine does not know how {line.text!r} accesses {unknown}"
        )
    memory = next((each for each in operands if _MEMORY.fullmatch(each)), None)
    if memory is None or base is None or base == "lea":
        if memory is not None and base is None:
            raise UnknownInstruction(
                f"{line.place}: the engine does not know how {line.text!r} accesses memory"
            )
        return [f"\t{line.text}"]
    if memory.startswith("%"):
        raise UnknownInstruction(
            f"{line.place}: {line.text!r} uses a segment register: write a stand-in for it"
        )
    return [*_announced(base, name, operands, memory, locked), f"\t{line.text}"]


def _arm64_fence(which: str) -> list[str]:
    """`dmb ish` orders all, `dmb ishst` stores, and `dmb ishld` reads: these are in order here."""
    if which.endswith("ld"):
        return ["\tpause"]
    return [f"\tcall assembly_{'store_barrier' if which.endswith('st') else 'fence'}"]


def _hlt_follows(following: Sequence[_Line]) -> bool:
    """Whether hlt is the very next instruction: then no interrupt comes between the two."""
    for line in following:
        text = line.text.strip()
        if text and not text.startswith(("#", ".loc", ".cfi")) and not _LABEL.match(text):
            return line.inline and text.startswith("hlt")
    return False


def _base(name: str) -> str | None:
    if name in _COMPUTING:
        return name
    return name[:-1] if name[-1] in _SIZES and name[:-1] in _COMPUTING else None


def _operands(text: str) -> list[str]:
    """Split at the commas that are in no parentheses."""
    return [each.strip() for each in re.split(r",(?![^(]*\))", text.split("#")[0]) if each.strip()]


def _unknown(name: str, operands: Sequence[str]) -> str:
    """What is neither a register, nor a number, nor memory of a form that is announced; empty if
    there is no such operand."""
    if name in _STRINGS and not operands:
        return "strings"
    known = (_REGISTER, _NUMBER, _MEMORY)
    return next((each for each in operands if not any(k.fullmatch(each) for k in known)), "")


def _announced(
    base: str, name: str, operands: Sequence[str], memory: str, locked: bool
) -> list[str]:
    """Call the engine with the address, the bit, the kind and the size, and every register kept."""
    size = _size(base, name, operands, memory)
    lines = ["\tpush %rdi", "\tpush %rsi", "\tpush %rdx", "\tpush %rcx"]
    lines.append(f"\tlea {_below_saved(memory)}, %rdi")
    by_number = base.startswith("bt") and operands[0] != memory
    lines.append(_bit(operands[0]) if by_number else "\tmovl $0, %esi")
    lines += [f"\tmov ${_kind(base, operands, memory, locked)}, %edx", f"\tmov ${size}, %ecx"]
    return [
        *lines,
        "\tcall assembly_access",
        "\tpop %rcx",
        "\tpop %rdx",
        "\tpop %rsi",
        "\tpop %rdi",
    ]


def _bit(operand: str) -> str:
    """The bit's number into rsi. rdi has been overwritten by now."""
    if operand.startswith("$"):
        return f"\tmov {operand}, %rsi"
    half = operand.startswith("%e") or operand.endswith("d")
    where = "24(%rsp)" if operand in ("%rdi", "%edi") else operand
    return f"\t{'movslq' if half else 'mov'} {where}, %rsi"


def _below_saved(memory: str) -> str:
    """An operand on the stack lies deeper now, by the four registers that were saved."""
    if "%rsp" not in memory:
        return memory
    offset, _, rest = memory.partition("(")
    return f"{offset or '0'}+32({rest}"  # which the assembler adds up, of symbols too


def _size(base: str, name: str, operands: Sequence[str], memory: str) -> int:
    if name != base or name in ("movsb", "movsw", "movsl"):
        return _SIZES.get(name[-1], 8)
    register = next((each for each in operands if each.startswith("%")), "%rax")[1:]
    if register.startswith("e") or (register.startswith("r") and register.endswith("d")):
        return 4
    if register.endswith(("l", "b")):
        return 1
    return 8 if register.startswith("r") else 2


def _kind(base: str, operands: Sequence[str], memory: str, locked: bool) -> int:
    """xchg is locked by itself."""
    if locked or base == "xchg":
        return LOCKED
    if base in _BIT_CHANGES or (base in _CHANGES and operands[-1] == memory):
        return CHANGE
    if base in _READS or operands[-1] != memory:
        return READ
    return WRITE
