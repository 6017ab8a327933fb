"""What does not fit a recording, and what is refused as it is made."""

from __future__ import annotations

import asyncio
import signal
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.stand_in import OnStandIn, linux, two_ports
from support.whole import frame

from activations import Domain
from activations.errors import BackendError
from activations.recording.form import RecordingError
from activations.recording.session import Recording

__all__ = ["linux"]

# What does not fit


async def other_domain(xen: Domain) -> None:
    xen.events.alloc_unbound(9).close()


async def other_value(xen: Domain) -> None:
    with xen.events.alloc_unbound(1) as one, xen.events.alloc_unbound(2):
        one.notify()
        await xen.store.write("/tool/x", 2)


async def looks_at_its_clock(xen: Domain) -> None:
    xen.time_ns()


async def too_little(xen: Domain) -> None:
    with xen.events.alloc_unbound(1), xen.events.alloc_unbound(2):
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)


async def catches_all(xen: Domain) -> None:
    while True:
        try:
            xen.events.alloc_unbound(9)
        except Exception:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (
            other_domain,
            r"event \d+ of \d+: the program asks for alloc_unbound 9 at .*test_recording",
        ),
        (other_domain, r"when it was recorded, it asks for alloc_unbound 1$"),
        (
            other_value,
            r"the program asks for send 0, .*/tool/x.*; when it was recorded, it asks for",
        ),
        (looks_at_its_clock, "the program looks at its clock at .*test_recording.*; when it was"),
        (too_little, r"the program looks whether .*; when it was recorded, it asks for notify 1$"),
        (catches_all, "alloc_unbound 9"),
    ],
)
def test_the_first_difference_is_named_and_ends_the_replay(
    program: Any, says: str, linux: OnStandIn
) -> None:
    linux.record(two_ports)
    with pytest.raises(RecordingError, match=says):
        Recording(linux.path).replay(program)


async def leaves_a_task(xen: Domain, at_the_end: Callable[[Domain], object]) -> None:
    async def left() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            at_the_end(xen)

    xen.loop.create_task(left())
    await asyncio.sleep(0)


def test_a_difference_as_the_loop_is_closed_is_told_as_any(linux: OnStandIn) -> None:
    linux.record(partial(leaves_a_task, at_the_end=lambda xen: None))
    with pytest.raises(RecordingError, match="the program looks at its clock"):
        Recording(linux.path).replay(partial(leaves_a_task, at_the_end=Domain.time_ns))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda data: data[:-1], "was cut short in its frame"),
        (lambda data: data[:40], "was cut short in its frame 0: copy it again"),
        (lambda data: data[:16], "has no end: the run was killed, or still goes on"),
        (lambda data: b"", "is not a recording: `activations run --record`"),
        (lambda data: b"#!/bin/sh\n" + data, "is not a recording"),
        (lambda data: data[:15] + b"\x02" + data[16:], "is a recording of version 2, this reads"),
        (lambda data: data[:-3] + b"abc", "is damaged: at byte"),
        (lambda data: data[:16] + frame(b"[" * 100_000), "is damaged: what begins at byte"),
    ],
)
def test_a_file_that_is_broken_is_told_in_one_error(
    harm: Callable[[bytes], bytes], says: str, linux: OnStandIn
) -> None:
    linux.record(two_ports)
    linux.path.write_bytes(harm(linux.path.read_bytes()))
    with pytest.raises(RecordingError, match=says):
        Recording(linux.path)


def test_no_part_of_a_recording_is_taken_for_one(linux: OnStandIn) -> None:
    """However it was cut, and whichever byte is wrong; as a run that was killed leaves it too."""
    linux.record(two_ports)
    data = linux.path.read_bytes()
    for cut in range(len(data)):
        linux.path.write_bytes(data[:cut])
        with pytest.raises(RecordingError):
            Recording(linux.path)
    for at in range(len(data)):
        linux.path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(RecordingError):
            Recording(linux.path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="nosuch: No such file"):
        Recording(tmp_path / "nosuch")


# What is refused


@pytest.mark.parametrize(
    "does",
    [
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.add_signal_handler(signal.SIGUSR1, print),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.subprocess_exec(asyncio.SubprocessProtocol, "true"),
    ],
)
def test_what_would_not_be_noted_is_refused_as_it_is_recorded(does: Any, linux: OnStandIn) -> None:
    async def main(xen: Domain) -> None:
        does(xen.loop)

    assert "cannot be recorded" in linux.record(main).failures["dom0"]


def test_a_page_is_no_buffer_while_it_is_recorded(linux: OnStandIn) -> None:
    async def main(xen: Domain) -> None:
        with xen.grants.share(1) as pages:
            zlib.crc32(pages.memory)

    assert "TypeError" in linux.record(main).failures["dom0"]


def test_a_recording_that_cannot_be_written_is_told(linux: OnStandIn) -> None:
    linux.path = Path("/dev/full")
    with pytest.raises(BackendError, match="the recording is lost: /dev/full: No space left"):
        linux.record(two_ports)
