"""Files and words that somebody else may have made: recordings, tokens, kept failures, kernels' own
sources and what is said of them."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from support import whole

from activations.recording.form import MAGIC, VERSION, RecordingError, Writer
from activations.recording.form import read as read_recording
from activations.store.wire import octets, text
from xen_kernel.assembly import rewrite
from xen_kernel.scenario import Scenario
from xen_sim.explore import token as tokens
from xen_sim.explore.database import Database
from xen_sim.schedule.tape import Taken

from .hostile import BATCH, Feed
from .noise import spoilt
from .noise import text as said


def folder() -> tempfile.TemporaryDirectory[str]:
    """For files that are written over and over: in memory, where there is such a place. On a disk
    it takes milliseconds to open one that was just written."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None)


def recording() -> Feed:
    """A recording that was damaged, or is none; with its checksums right, too."""
    pieces: list[bytes] = []
    writer = Writer(pieces.append, {"domain": "guest", "domid": 1})
    writer.events([5, "block", "demux3", ["read", ["p", 0, 4], "AAAA"], ["end", None]])
    right = b"".join(pieces)

    def feed(random: Random) -> int:
        with folder() as place:
            return into(random, Path(place) / "recording")

    def into(random: Random, path: Path) -> int:
        for _ in range(BATCH):
            if random.random() < 0.5:
                data = spoilt(random, right)
            else:
                data = MAGIC + bytes([VERSION])
                for _ in range(random.randrange(3)):
                    nested = b"[" * random.choice((1, 3, 100_000 if random.random() < 0.01 else 9))
                    inside = random.choice(
                        (b"[]", b"{}", b"1", b"null", nested, b"\xff", b'["end"]')
                    )
                    data += whole.frame(inside)
            path.write_bytes(data)
            with suppress(RecordingError):
                read_recording(path)
        return BATCH

    return feed


def token(random: Random) -> None:
    """One that was mistyped, and one whose checks are right and that says nonsense."""
    kind = random.random()
    if kind < 0.3:
        tokens.parse(said(random, "x1-", "x1-aaaa", "x²-aaaa", "x2-ayqgkaaqc4bd5a2m"))
        return
    if kind < 0.5:
        right = octets("x1-ayqgkaaqc4bd5a2m")
        tokens.parse(text(spoilt(random, right)))
        return
    body = random.randbytes(3) + bytes(
        random.choice((0, 1, 127, 128, 255)) for _ in range(random.randrange(1, 30))
    )
    parsed = tokens.parse(whole.token(body))
    assert tokens.parse(str(parsed)) == parsed


def failures() -> Feed:
    """A folder `.activations/` that somebody else has written into."""
    values = ("null", "5", "[]", "{}", '"x"', '[["p", ["a"], 0]]', "[[1]]", "[" * 100_000)

    def feed(random: Random) -> int:
        with folder() as place:
            database = Database(Path(place))
            token = str(tokens.Token(0, 1, (), ()))
            database.keep(token, "a program", "deadlock", (Taken("p", ("a",), 0),))
            return into(random, database, Path(place) / f"{token}.json")

    def into(random: Random, database: Database, path: Path) -> int:
        kept = path.read_bytes()
        for _ in range(BATCH):
            if random.random() < 0.5:
                data = spoilt(random, kept)
            else:
                values_of = {
                    name: random.choice(values[:-1]) for name in ("token", "found", "taken")
                }
                fields = [f'"{name}": {value}' for name, value in values_of.items()]
                fields.append(random.choice(('"program": "a program"',) * 9 + values))
                data = ("{" + ", ".join(fields) + "}").encode()
                if random.random() < 0.05:
                    data = random.choice(values).encode()
            path.write_bytes(data)
            for failure in database.of("a program"):
                assert isinstance(failure.token, tokens.Token)
        return BATCH

    return feed


def kernel_scenario(random: Random) -> None:
    values: dict[str, Any] = {
        name: random.choice((-1, 0, 1, 2, 4, 6, 7, 200, 201, 1 << 40))
        for name in ("vcpus", "ports", "sends")
    }
    delivery: Any = random.choice(("vector", "callback", "pv", said(random)))
    abi: Any = random.choice(("any", "2l", "fifo", said(random)))
    scenario = Scenario((Path("x.c"),), delivery=delivery, abi=abi, **values)
    assert scenario.arguments()


LINES = (
    "#APP",
    "#NO_APP",
    "lock",
    "lock;",
    "btsq %rax, (%rdx)",
    "cli",
    "sti",
    "sti; hlt",
    "hlt",
    ";",
)
LINES += (
    "movl $1, (%rax)",
    '# 12 "x.c" 1',
    ".pushsection x",
    ".popsection",
    "1:",
    "jne 1b",
    "mfence",
)
LINES += (
    "xchgq %rax, 8(%rsp)",
    "lock cmpxchgl %ecx, x(%rip)",
    "rep movsb",
    "(((",
    "$",
    ",,,",
    "addl",
)


def kernel_assembly(random: Random) -> None:
    listing = [random.choice(LINES) for _ in range(random.randrange(1, 12))]
    if random.random() < 0.3:
        at = random.randrange(len(listing))
        listing[at] = text(spoilt(random, octets(listing[at])))
    rewrite("\n".join(["#APP", *listing]), Path("x.c"))
