"""Xen's event channel code as a shared library: out of its sources, behind a shim of ours.

The sources are Debian's source package's. What is compiled of Xen: event_channel.c, event_2l.c and
event_fifo.c, unmodified; some of its headers as they are; and, cut out of files that are too much
for a shim, struct evtchn, the permission hooks, and the few functions by which an event reaches a
vCPU that polls or blocks. Nothing of it is kept beside the code of this project, and the library is
for tests on this machine alone (Xen is under the GPL, version 2).
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from . import program

HERE = Path(__file__).resolve().parent
OURS = ("shim.h", "shim.c", "oracle.c")

SOURCES = ("event_channel.c", "event_2l.c", "event_fifo.c")
"""Of xen/common, compiled as they are."""
HEADERS = {
    "xen/event.h": "xen/include/xen/event.h",
    "asm/event.h": "xen/arch/x86/include/asm/event.h",
    "asm/guest_atomics.h": "xen/arch/x86/include/asm/guest_atomics.h",
    "event_channel.h": "xen/common/event_channel.h",
}
"""Xen's own headers by the names under which they are included, besides public/."""
PUBLIC = "xen/include/public/"
EMPTY = (
    *("asm/current", "xen/bitops", "xen/compat", "xen/domain_page", "xen/errno"),
    *("xen/guest_access", "xen/hypercall", "xen/init", "xen/iocap", "xen/irq", "xen/keyhandler"),
    *("xen/lib", "xen/mm", "xen/nospec", "xen/paging", "xen/sched", "xen/sections", "xen/shared"),
    *("xen/smp", "xen/softirq"),
)
"""Headers in place of which shim.h stands."""
CUT = (
    "xen/include/xen/sched.h",
    "xen/include/xsm/dummy.h",
    "xen/common/sched/core.c",
    "xen/arch/x86/domain.c",
    "xen/arch/x86/hvm/irq.c",
)
"""Files of which pieces are taken."""
XSM = """
#define XSM_INLINE inline __attribute__((unused))
#define XSM_DEFAULT_ARG xsm_default_t action,
#define XSM_ASSERT_ACTION(expected) LINKER_BUG_ON((expected) != action)
typedef enum { XSM_HOOK, XSM_TARGET, XSM_XS_PRIV, XSM_DM_PRIV, XSM_PRIV } xsm_default_t;
"""
"""What the permission hooks of xsm/dummy.h are written with."""
FLAGS = (
    *("-std=gnu11", "-O2", "-g", "-fPIC", "-fno-strict-aliasing", "-D__XEN__", "-w"),
    *("-Werror=implicit-function-declaration", "-Werror=incompatible-pointer-types"),
)


def library(folder: Path, archive: Callable[[Path], Path]) -> Path:
    """The library, kept in a folder until one of the sources changes.

    `archive` fetches Xen's sources into a folder and gives the archive's path; it is called where
    they are not there yet.
    """
    tree = folder / "source"
    if not tree.exists():
        with TemporaryDirectory(dir=folder) as work:
            unpack(archive(Path(work)), Path(work) / "tree")
            with suppress(OSError):  # somebody else was first
                (Path(work) / "tree").rename(tree)
    made = folder / f"libxen-{_digest(tree)}.so"
    if not made.exists():
        with TemporaryDirectory(dir=folder) as work:
            compiled(tree, Path(work)).rename(made)
    return made


def unpack(archive: Path, into: Path) -> None:
    """What is needed of Xen's sources."""
    wanted = {*HEADERS.values(), *CUT, *(f"xen/common/{name}" for name in SOURCES)}
    with tarfile.open(archive) as packed:
        for member in packed:
            name = member.name.partition("/")[2]
            if name not in wanted and not name.startswith(PUBLIC):
                continue
            if content := packed.extractfile(member) if member.isfile() else None:
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                (into / name).write_bytes(content.read())


def compiled(
    tree: Path, folder: Path, changed: Mapping[str, str] | None = None, *flags: str
) -> Path:
    """Compile what `unpack` has left in `tree`; `changed` has other text for some of SOURCES."""
    include = folder / "include"
    for name, text in _headers(tree):
        (include / name).parent.mkdir(parents=True, exist_ok=True)
        (include / name).write_text(text)
    (include / "public").symlink_to((tree / PUBLIC).resolve())
    sources = [HERE / name for name in OURS if name.endswith(".c")]
    for name in SOURCES:
        (folder / name).write_text((changed or {}).get(name) or _text(tree, f"xen/common/{name}"))
        sources.append(folder / name)
    made = folder / "libxen.so"
    places = (f"-I{include}", f"-I{HERE}", "-include", "shim.h")
    link = ("-shared", "-Wl,-z,defs", "-o", made)
    subprocess.run(["cc", *FLAGS, *flags, *places, *sources, *link], check=True)
    return made


def _headers(tree: Path) -> Iterable[tuple[str, str]]:
    for name in EMPTY:
        yield f"{name}.h", ""
    for name, theirs in HEADERS.items():
        yield name, _text(tree, theirs)
    sched, dummy, core, domain, irq = (_text(tree, name) for name in CUT)
    yield "xen_steps.h", program.header()
    begin = r"#ifndef CONFIG_COMPAT\n#define BITS_PER_EVTCHN_WORD"
    yield "xen_evtchn.h", _cut(sched, begin, r"} __attribute__\(\(aligned\(64\)\)\);")
    hooks = re.findall(
        r"^static XSM_INLINE [^;{]*?xsm_(?:\w+_security_evtchns?|evtchn_\w+)\(.*?^}",
        dummy,
        re.DOTALL | re.MULTILINE,
    )
    assert hooks, "xsm/dummy.h has no hook of event channels"
    decide = _cut(dummy, "static always_inline int xsm_default_action", "}")
    yield "xsm/xsm.h", "\n".join([XSM, decide, *hooks])
    upcall = [
        _cut(core, r"void vcpu_unblock\(", "}"),
        _cut(irq, r"void hvm_assert_evtchn_irq\(", "}"),
        _cut(domain, r"void vcpu_mark_events_pending\(", "}"),
        _cut(core, r"void vcpu_block\(", "}"),
        _cut(core, r"static void vcpu_block_enable_events\(", "}"),
        _cut(core, r"static long do_poll\(", "}"),
    ]
    yield "xen_upcall.h", "\n".join(upcall)


def _text(tree: Path, name: str) -> str:
    return (tree / name).read_text()


def _cut(text: str, begin: str, end: str) -> str:
    """From a line that begins with one expression to the next that begins with the other."""
    found = re.search(f"^{begin}.*?^{end}", text, re.DOTALL | re.MULTILINE)
    assert found, f"Xen's sources have nothing like {begin}"
    return found.group() + "\n"


def _digest(tree: Path) -> str:
    """What tells one library from another."""
    digest = hashlib.sha256(f"{FLAGS} {EMPTY} {XSM} {program.header()}".encode())
    files = [*(HERE / name for name in OURS), Path(__file__), *sorted(tree.rglob("*.[ch]"))]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
