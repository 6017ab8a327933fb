"""What the lab keeps on disk: seen, brought up to date, freed, and safe while a lab runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from activations.errors import BackendError
from xen_lab import Lab, cache, emulator, image, stock
from xen_lab.manifest import Manifest

OLD = {"xen-hypervisor-4.17-amd64": "4.17.5+1-2", "linux-image-6.1.0-9-amd64": "6.1.9-1"}
NEW = {**OLD, "xen-hypervisor-4.17-amd64": "4.17.7+1-2", "python3.11-minimal": "3.11.2-6"}


def quiet(text: str) -> None:
    pass


def make(place: Path, versions: dict[str, str], size: int = 100_000) -> Path:
    place.mkdir(parents=True)
    (place / "file").write_bytes(bytes(range(1, 251)) * (size // 250))
    Manifest.record(place, versions)
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache with everything that can be in one."""
    make(image.where(tmp_path), OLD)
    make(tmp_path / "image-0123456789ab", OLD)
    make(tmp_path / "making-dead" / "result", OLD)
    (tmp_path / "apt" / "lists").mkdir(parents=True)
    (tmp_path / "somebodys.txt").touch()
    return tmp_path


@pytest.fixture
def debian(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What Debian has now; images are made of it."""
    now = dict(NEW)

    def build(
        progress: object, state: Path, fresh: bool, work: Path, result: Path
    ) -> dict[str, str]:
        assert fresh, "made from lists that were fetched now"
        (result / "file").write_bytes(b"new")
        return now

    monkeypatch.setattr(image, "newest", lambda folder: dict(now))
    monkeypatch.setattr(image, "_build", build)
    monkeypatch.setattr(emulator, "newest", lambda folder: dict(now))
    monkeypatch.setattr(emulator, "_build", build)
    return now


def names(kept: list[stock.Kept]) -> list[str]:
    return [each.path.name for each in kept]


def test_what_is_needed_comes_first(folder: Path) -> None:
    current, *others = stock.kept(folder)
    assert (current.path, current.needed) == (image.where(folder), True)
    assert current.detail == "Xen 4.17.5, Linux 6.1.9"
    assert current.size >= 100_000
    assert not any(each.needed for each in others)
    assert names(others) == ["apt", "image-0123456789ab", "making-dead"]


def test_a_cache_that_is_not_there_is_empty_and_is_not_made(tmp_path: Path) -> None:
    assert stock.kept(tmp_path / "none") == []
    assert stock.clean(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_what_is_damaged_is_not_needed(folder: Path) -> None:
    (image.where(folder) / "file").write_bytes(b"")
    (folder / "qemu").mkdir()
    damaged = [each for each in stock.kept(folder) if "damaged" in each.what]
    assert names(damaged) == [image.where(folder).name, "qemu"]
    assert not any(each.needed for each in damaged)


def test_clean_frees_all_that_is_ours(folder: Path) -> None:
    assert len(stock.clean(folder)) == 4
    assert {path.name for path in folder.iterdir()} == {"somebodys.txt", "lock", "in-use"}
    assert stock.kept(folder) == []


def test_clean_old_leaves_what_the_next_run_needs(folder: Path) -> None:
    assert names(stock.clean(folder, old=True)) == ["apt", "image-0123456789ab", "making-dead"]
    assert image.cached(folder) is not None


def test_refresh_takes_what_is_newer_and_says_what(folder: Path, debian: dict[str, str]) -> None:
    make(folder / "qemu", NEW)
    assert stock.refresh(quiet, folder) == [
        "python3.11-minimal 3.11.2-6",
        "xen-hypervisor-4.17-amd64 4.17.5+1-2 -> 4.17.7+1-2",
    ]
    assert (image.where(folder) / "file").read_bytes() == b"new"
    assert (folder / "qemu" / "file").read_bytes() != b"new", "which was new already"
    assert stock.refresh(quiet, folder) == [], "and there is nothing newer then"
    debian["libpng"] = "1.6"
    del debian["python3.11-minimal"]
    changes = ["libpng 1.6", "python3.11-minimal 3.11.2-6 -> left out"]
    assert stock.refresh(quiet, folder) == changes * 2, "of the image, and of QEMU"


def test_refresh_makes_what_is_not_there(tmp_path: Path, debian: dict[str, str]) -> None:
    assert len(stock.refresh(quiet, tmp_path)) == len(NEW)
    found = image.cached(tmp_path)
    assert found is not None
    assert found.versions == NEW
    assert not emulator.where(tmp_path).exists(), "whether QEMU is wanted shows at the first run"


# While a lab runs

RUNS = """
import sys
from pathlib import Path
from xen_lab import cache
with cache.in_use(Path(sys.argv[1])):
    print("runs", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def running(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, in which a lab runs from the cache."""
    with subprocess.Popen(
        [sys.executable, "-c", RUNS, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        yield process
        process.kill()


def test_nothing_is_freed_or_replaced_while_a_lab_runs(
    folder: Path, running: subprocess.Popen[str], debian: dict[str, str]
) -> None:
    before = names(stock.kept(folder))
    for attempt in (lambda: stock.clean(folder), lambda: stock.refresh(quiet, folder)):
        with pytest.raises(BackendError, match=f"a lab runs from {folder}: end it first"):
            attempt()
    assert names(stock.kept(folder)) == before
    with cache.in_use(folder):
        pass  # others may run as well
    running.kill()
    running.wait()
    assert len(stock.clean(folder)) == 4, "its claim goes with its process"


@pytest.mark.lab
def test_a_lab_that_is_up_claims_its_cache(lab: Lab) -> None:
    with pytest.raises(BackendError, match="a lab runs from"), cache.unused(cache.default()):
        pass
