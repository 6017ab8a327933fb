"""Compare the simulator with a real Xen, as long as you like:

    PYTHONPATH=tests python -m probe --steps 200_000

Boots the lab. Exits 0 where nothing differs, 1 where something does, which is then shrunk and
printed. `--recorded FILE...` compares with what was recorded before, by `--record FOLDER`.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from xen_oracle.pieces import number

from xen_lab import Lab

from . import build, compare, grants
from .compare import OnXen, Recording
from .lab import Probe
from .programs import GUESTS, asked

PIECE = 12_000
"""Steps that one guest does."""


def main() -> int:
    given = _arguments()
    if given.recorded:
        return _compare(map(pickle.loads, map(Path.read_bytes, given.recorded)), None)
    with TemporaryDirectory() as folder, Lab(progress=print) as lab:
        probe = Probe(lab, build.kernel(Path(folder)))
        recordings = _recordings(probe.programs, given.steps, given.seed)
        return _compare(_kept(recordings, given.record), probe.programs)


def _recordings(on_xen: OnXen, steps: int, seed: int) -> Iterator[Recording]:
    """All guests by turns, until they have done so many steps."""
    kinds = len(GUESTS) + 1
    rounds = -(-steps // (PIECE * kinds))
    many = -(-steps // (rounds * kinds))
    for turn in range(seed, seed + rounds):
        events = [asked(guest, many, turn) for guest in GUESTS]
        yield from compare.record(on_xen, [*events, grants.asked(many, turn)])


def _kept(recordings: Iterator[Recording], folder: Path | None) -> Iterator[Recording]:
    for count, recording in enumerate(recordings):
        if folder:
            (folder / f"{count}.recorded").write_bytes(pickle.dumps(recording))
        yield recording


def _compare(recordings: Iterator[Recording], on_xen: OnXen | None) -> int:
    steps, begun = 0, time.monotonic()
    for recording in recordings:
        steps += len(recording.steps)
        try:
            found = next(compare.differences(recording), None)
        except Exception as error:
            print(f"{steps:,} steps compared, and the simulator raised {error!r}")
            return 1
        print(f"{steps:,} steps compared in {time.monotonic() - begun:.1f} s", flush=True)
        if found:
            print(compare.shrunk(on_xen, found) if on_xen else found)
            return 1
    print("nothing differs")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="probe", description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=number, default=200_000, help="how many (200_000)")
    parser.add_argument("--seed", type=number, default=1, help="which programs (1)")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="keep what Xen answers")
    parser.add_argument("--recorded", type=Path, nargs="+", metavar="FILE", help="without a lab")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
