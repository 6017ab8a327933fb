"""What the guest is given, and what it gives: struct module and struct report in kernel/probe.h."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xen_oracle.program import Kind, Step, encoded

from .steps import ProbeKind

MAGIC = 0x424F5250
REPORT = 0x1000000
REPORT_SIZE = 0xE00000
"""Where the report lies in the guest's memory, and the most that there is of it."""
PROGRAMS, LOWER_HALF, HLT, PEER = range(4)
DELIVERIES = ("none", "vector", "callback")

_HYPERCALLS = (Kind.EVENT_CHANNEL_OP, ProbeKind.GRANT_TABLE_OP)
"""Steps that have an argument."""
_MODULE = struct.Struct("<16I")
HEADER = struct.Struct("<16Q")
_ANSWER = struct.Struct("<iHHII32s")
_CHANGE = struct.Struct("<QQ")


class Answer(NamedTuple):
    """What became of a step."""

    result: int
    slept: bool
    upcalls: tuple[int, ...]
    """How often each vCPU was upcalled so far."""
    argument: bytes
    changes: tuple[tuple[int, int], ...]
    """Words of 64 bits that are not as they were, and what they are: page << 16 | offset, where
    page 0 is shared_info, n + 1 is frame n; behind these are two of the guest's grant table, and
    the other guest's frames and grant table."""


def module(task: int, delivery: str, vcpus: int, *words: int) -> bytes:
    """The beginning of a module."""
    words = (*words, *[0] * (12 - len(words)))
    return _MODULE.pack(MAGIC, task, DELIVERIES.index(delivery), vcpus, *words)


def programs(delivery: str, vcpus: int, steps: Sequence[Step]) -> bytes:
    """A module with steps."""
    return module(PROGRAMS, delivery, vcpus, len(steps)) + encoded(steps)


def answers(report: bytes, steps: Sequence[Step], vcpus: int) -> Iterator[Answer]:
    """What became of each of the steps, out of a report without its header."""
    at = 0
    for step in steps:
        if at >= len(report):
            return
        result, slept, count, *upcalls, argument = _ANSWER.unpack_from(report, at)
        at += _ANSWER.size
        changes = [_CHANGE.unpack_from(report, at + n * _CHANGE.size) for n in range(count)]
        at += count * _CHANGE.size
        size = len(step.data) if step.kind in _HYPERCALLS else 0
        yield Answer(result, bool(slept), tuple(upcalls[:vcpus]), argument[:size], tuple(changes))
