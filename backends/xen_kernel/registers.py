"""Clears what a function has left in registers and needs no longer, in what gcc has made of a file.

Two states that differ in a value that will not be read are one state to the kernel, and two to the
search. A register that a call keeps is saved on the stack there, whatever is in it: an index of the
loop before last, say. So wherever a function calls another, or an asm statement stands, each of
these registers that is dead is cleared: no path from there reads it before it is written.

Dead is what is known to be: a mention that is not plainly a whole write is a read, and so is every
jump that is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_NAMES = {
    name: full
    for full, names in {
        "rbx": "rbx ebx bx bl bh",
        "rbp": "rbp ebp bp bpl",
        **{f"r{n}": f"r{n} r{n}d r{n}w r{n}b" for n in (12, 13, 14, 15)},
    }.items()
    for name in names.split()
}
"""Registers that a call keeps, by the names of their parts."""
ALL = frozenset(_NAMES.values())
_WHOLE = {name for name in _NAMES if name.startswith(("r", "e")) and name[-1] not in "wb"}
"""Names of which a write leaves nothing of what was there."""
_WRITES = re.compile(r"(mov|lea|pop)[a-z]*$")
_SAME = re.compile(r"xor[lq]?\s+%(\w+),\s*%\1$")
_REGISTER = re.compile(r"%(\w+)")
_LABEL = re.compile(r"([\w.$]+):")
_MENTIONED = re.compile(r"\.L\w+")
_END = re.compile(r"(rep\s+)?(ret|jmp|ud2)\w*\b")
_JUMP = re.compile(r"(j\w+)\s+(\.L\w+)$")


@dataclass(slots=True)
class _Line:
    text: str
    call: bool = False
    """A place to clear at: a call, or the beginning of an asm statement."""
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    falls: bool = True
    """Whether what stands behind it may follow."""
    targets: list[str] = field(default_factory=list)
    live: frozenset[str] = frozenset()
    """What is read from here on."""


def clear(text: str) -> str:
    """The assembly of a file with dead registers cleared before each call."""
    lines = list(_read(text))
    _follow_back(lines)
    out: list[str] = []
    for number, line in enumerate(lines):
        if line.call:
            after = _behind(lines, number)
            out += [f"\txorl %{_half(name)}, %{_half(name)}" for name in sorted(ALL - after)]
        out.append(line.text)
    return "\n".join(out)


def _half(name: str) -> str:
    return f"e{name[1:]}" if name in ("rbx", "rbp") else f"{name}d"


def _read(text: str) -> Iterator[_Line]:
    inline = False
    for raw in text.split("\n"):
        words = raw.split("#")[0].strip() if not raw.startswith("#") else ""
        if raw.strip() == "#APP":
            inline = True
            yield _Line(raw, call=True)
        elif raw.strip() == "#NO_APP":
            inline = False
            yield _Line(raw)
        elif inline:
            yield _Line(raw, reads=_mentioned(words), targets=_MENTIONED.findall(words))
        else:
            yield _instruction(raw, words)


def _mentioned(words: str) -> frozenset[str]:
    return frozenset(_NAMES[name] for name in _REGISTER.findall(words) if name in _NAMES)


def _instruction(raw: str, words: str) -> _Line:
    if not words or words.startswith(".") or _LABEL.match(words):
        return _Line(raw)
    if jump := _JUMP.match(words):
        return _Line(raw, targets=[jump[2]], falls=jump[1] != "jmp")
    if _END.match(words) or words.startswith("j"):
        return _Line(raw, reads=ALL, falls=False)
    if _SAME.match(words):
        return _Line(raw, writes=_mentioned(words))
    name, _, operands = words.partition("\t")
    before, _, last = operands.rpartition(",")
    if _WRITES.match(name) and last.strip().removeprefix("%") in _WHOLE:
        return _Line(raw, reads=_mentioned(before), writes=_mentioned(last))
    return _Line(raw, call=name.startswith("call"), reads=_mentioned(words))


def _follow_back(lines: Sequence[_Line]) -> None:
    """What is live before each line, until nothing is added."""
    labels = {
        match[1]: number
        for number, line in enumerate(lines)
        if (match := _LABEL.match(line.text.strip()))
    }
    more = True
    while more:
        more = False
        after: frozenset[str] = ALL
        for line in reversed(lines):
            out = after if line.falls else frozenset()
            for target in line.targets:
                out |= lines[labels[target]].live if target in labels else ALL
            live = line.reads | (out - line.writes)
            if live != line.live:
                line.live, more = live, True
            after = live


def _behind(lines: Sequence[_Line], number: int) -> frozenset[str]:
    """What is live at a call, or in an asm statement."""
    return lines[number].live
