"""Xen's xenstored as a shared library: its sources as they are, and stored.c below them.

The sources are Debian's source package's. Nothing of them is kept beside the code of this project,
and the library is for tests on this machine alone (Xen is under the GPL, version 2).
"""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from support.debian import kept, source
from support.needs import need_compiler

WHAT = "Xen's own xenstored"
HERE = Path(__file__).resolve().parent
OURS = ("stored.c", "xenctrl.h", "build.py")

PLACE = "tools/xenstore/"
SOURCES = (
    *("xenstored_core.c", "xenstored_watch.c", "xenstored_domain.c", "xenstored_transaction.c"),
    *("xenstored_control.c", "xs_lib.c", "talloc.c", "utils.c", "tdb.c", "hashtable.c"),
)
"""All but what is for an operating system: stored.c stands in its place."""
HEADERS = ("tools/include/", "tools/libs/toolcore/include/", "xen/include/public/")
FLAGS = (
    *("-std=gnu11", "-O2", "-g", "-w", "-fPIC", "-shared", "-fvisibility=hidden"),
    *("-Werror=implicit-function-declaration", "-Werror=incompatible-pointer-types"),
    *("-D__XEN_TOOLS__", "-DNO_LIVE_UPDATE", "-DINCLUDE_ENDIAN_H=<endian.h>"),
    *('-DXEN_RUN_STORED="/nowhere"', "-Dmain=xenstored_main", "-Wl,-z,defs"),
)


def library() -> Path:
    """The library, kept until one of the sources changes."""
    need_compiler(WHAT)
    archive = source(WHAT, "xen")
    digest = hashlib.sha256(f"{archive.name} {FLAGS}".encode())
    for name in OURS:
        digest.update((HERE / name).read_bytes())
    return kept(f"xenstored-{digest.hexdigest()[:16]}", lambda into: _build(archive, into)) / NAME


NAME = "libxenstored.so"


def _build(archive: Path, into: Path) -> None:
    with TemporaryDirectory() as folder:
        tree = Path(folder)
        _unpack(archive, tree)
        (tree / "include").mkdir()
        (tree / "include" / "xen").symlink_to(tree / "xen/include/public")
        theirs = tree / PLACE
        places = [HERE, theirs, theirs / "include", tree / "include", tree / "tools/include"]
        sources = [HERE / "stored.c", *(theirs / name for name in SOURCES)]
        include = [f"-I{place}" for place in places]
        subprocess.run(["cc", *FLAGS, *include, *sources, "-o", into / NAME], check=True)


def _unpack(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as packed:
        for member in packed:
            name = member.name.partition("/")[2]
            if not name.startswith((PLACE, *HEADERS)):
                continue
            if content := packed.extractfile(member) if member.isfile() else None:
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).write_bytes(content.read())
