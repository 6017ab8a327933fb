"""The probe of docs/truth.md in the lab that tests share, and what is recorded of it."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from probe import build
from probe.compare import Recording
from probe.lab import Probe
from xen_oracle import mutants
from xen_oracle.planted import Planted

from xen_lab import Lab


@pytest.fixture(scope="module")
def probe(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    return Probe(lab, build.kernel(tmp_path_factory.mktemp("probe")))


def unseen(
    faults: Sequence[Planted], recordings: Sequence[Recording], folder: Path
) -> Sequence[str]:
    """Those of the simulator's faults that do not show in what was recorded."""
    paths = [folder / f"{number}.recorded" for number in range(len(recordings))]
    for path, recording in zip(paths, recordings, strict=True):
        path.write_bytes(pickle.dumps(recording))
    return mutants.unseen(faults, folder, "probe", "--recorded", *map(str, paths))
