"""test-xenstore, the test program in Xen's own sources: fetched, built, never kept here.

Debian has it in no package but the source's. It works as a client through Xen's own library: nodes,
listings, removals, transactions that commit, abort and meet conflicts.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.debian import compiled, source, unpacked
from xen_lab import Lab

NAME = "test-xenstore"
WHAT = "Xen's own test program for xenstore"
PROGRAM = "tools/tests/xenstore/test-xenstore.c"
HEADERS = "tools/include/xen-tools/"
RUNS = [(), ("-i", "20"), ("-r", "2")]
"""Its arguments: every test once, each again and again, tests at random for two seconds."""


def built(config: pytest.Config) -> Path:
    """The program, all libraries in it, so that it runs in the lab as well. Built at the first
    call; pytest's cache has it then (`--cache-clear`)."""
    assert config.cache
    kept = config.cache.mkdir("xen") / NAME
    if not kept.exists():
        with TemporaryDirectory(dir=kept.parent) as work:
            _build(Path(work)).rename(kept)
    return kept


def pass_in_dom0(lab: Lab, program: Path) -> None:
    """Its tests pass on the lab's xenstored."""
    lab.put("dom0", f"/tmp/{NAME}", program.read_bytes())
    for arguments in RUNS:
        status, said = lab.shell("dom0", [f"/tmp/{NAME}", *arguments])
        assert status == 0, said


def _build(folder: Path) -> Path:
    _unpack(source(WHAT, "xen"), folder / "source")
    return compiled(
        WHAT,
        folder / NAME,
        unpacked(WHAT, ["libxen-dev"]),
        *("-static", f"-I{folder}/source/tools/include", folder / "source" / PROGRAM),
        *("-lxenstore", "-lxentoolcore"),
    )


def _unpack(sources: Path, into: Path) -> None:
    """What is needed of Xen's sources."""
    with tarfile.open(sources) as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            if name.startswith((PROGRAM, HEADERS)) and (content := archive.extractfile(member)):
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).write_bytes(content.read())
