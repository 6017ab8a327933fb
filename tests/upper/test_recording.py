"""Recordings: what a domain takes in on `linux` is noted, and makes the same program do the same
without it. The device is a stand-in, the store a simulated one behind a real socket.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import textwrap
import time
import uuid
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from support.places import EXAMPLES
from support.pure import in_python_alone, needed_accelerator
from support.stand_in import PEER, OnStandIn, linux, two_ports

from activations import Domain, GenerationEnded, XenError, vchan
from activations.cli import main as command
from activations.lower import Foreign, Segment
from activations.recording.form import RecordingError
from activations.recording.session import Interrupted, Recording
from activations.ring import ByteRing
from activations.scenario import Silent, load
from activations.sring import BackRing, FrontRing

__all__ = ["linux"]

# The same state


def test_events_come_again_as_they_came(linux: OnStandIn) -> None:
    chance = random.Random(5)

    async def main(xen: Domain) -> list[Any]:
        told: list[Any] = []
        with xen.events.alloc_unbound(1) as one, xen.events.bind_interdomain(1, 7) as other:

            async def wait(port: Any) -> None:
                for _ in range(3):
                    told.append((port.number, await port.wait()))

            for _ in range(3):
                linux.peer(lambda: linux.device.fire(one.number, other.number))
            waits = [asyncio.create_task(wait(port)) for port in (one, other)]
            while not all(each.done() for each in waits):
                await asyncio.sleep(0.001)
                linux.peer(lambda: linux.device.fire(chance.choice((one, other)).number))
                one.mask()
                one.unmask()
            return [*told, one.statistics(), other.statistics()]

    told = linux.twice(main)
    assert told[-2].fired >= 3


def test_the_store_answers_as_it_did(linux: OnStandIn) -> None:
    async def main(xen: Domain) -> list[Any]:
        told: list[Any] = []
        async with xen.store.watch("/tool") as changes:
            await xen.store.write("/tool/a", os.urandom(4).hex())
            async for path in changes:
                told.append(path)
                if path == "/tool/a":
                    break
        with pytest.raises(OSError, match="nosuch"):
            await xen.store.read("/tool/nosuch")
        reads = [xen.store.read("/tool/a") for _ in range(20)]
        told += await asyncio.gather(*reads)
        return told

    assert linux.twice(main)[0] == "/tool"


def test_chance_and_time_are_the_same(linux: OnStandIn) -> None:
    async def main(xen: Domain) -> list[Any]:
        began = xen.loop.time()
        await asyncio.sleep(0.01)
        time.sleep(0.001)
        return [
            *(random.random(), random.SystemRandom().random(), secrets.token_hex()),
            *(str(uuid.uuid1()), str(uuid.uuid4()), os.urandom(3)),
            *(time.time(), time.time_ns(), time.monotonic(), time.perf_counter_ns()),
            *(xen.loop.time() - began, xen.time_ns()),
        ]

    state = random.getstate()
    linux.twice(main)
    assert random.getstate() == state


def test_pages_are_read_as_they_were(linux: OnStandIn) -> None:
    def scribble() -> None:
        for page in linux.table.made:
            page.bytes[:] = PEER.randbytes(len(page.bytes))

    async def main(xen: Domain) -> list[Any]:
        told: list[Any] = []
        with xen.grants.map(1, [5, 6], writable=False) as theirs, xen.grants.share(1) as ours:
            for memory in (theirs.memory, ours.memory):
                linux.peer(scribble)
                words = memory.cast("I")
                told += [memory[3], memory[-1], words[7], bytes(memory[10:20]), words.tobytes()]
                told += [len(memory), len(words), list(memory[4090:4096]), memory[5:9].hex()]
                words.release()
            with pytest.raises(TypeError):
                theirs.memory[0] = 1
            with pytest.raises(IndexError):
                theirs.memory[8192]
            ours.memory[0:4] = b"mine"
            ours.memory[4] = 9
            told.append(bytes(ours.memory[0:5]))
        data = bytearray(6)
        xen.grants.copy([Segment(Foreign(1, 8), data, 6)])
        with pytest.raises(XenError, match="there is none") as refused:
            xen.grants.map(66, [1])
        return [*told, bytes(data), refused.value.errno, str(refused.value)]

    assert linux.twice(main)[-4] == b"mine\x09"


def test_rings_in_shared_pages_are_taken_from_as_they_were(linux: OnStandIn) -> None:
    async def main(xen: Domain) -> list[Any]:
        told: list[Any] = []
        with xen.grants.share(1) as pages, xen.grants.share(1) as bytes_:
            ring = FrontRing(pages.memory, 16)
            pipe = ByteRing(bytes_.memory[:1024], bytes_.memory[1024:1032], cons=0, prod=4)
            for number in range(20):
                ring.put(number.to_bytes(16, "little"))
                ring.push()
                linux.peer(lambda: _answer(linux.table.made[0].bytes))
                while (response := ring.take()) is not None:
                    told.append(response)
                told.append(ring.idle())
                pipe.write(os.urandom(100))
                told.append(pipe.read(60))
            ring.release()
            pipe.release()
        return told

    assert len([each for each in linux.twice(main) if isinstance(each, bytes)]) == 40


def test_a_vchan_is_offered_in_recorded_pages(linux: OnStandIn) -> None:
    async def main(xen: Domain) -> list[str]:
        async with vchan.listen(xen, 1, "/tool/it"):
            return [
                await xen.store.read(f"/tool/it/{key}") for key in ("ring-ref", "event-channel")
            ]

    assert linux.twice(main) == ["8", "1"]


def _answer(page: bytearray) -> None:
    back = BackRing(memoryview(page), 16)
    while (request := back.take()) is not None:
        back.put(bytes(reversed(request)))
    back.push()
    back.release()


def test_a_suspend_comes_at_the_same_place(linux: OnStandIn) -> None:
    async def main(xen: Domain) -> list[Any]:
        port = xen.events.alloc_unbound(1)
        before = (xen.domid, xen.generation)
        linux.peer(lambda: linux.resumes.resume())
        with pytest.raises(GenerationEnded):
            await port.wait()
        await xen.store.write("/tool/again", 1)
        with xen.events.alloc_unbound(1) as port:
            return [before, xen.domid, xen.generation, port.number]

    assert linux.twice(main) == [(0, 0), 4, 1, 1]


def test_what_a_half_raises_it_raises_again(linux: OnStandIn) -> None:
    async def main(xen: Domain) -> None:
        raise ValueError(await xen.store.exists("/local"))

    assert "ValueError" in linux.record(main).failures["dom0"]
    with pytest.raises(ValueError, match="True"):
        Recording(linux.path).replay(main)


def test_it_can_be_traced_too(linux: OnStandIn, tmp_path: Path) -> None:
    async def main(xen: Domain) -> None:
        with xen.events.bind_interdomain(1, 7) as port:
            await port.wait()
            port.notify()

    outcome = linux.record(main, trace=tmp_path / "t")
    assert not outcome.failures
    Recording(linux.path).replay(main)
    told = [json.loads(line)["what"] for line in (tmp_path / "t").read_text().splitlines()]
    assert told == ["start", "bind_interdomain", "demux", "wake", "send", "close", "end"]


def test_asyncios_debug_mode_is_that_of_the_recording(
    linux: OnStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at the clock more often."""
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    assert not linux.record(two_ports).failures
    monkeypatch.delenv("PYTHONASYNCIODEBUG")
    assert Recording(linux.path).replay(two_ports) == 1


@pytest.mark.parametrize("first", ["with it", "without it"])
def test_what_was_recorded_with_the_accelerator_is_replayed_without_it_and_the_other_way_round(
    linux: OnStandIn, first: str
) -> None:
    """Their turns ask the same, in the same order."""
    needed_accelerator()

    async def main(xen: Domain) -> list[Any]:
        told: list[Any] = []
        async with xen.store.watch("/tool") as changes:
            with xen.events.alloc_unbound(1) as port, xen.events.alloc_unbound(1) as other:
                for number in range(20):
                    linux.peer(lambda: linux.device.fire(port.number, other.number))
                    waits = [asyncio.create_task(each.wait()) for each in (port, other)]
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.0005 * (number % 3)):
                            told.append(await waits[0])
                    await asyncio.wait(waits)
                    await xen.store.write("/tool/a", number)
                    told += [xen.loop.time(), port.statistics(), await anext(changes)]
        return told

    with in_python_alone() if first == "without it" else nullcontext():
        outcome = linux.record(main)
    assert not outcome.failures
    with in_python_alone() if first == "with it" else nullcontext():
        assert Recording(linux.path).replay(main) == outcome.results["dom0"]


def test_a_difference_is_found_at_its_line_with_the_accelerator(linux: OnStandIn) -> None:
    assert not linux.record(two_ports).failures

    async def asks_otherwise(xen: Domain) -> None:
        xen.events.alloc_unbound(17)

    line = asks_otherwise.__code__.co_firstlineno + 1
    with pytest.raises(RecordingError, match=f"at {__file__}:{line}; "):
        Recording(linux.path).replay(asks_otherwise)


def test_a_run_that_ctrl_c_ended_is_replayed_as_far_as_that(linux: OnStandIn) -> None:
    async def main(xen: Domain) -> None:
        told.append(await xen.store.list("/"))
        linux.peer(lambda: signal.raise_signal(signal.SIGINT))
        await asyncio.sleep(3600)

    told: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        linux.record(main)
    with pytest.raises(Interrupted, match="replayed as far as Ctrl-C"):
        Recording(linux.path).replay(main)
    assert told[0] == told[1]


# As a user does it


PROGRAM = """
from activations import Scenario
it = Scenario("it")

@it.domain("dom0")
async def dom0(xen):
    with xen.events.alloc_unbound({domid}) as port:
        print("port", port.number)
    return port.number
"""


def test_the_command_records_and_replays(
    linux: OnStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = tmp_path / "it.py", tmp_path / "other.py"
    file.write_text(textwrap.dedent(PROGRAM.format(domid=1)))
    other.write_text(textwrap.dedent(PROGRAM.format(domid=2)))
    run = ["run", str(file), "-b", "linux", "--as", "dom0", "--record", str(linux.path)]
    assert command(run) == 0
    assert capsys.readouterr().out == "port 1\n"
    for words in ([str(linux.path)], [str(file), str(linux.path)]):
        assert command(["replay", *words]) == 0
        assert "port 1\n" in capsys.readouterr().out
    assert command(["replay", str(other), str(linux.path)]) == 2
    said = capsys.readouterr().err
    assert "the program asks for alloc_unbound 2" in said
    assert "Traceback" not in said
    assert command(["replay", str(file)]) == 2
    assert "it.py is not a recording" in capsys.readouterr().err


def test_the_simulator_records_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "it.py"
    file.write_text(PROGRAM.format(domid=1))
    assert command(["run", str(file), "--record", str(tmp_path / "r")]) == 2
    assert "a seed or a token repeats its runs" in capsys.readouterr().err


@pytest.mark.lab
def test_a_run_in_the_lab_is_replayed_here(lab: Any, tmp_path: Path) -> None:
    scenario = load(str(EXAMPLES / "pingpong.py"))
    outcome = lab.run(scenario, Silent(), record=tmp_path / "pp.rec")
    assert not outcome.failures
    for half in scenario.halves.values():
        recording = Recording(tmp_path / f"pp.{half.name}.rec")
        assert recording.replay(half.main) == outcome.results[half.name]
