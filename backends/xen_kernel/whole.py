"""Which changes of memory are one instruction: `x |= bit`, where gcc has it so.

What is instrumented reads, is told of the write, and writes: an interrupt may come between the two
then. Where the same line is one instruction when it is not watched, none does on x86. So each file
is compiled plainly too, and where that has an instruction that changes memory, the read of the same
place in the source is marked as the first half of it. Other processors come between the two all the
same, as the instruction is not locked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

_CHANGES = re.compile(
    r"(?:add|adc|sub|sbb|and|or|xor|not|neg|inc|dec|shl|shr|sal|sar|rol|ror)[bwlq]\s.*\)$"
)
_FILE = re.compile(r'\.file (\d+) .*"(.*)"')
_LOCATION = re.compile(r"\.loc (\d+) (\d+) (\d+)")
_WATCHED = re.compile(r"call\s+__tsan_((?:unaligned_)?(?:read|write))([1248])(@PLT)?$")


class _Place(NamedTuple):
    file: str
    line: str
    column: str


def places(plain: str) -> frozenset[_Place]:
    """Where in the source memory is changed by one instruction, in the assembly of a file as gcc
    makes it."""
    return frozenset(place for text, place in _lines(plain) if _CHANGES.match(text))


def marked(watched: str, whole: frozenset[_Place]) -> str:
    """The instrumented assembly of the same file, with reads that are a first half named so."""
    lines = list(_lines(watched))
    calls = [number for number, (text, _) in enumerate(lines) if _WATCHED.match(text)]
    halves = {
        here
        for here, after in pairwise(calls)
        if _is_half(lines, here, after) and lines[here][1] in whole
    }
    raw = watched.split("\n")
    for number in halves:
        raw[number] = re.sub(r"__tsan_(unaligned_)?read", "engine_first_half", raw[number])
    return "\n".join(raw)


def _is_half(lines: Sequence[tuple[str, _Place]], here: int, after: int) -> bool:
    """A read, and then a write of as much, for the same place."""
    read, write = (_WATCHED.match(lines[number][0]) for number in (here, after))
    assert read is not None
    assert write is not None
    return (
        read[1].endswith("read")
        and write[1].endswith("write")
        and read[2] == write[2]
        and lines[here][1] == lines[after][1]
    )


def _lines(assembly: str) -> Iterator[tuple[str, _Place]]:
    """Each line, and what place of the source it is for. Those of asm statements are none."""
    files: dict[str, str] = {}
    place, inline = _Place("", "", ""), False
    for raw in assembly.split("\n"):
        text = raw.strip()
        if text in ("#APP", "#NO_APP"):
            inline = text == "#APP"
        if (named := _FILE.match(text)) is not None:
            files[named[1]] = named[2]
        elif (at := _LOCATION.match(text)) is not None:
            place = _Place(files.get(at[1], at[1]), at[2], at[3])
        yield ("" if inline else text), place
